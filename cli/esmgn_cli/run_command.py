"""``esmgn run``: compose a run and train it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli.launch import check_counts, run_processes, sbatch_file
from esmgn_cli.render import block
from esmgn_core.errors import SettingsError
from esmgn_core.registry import Registry, discover

if TYPE_CHECKING:
    from esmgn_core.configure import Tables
    from esmgn_core.settings import RunConfig


def run(
    config: Annotated[
        Path | None, typer.Argument(help="Run file, such as RUN/config.toml.", show_default=False)
    ] = None,
    *,
    seq: Annotated[
        str | None, typer.Option(help="Sequence encoder, such as esm2_650m.", show_default=False)
    ] = None,
    struct: Annotated[
        str | None, typer.Option(help="Structure encoder, such as gearnet.", show_default=False)
    ] = None,
    fuse: Annotated[str | None, typer.Option(help="Fuser, such as serial.", show_default=False)] = None,
    graph: Annotated[
        str | None, typer.Option(help="Graph builder, such as relational.", show_default=False)
    ] = None,
    pretext: Annotated[
        str | None, typer.Option(help="Pretext task, such as residue_type.", show_default=False)
    ] = None,
    downstream: Annotated[
        str | None, typer.Option(help="Downstream task, such as multilabel.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Dataset, or a folder or file of structures.", show_default=False)
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A named full run to start from.", show_default=False)
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="TABLE.KEY=VALUE", help="Any setting, such as train.epochs=5. Repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; a new one under runs/ if not given.", show_default=False)
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Start from the encoder in this folder, of a run or of imported weights.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder.", show_default=False)
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="Train on this many GPUs of this machine.", show_default=False),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Train as this many processes on the CPU.", show_default=False),
    ] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Print a job file for SLURM instead of running.")
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Minutes after which to save, stop and exit with 75.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and print the run file.")
    ] = False,
) -> None:
    """Train a composed model.

    Later wins: component defaults, preset, --init, recipe, run file, flags. What is not named is
    esm2_650m, gearnet, serial, relational, residue_type and the made-up proteins of 'sample'.

    Examples: esmgn run --recipe quickstart; esmgn run --seq esm2_650m --struct gearnet --fuse
    serial --data MY_STRUCTURES; esmgn run --resume runs/NAME.
    """
    from esmgn_core.configure import configure, merged, parse_assignments

    if slurm:
        block(sbatch_file(sys.argv[1:], gpus=gpus or 1, out=resume or out))
        return
    check_counts(gpus, processes)
    if (number := gpus or processes or 1) > 1 and not dry_run:
        raise typer.Exit(run_processes(number, on_cpu=gpus is None))
    registry = discover()
    names = {
        "seq": seq,
        "struct": struct,
        "fuse": fuse,
        "graph": graph,
        "pretext": pretext,
        "downstream": downstream,
    }
    changes = parse_assignments(assignments or [])
    if time_limit is not None:
        changes = merged(changes, {"train": {"time_limit": time_limit}})
    if resume is not None:
        given: dict[str, object] = {
            **names,
            "data": data,
            "recipe": recipe,
            "out": out,
            "init": init,
            "dry-run": dry_run or None,
        }
        _refuse_with_resume(config, given)
        _resume(registry, resume, changes)
        return
    layers = run_layers(registry, init=init, recipe=recipe, config=config, names=names, data=data)
    layers["--set"] = changes
    composed = configure(registry, list(layers.values()), list(layers))
    if dry_run:
        _print_checked(registry, composed)
    else:
        _start(registry, composed, out, init)


def run_layers(
    registry: Registry,
    *,
    init: Path | None,
    recipe: str | None,
    config: Path | None,
    names: dict[str, str | None],
    data: str | None,
) -> dict[str, Tables]:
    """Tables low to high, each under the file or flag it comes from."""
    from esmgn_core.configure import check_tables, data_tables, read_run_file

    layers = {}
    if init is not None:
        from esmgn_core.engine.encoder_folder import EncoderFolder

        layers[f"--init {init}"] = EncoderFolder(init).tables()
    if recipe is not None:
        found = registry.recipe(recipe)
        origin = f"recipe '{recipe}' in {found.origin}"
        layers[origin] = check_tables(found.run, origin=origin)
    if config is not None:
        if str(config) in registry.catalogue.recipes and not config.exists():
            raise SettingsError(f"run file not found: {config}", f"did you mean: --recipe {config}?")
        layers[str(config)] = read_run_file(config)
    for kind, name in names.items():
        if name is not None:
            layers[f"--{kind}"] = {kind: {"name": name}}
    if data is not None:
        layers["--data"] = data_tables(registry, data)
    return layers


def _refuse_with_resume(config: Path | None, given: dict[str, object]) -> None:
    extra = [f"--{flag}" for flag, value in given.items() if value is not None]
    if config is not None:
        extra.insert(0, str(config))
    if extra:
        raise SettingsError(
            f"--resume goes on with a run as it is; it cannot be combined with {', '.join(extra)}",
            "only --set may go with it, such as --set train.epochs=100",
        )


def _print_checked(registry: Registry, config: RunConfig) -> None:
    import tomli_w

    from esmgn_core.compose import draw_up

    resolved = draw_up(registry, config).resolved()
    block(tomli_w.dumps(resolved.model_dump(mode="json", exclude_none=True)))


def _start(registry: Registry, config: RunConfig, out: Path | None, init: Path | None) -> None:
    from esmgn_cli.progress import finish, progress_shown
    from esmgn_core.engine.session import start_run

    with progress_shown(registry):
        outcome = start_run(registry, config, out=out, init=init)
    finish(outcome, made_up=config.data.name == "sample")


def _resume(registry: Registry, folder: Path, changes: Tables) -> None:
    from esmgn_cli.progress import finish, progress_shown
    from esmgn_core.engine.session import resume_run

    with progress_shown(registry):
        outcome = resume_run(registry, folder, changes=changes)
    finish(outcome)
