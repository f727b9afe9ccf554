"""``esmgn plugins``: list plugins and their state."""

from __future__ import annotations

from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.host.plugins import Plugin
from esmgn_core.host.registry import discover


def plugins() -> None:
    """List plugins and their state."""
    rows = [_row(plugin) for plugin in discover().plugins]
    header = ("plugin", "package", "state", "components or error")
    block(table([header, *rows], indent="", width=line_width()))
    echo("", "disable a plugin: ESMGN_DISABLE=NAME; show the traceback of a broken one: ESMGN_STRICT=1")


def _row(plugin: Plugin) -> tuple[str, str, str, str]:
    state = "off" if plugin.disabled else "broken" if plugin.problem else "in use"
    components = ", ".join(f"{spec.kind}:{spec.name}" for spec in plugin.components)
    text = "; ".join([plugin.problem or components, *plugin.notes])
    return plugin.name, f"{plugin.distribution} {plugin.version}", state, text
