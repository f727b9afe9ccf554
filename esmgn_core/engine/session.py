"""Run a configuration: resolve, build, train, report."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from esmgn_core.engine.advice import batch_norm_warning, component_warnings
from esmgn_core.engine.build import BuiltRun, build_run
from esmgn_core.engine.checkpoint import Checkpoints, RunProgress
from esmgn_core.engine.distributed import World, joined_world
from esmgn_core.engine.evaluate import Report
from esmgn_core.engine.memory import first_estimate, free_memory_of
from esmgn_core.engine.microbatch import ShortageError
from esmgn_core.engine.observers import Observers
from esmgn_core.engine.provenance import RunRecord, changes_since
from esmgn_core.engine.sharding import is_sharded
from esmgn_core.engine.trackers import TrackerPlan, Trackers, resolve_trackers
from esmgn_core.engine.train import Trainer
from esmgn_core.errors import RunError, SettingsError, without_exits
from esmgn_core.host.configure import REFERENCE, Tables, check_tables, configure, overridden, read_run_file
from esmgn_core.host.registry import Registry
from esmgn_core.host.sources import source_changes
from esmgn_core.machine.device import numerics
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.model.encoder_folder import ENCODER_KINDS, EncoderFolder
from esmgn_core.protocols import notes_of
from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import RunConfig
from esmgn_core.spec import PARTS


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a run.

    Attributes:
        run: the run folder.
        progress: completed steps and the best one.
        num_steps: planned steps.
        signal: number of the signal that stopped the run, 0 if it finished.
        is_main: True in the process that reports to the user.
        report: scores with intervals of a finished downstream run.
    """

    run: RunFolder
    progress: RunProgress
    num_steps: int
    signal: int
    is_main: bool
    report: Report


@dataclass(frozen=True, slots=True)
class _Plan:
    """A resolved run and its folder.

    Attributes:
        blueprint: the run's components.
        registry: all components.
        trackers: the run's trackers by name.
        out: path of the new run folder; ``None`` for a new one in ``runs/``.
        resumed: folder of a resumed run.
        init: folder of the encoder from which a new run starts.
        remarks: notices about the configuration.
    """

    blueprint: Blueprint
    registry: Registry
    trackers: dict[str, TrackerPlan]
    out: Path | None = None
    resumed: RunFolder | None = None
    init: EncoderFolder | None = None
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, registry: Registry, config: RunConfig, **more: Any) -> Self:
        """Load the classes of a configuration and validate their settings."""
        blueprint, trackers = resolve(registry, config), resolve_trackers(registry, config)
        tables = {**config.tracker, **{name: plan.table() for name, plan in trackers.items()}}
        blueprint = replace(blueprint, config=blueprint.config.model_copy(update={"tracker": tables}))
        more["remarks"] = (*more.get("remarks", ()), *overridden(registry, blueprint.config))
        return cls(blueprint, registry, trackers, **more)


def start_run(
    registry: Registry, config: RunConfig, *, out: Path | None = None, init: Path | None = None
) -> Outcome:
    """Run a configuration in a new folder.

    Args:
        registry: all components.
        config: from :func:`esmgn_core.host.configure.configure`.
        out: the run folder; ``runs/SEQ-STRUCT-FUSE-PRETEXT-N`` if not given.
        init: folder of a run or of imported weights; the run starts from its encoder.

    Raises:
        EsmgnError: any error that the user can fix; see its subclasses.
    """
    if out is not None and out.exists():
        RunFolder.check_empty(out)
    source = EncoderFolder(init) if init else None
    return _run(_Plan.of(registry, config, out=out, init=source))


def resume_run(registry: Registry, folder: Path, *, changes: Tables) -> Outcome:
    """Resume a run from its last checkpoint.

    Args:
        registry: all components.
        folder: the run folder.
        changes: changed settings, such as ``train.epochs``.

    Raises:
        EsmgnError: any error that the user can fix; see its subclasses.
    """
    run = RunFolder.existing(folder)
    if REFERENCE in changes:
        raise SettingsError(
            f"{REFERENCE} cannot be changed in a resumed run",
            f"start another run: esmgn run {run.config} --set {REFERENCE}=true",
        )
    for table, settings in changes.items():
        if "name" in settings or "component" in settings:
            raise SettingsError(
                f"a resumed run keeps its components ({table}.name)",
                f"start another run: esmgn run {run.config} --{table} {settings.get('name', 'NAME')}",
            )
    recorded, problem = run.recorded_tables()
    remarks = [*filter(None, [problem]), *source_changes(registry, run, PARTS)]
    tables = check_tables(recorded, origin=str(run.environment if problem else run.config))
    config = configure(registry, [tables, changes], [str(run.config), "--set"])
    return _run(_Plan.of(registry, config, resumed=run, remarks=tuple(remarks)))


def _run(plan: _Plan) -> Outcome:
    train = plan.blueprint.config.train
    with (
        joined_world(train.device) as world,
        numerics(world.device, precision=train.precision),
        without_exits(),
        ExitStack() as locks,
    ):

        def lock(run: RunFolder) -> RunFolder:
            world.on_main(lambda: locks.enter_context(run.locked()))
            return run

        # A resumed run is locked before anything is read. A new one gets its folder last, so that a run that
        # cannot be built leaves none behind.
        resumed = lock(plan.resumed) if plan.resumed else None
        built = build_run(plan.blueprint, plan.registry, world, plan.init)
        run = resumed or lock(_new_folder(plan, world))
        trainer = _trainer(plan, built, run, world)
        signal = trainer.fit() if world.from_main(trainer.is_unfinished) else 0
        return _report(trainer, signal)


