"""``esmgn check``: validate a run without starting it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esmgn_cli import composition
from esmgn_cli.launch import check_counts
from esmgn_cli.render import block
from esmgn_core.errors import EsmgnError
from esmgn_core.host.registry import discover
from esmgn_core.spec import PARTS


def check(
    config: composition.Config = None,
    *,
    seq: composition.Seq = None,
    struct: composition.Struct = None,
    fuse: composition.Fuse = None,
    graph: composition.Graph = None,
    pretext: composition.Pretext = None,
    downstream: composition.Downstream = None,
    data: composition.Data = None,
    recipe: composition.RecipeName = None,
    assignments: composition.Assignments = None,
    init: composition.Init = None,
    gpus: composition.Gpus = None,
    processes: composition.Processes = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Check a job for the GPUs of a cluster, not of this machine.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder in which the run will make its folder.")] = Path("runs"),
) -> None:
    """Validate a run without starting it.

    Checks settings, dimensions, data, weights, memory and disk. Takes the flags of esmgn run. Nothing is
    downloaded or written. The exit status is 2 if the run would fail.

    Examples: esmgn check run.toml; esmgn check --recipe residue_type --data MY_STRUCTURES --gpus 4
    --slurm.
    """
    from esmgn_core.engine.check import Machine, check_run
    from esmgn_core.host.configure import parse_assignments

    registry = discover()
    components = (seq, struct, fuse, graph, pretext, downstream, data)
    names: dict[str, str | None] = dict(zip(PARTS, components, strict=True))
    changes = parse_assignments(assignments or [])
    composed, no_data = composition.compose_run(
        registry, changes=changes, init=init, recipe=recipe, config=config, names=names
    )
    problems: list[EsmgnError] = [no_data] if no_data else []
    if not slurm:
        try:
            check_counts(gpus, processes)
        except EsmgnError as error:
            problems.append(error)
    uses_cpu = processes is not None and composed.train.device == "auto"
    machine = Machine(
        processes=gpus or processes or 1,
        device="cuda" if gpus or slurm else "cpu" if uses_cpu else "",
        elsewhere=slurm or (gpus is not None and bool(problems)),
    )
    checkup = check_run(
        registry, composed, machine=machine, folder=out, made_up=composition.made_up(composed.data.name)
    )
    for text in checkup.fine:
        block(_lines("ok", text))
    for text in checkup.warnings:
        block(_lines("warning", text))
    for problem in (*problems, *checkup.problems):
        block(_lines("problem", str(problem)))
    if problems or checkup.problems:
        raise typer.Exit(2)


def _lines(status: str, text: str) -> str:
    first, *more = text.splitlines()
    return "\n".join([f"{status:7}  {first}", *(f"         {line.strip()}" for line in more)])
