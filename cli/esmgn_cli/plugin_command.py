"""``esmgn plugin``: write and check plugins."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
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


def check(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATH|PLUGIN|KIND:NAME]",
            help="Project folder, plugin, package, or one component. Default: all plugins of other packages.",
            show_default=False,
        ),
    ] = None,
    *,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the components. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each claim.")] = False,
) -> None:
    """Check a plugin: its declaration, the contract of each component, and a short run with each.

    Every claim is pass, fail or not judged. The exit status is 1 if one failed.

    Examples: esmgn plugin check rings; esmgn plugin check struct:rings --set hidden_dim=16
    """
    from esmgn_core.host.configure import parse_assignments
    from esmgn_core.host.names import PACKAGE
    from esmgn_core.testing.plugin import plugin_of, plugin_outcomes

    settings = parse_assignments([f"train.{text}" for text in assignments or []]).get("train", {})
    names = [name] if name else [item.name for item in discover().plugins if item.distribution != PACKAGE]
    if name and Path(name).is_dir():
        names = [plugin_of(Path(name))]
    if not names:
        echo("no plugin of another package is installed", "write one: esmgn plugin new NAME --kind KIND")
    counts = Counter[str]()
    for outcome in (outcome for each in names for outcome in plugin_outcomes(each, settings)):
        counts[outcome.status] += 1
        if as_json:
            echo(json.dumps(outcome._asdict()))
        else:
            echo(f"{outcome.status:10}  {outcome.about}: {outcome.claim}")
            for line in outcome.message.splitlines():
                echo(f"            {line}")
    if not as_json:
        echo("", ", ".join(f"{counts[status]} {status}" for status in ("pass", "fail", "not judged")))
    if counts["fail"]:
        raise typer.Exit(1)


COMMANDS: dict[str, Callable[..., None]] = {"new": new, "check": check}
