"""``esmgn plugins``: what was found, and why a plugin is not in use."""

from __future__ import annotations

from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.host.registry import Plugin, discover


def plugins() -> None:
    """List plugins with their state."""
    rows = [_row(plugin) for plugin in discover().plugins]
    header = ("plugin", "package", "state", "components, or what is wrong")
    block(table([header, *rows], indent="", width=line_width()))
    echo("", "switch one off: ESMGN_DISABLE=NAME; see the traceback of a broken one: ESMGN_STRICT=1")


def _row(plugin: Plugin) -> tuple[str, str, str, str]:
    state = "off" if plugin.disabled else "broken" if plugin.problem else "in use"
    components = ", ".join(f"{spec.kind}:{spec.name}" for spec in plugin.components)
    return plugin.name, f"{plugin.distribution} {plugin.version}", state, plugin.problem or components