def _new_folder(plan: _Plan, world: World) -> RunFolder:
    config = plan.blueprint.config
    tables = (config.seq, config.struct, config.fuse, config.task)
    name = "-".join(table.name for table in tables if table)
    return RunFolder(world.on_main(lambda: RunFolder.create(plan.out, name=name).path))


def _trainer(plan: _Plan, built: BuiltRun, run: RunFolder, world: World) -> Trainer:
    """Load the checkpoint, record this start, warn the user, and return the trainer."""
    blueprint, train = plan.blueprint, plan.blueprint.config.train
    checkpoints = Checkpoints(run, built.learner, world, train.keep_every)
    progress, damaged = checkpoints.load() if plan.resumed else (RunProgress(), "")
    notices = [*plan.remarks, *filter(None, [damaged])]
    notices = world.on_main(lambda: _record(plan, built, run, world, progress, notices))
    observers = Observers(plan.registry.manager.hook, run, world.is_main, Trackers(plan.trackers, run))
    for text in (*notices, *notes_of(built.dataset)):
        observers.notice(text)
    trainer = Trainer(built.dataset, built.schedule, train, checkpoints, observers, progress)
    if world.is_main and progress.step < built.schedule.num_steps:
        _warn(blueprint, trainer)
    return trainer


def _record(
    plan: _Plan, built: BuiltRun, run: RunFolder, world: World, progress: RunProgress, notices: list[str]
) -> list[str]:
    """Record this start in the run folder; returns the notices and the differences from the last start.

    Raises:
        RunError: the checkpoint is after the last step of the schedule.
    """
    num_steps = built.schedule.num_steps
    record = RunRecord.of(plan.blueprint, plan.registry, built.dataset, world, built.weights_sha256)
    notices = [*notices, *_changes(plan, record)]
    if progress.step > num_steps:
        raise RunError(
            f"cannot resume {run.path} at step {progress.step}: the run now has {num_steps} steps",
            *notices,
            "restore its data and settings, or train longer: --set train.epochs=N",
        )
    record.write(run, plan.init.described() if plan.init else run.started_from())
    if plan.init:
        run.log(f"encoder from {plan.init.model}, sha256 {plan.init.sha256()}")
        if plan.blueprint.is_downstream and "data" in read_run_file(plan.init.config):
            command = shlex.join(["esmgn", "data", "leaks", str(plan.init.run.path), str(run.path)])
            run.log(f"the proteins that trained this encoder were not compared with the test sets: {command}")
    if built.cached:
        run.log(built.cached)
    run.drop_metrics_after(progress.step)
    begun = "resumed at" if plan.resumed else "started, from"
    run.log(f"{begun} step {progress.step} of {num_steps}")
    return notices


def _changes(plan: _Plan, record: RunRecord) -> list[str]:
    """Differences from the run's last start, or from the training of its initial encoder."""
    if plan.init:
        changed = source_changes(plan.registry, plan.init.run, ENCODER_KINDS)
        return [*plan.init.differences(record.config), *changed]
    return changes_since(plan.resumed, record.environment) if plan.resumed else []


def _warn(blueprint: Blueprint, trainer: Trainer) -> None:
    """Warn about valid settings that may not be intended, and log the memory of a step."""
    step = trainer.learner.step
    warnings = component_warnings(blueprint)
    warnings += batch_norm_warning(step, trainer.schedule, trainer.train, trainer.progress.pieces)
    if not is_sharded(step):
        _log_memory(trainer, averaged=blueprint.config.optim.ema_decay > 0)
    for warning in warnings:
        trainer.observers.notice(warning.replace("\n  ", "; "))


def _log_memory(trainer: Trainer, *, averaged: bool) -> None:
    """Log the estimated memory of a step, or warn if it is not available."""
    step = trainer.learner.step
    try:
        estimate = first_estimate(step, trainer.dataset, trainer.schedule, averaged=averaged)
    except (RuntimeError, MemoryError, ShortageError, SystemExit) as error:  # the step itself will report it
        trainer.run.log(f"memory cannot be estimated: {error}")
        return
    free = free_memory_of(trainer.world.device) + estimate.weights
    text = f"memory of a step: {estimate}; {free / 1e9:.1f} GB available"
    if estimate.total > free:
        trainer.observers.notice(f"{text}. Reduce: train.residues_per_batch, train.activation_checkpointing")
    else:
        trainer.run.log(text)


def _report(trainer: Trainer, signal: int) -> Outcome:
    """Log how the run ended, and return its outcome."""
    run, world, progress = trainer.run, trainer.world, trainer.progress
    if cut := trainer.learner.step.encoder.length.report():
        run.log(cut if world.size == 1 else f"process {world.rank}: {cut}")
    if world.is_main:
        run.log(f"stopped by signal {signal}" if signal else f"finished at step {progress.step}")
    return Outcome(run, progress, trainer.schedule.num_steps, signal, world.is_main, trainer.report)
