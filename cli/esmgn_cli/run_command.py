"""``esmgn run``: compose a run and train it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli import composition
from esmgn_cli.launch import check_counts, run_processes, sbatch_file
from esmgn_cli.render import block
from esmgn_core.errors import SettingsError
from esmgn_core.host.registry import Registry, discover
from esmgn_core.spec import PARTS

if TYPE_CHECKING:
    from esmgn_core.engine.session import Outcome
    from esmgn_core.settings import RunConfig


def run(
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
    out: Annotated[
        Path | None, typer.Option(help="Run folder. Default: a new folder in runs/.", show_default=False)
    ] = None,
    init: composition.Init = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue the run in this folder.", show_default=False)
    ] = None,
    gpus: composition.Gpus = None,
    processes: composition.Processes = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Print a job file for SLURM instead of running.")
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Save and stop after so many minutes, with exit status 75.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the settings and print the run file; do not train.")
    ] = False,
) -> None:
    """Train a model composed of the named components.

    Settings come from, in this order: component defaults, preset, --init, recipe, run file, flags. The last
    one wins.

    Examples: esmgn run --recipe quickstart; esmgn run --seq esm2_650m --struct gearnet --fuse
    serial --data MY_STRUCTURES; esmgn run --resume runs/NAME.
    """
    from esmgn_core.host.configure import merge_tables, parse_assignments

    registry = discover()
    # A SLURM job may find data that do not exist on this machine.
    checked_data = None if slurm and data is not None and not Path(data).exists() else data
    components = (seq, struct, fuse, graph, pretext, downstream, checked_data)
    names: dict[str, str | None] = dict(zip(PARTS, components, strict=True))
    changes = parse_assignments(assignments or [])
    if time_limit is not None:
        changes = merge_tables(changes, {"train": {"time_limit": time_limit}})
    if resume is not None:
        others = {"data": data, "recipe": recipe, "out": out, "init": init, "dry-run": dry_run or None}
        _refuse_with_resume(config, {**names, **others})
        if not _launch(gpus, processes, slurm=slurm, out=resume):
            from esmgn_core.engine.session import resume_run

            _train(registry, lambda: resume_run(registry, resume, changes=changes))
        return
    composed, no_data = composition.compose_run(
        registry, changes=changes, init=init, recipe=recipe, config=config, names=names
    )
    if no_data and checked_data == data:
        raise no_data
    if dry_run:
        check_counts(gpus, processes)
        _dry_run(registry, composed, gpus or processes or 1)
    elif not _launch(gpus, processes, slurm=slurm, out=out):
        from esmgn_core.engine.session import start_run

        name = composed.data.name
        _train(registry, lambda: start_run(registry, composed, out=out, init=init), name)


def run_help() -> str:
    """Help text of ``esmgn run``, with the default components."""
    text, separator, examples = (run.__doc__ or "").partition("\n\n    Examples")
    named = ", ".join(f"--{kind} {name}" for kind, name in discover().defaults().items())
    return (
        f"{text}\n\n    Defaults: {named}. Each structure encoder has its default graph. A "
        f"downstream task uses the dataset of the same name, if there is one.{separator}{examples}"
    )


def _launch(gpus: int | None, processes: int | None, *, slurm: bool, out: Path | None) -> bool:
    """Print the job file or run several processes; return False if this process has to train.

    Raises:
        Exit: the processes have ended.
    """
    if slurm:
        block(sbatch_file(sys.argv[1:], gpus=gpus or 1, out=out))
        return True
    check_counts(gpus, processes)
    if (number := gpus or processes or 1) > 1:
        raise typer.Exit(run_processes(number, on_cpu=gpus is None))
    return False


def _refuse_with_resume(config: Path | None, flags: dict[str, object]) -> None:
    extra = [str(config)] * (config is not None)
    extra += [f"--{flag}" for flag, value in flags.items() if value is not None]
    if extra:
        raise SettingsError(
            f"--resume continues a run unchanged; it cannot be combined with {', '.join(extra)}",
            "only --set can be combined with it, such as --set train.epochs=100",
        )


def _dry_run(registry: Registry, config: RunConfig, processes: int) -> None:
    """Print the run file, and on stderr the warnings of the run."""
    import tomli_w

    from esmgn_core.engine.check import start_warnings
    from esmgn_core.model.compose import resolve

    blueprint = resolve(registry, config)
    for warning in start_warnings(blueprint, processes=processes):
        block(f"warning: {warning}", err=True)
    block(tomli_w.dumps(blueprint.resolved().model_dump(mode="json", exclude_none=True)))


def _train(registry: Registry, run: Callable[[], Outcome], dataset: str = "") -> None:
    from esmgn_cli.progress import finish, progress_shown

    made_up = composition.made_up(dataset)
    with progress_shown(registry, made_up):
        outcome = run()
    finish(outcome, made_up=bool(made_up))
