"""``esmgn plugins``: what was found, and why a plugin is not in use."""

from __future__ import annotations

import typer

from esmgn_cli.render import table
from esmgn_core.registry import Plugin, discover


def plugins() -> None:
    """List plugins with their state."""
    rows = [_row(plugin) for plugin in discover().plugins]
    typer.echo(table([("plugin", "package", "state", "components"), *rows], indent=""))
    typer.echo("\nswitch one off: ESMGN_DISABLE=NAME; raise its error: ESMGN_STRICT=1")


def _row(plugin: Plugin) -> tuple[str, str, str, str]:
    state = "in use"
    if plugin.problem:
        state = plugin.problem if plugin.problem == "disabled" else "broken"
    components = ", ".join(f"{spec.kind}:{spec.name}" for spec in plugin.components)
    detail = plugin.problem if state == "broken" else components
    return plugin.name, f"{plugin.distribution} {plugin.version}", state, detail
