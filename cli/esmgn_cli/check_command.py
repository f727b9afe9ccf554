"""``esmgn check``: what is wrong with a run, before it costs anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esmgn_cli.render import echo
from esmgn_core.registry import discover


def check(
    config: Annotated[Path | None, typer.Argument(help="Run file.", show_default=False)] = None,
    *,
    recipe: Annotated[
        str | None, typer.Option(help="A named full run to start from.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Dataset, or a folder or file of structures.", show_default=False)
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Any setting. Repeatable."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes the run is to have.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the run folder will be.")] = Path("runs"),
) -> None:
    """Find what is wrong with a run before it starts: settings, dimensions, data, weights, memory, disk.

    Nothing is downloaded and nothing is written. Exit status 2 if the run would fail.
    """
    from esmgn_cli.run_command import run_layers
    from esmgn_core.configure import configure, parse_assignments
    from esmgn_core.engine.check import check_run

    registry = discover()
    layers = run_layers(registry, init=None, recipe=recipe, config=config, names={}, data=data)
    layers["--set"] = parse_assignments(assignments or [])
    composed = configure(registry, list(layers.values()), list(layers))
    found = check_run(registry, composed, world_size=processes, folder=out)
    for text in found.fine:
        echo(f"ok       {text}")
    for text in found.warnings:
        echo(f"warning  {text}")
    for error in found.problems:
        first, hints = error.message, error.hints
        echo(f"problem  {first}", *(f"         {hint.strip()}" for hint in hints))
    if found.problems:
        raise typer.Exit(2)
