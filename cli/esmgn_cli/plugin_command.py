"""``esmgn plugin``: write plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esmgn_cli.render import echo
from esmgn_core.errors import check_choice
from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind


def new(
    name: Annotated[str, typer.Argument(help="Name of the plugin and its component, such as rings.")],
    *,
    kind: Annotated[str, typer.Option(help=f"Kind of the component: {', '.join(Kind)}.")],
    parent: Annotated[Path, typer.Option("--dir", help="Folder for the new project folder.")] = Path(),
) -> None:
    """Write the project of a new plugin, with a working component to edit.

    The project folder is esmgn-NAME. It has the package, settings, a test, a README and a GitHub workflow. An
    existing folder is never changed.

    Example: esmgn plugin new rings --kind struct
    """
    from esmgn_cli.scaffold import Project, plugin_name

    check_choice("kind", kind, list(Kind), "--kind")
    project = Project(plugin_name(name, Kind(kind), discover()), Kind(kind))
    folder = project.write(parent)
    echo(f"wrote {folder}: edit {project.component_file}", "", "next:", f'  cd "{folder}"')
    echo(*(f"  {command}" for command in project.commands))
    echo("", "The project has no licence: choose one before you publish it.")


COMMANDS = {"new": new}
