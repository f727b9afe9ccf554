"""One run from its configuration to its last step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from esmgn_core.compose import Blueprint, resolve
from esmgn_core.configure import REFERENCE, Tables, check_tables, configure, read_run_file
from esmgn_core.engine.advice import batch_norm_warning, component_warnings
from esmgn_core.engine.blocks import recompute_activations, repeated_blocks
from esmgn_core.engine.distributed import (
    World,
    autocast_dtype,
    joined_world,
    numerics,
    synchronise_batch_norm,
)
from esmgn_core.engine.encoder_folder import EncoderFolder
from esmgn_core.engine.evaluate import Report
from esmgn_core.engine.learner import Learner
from esmgn_core.engine.loader import Schedule, build_schedule, max_residues
from esmgn_core.engine.lora import add_adapters
from esmgn_core.engine.memory import first_estimate, free_memory_of
from esmgn_core.engine.observers import Observers
from esmgn_core.engine.planned import check_planned
from esmgn_core.engine.provenance import changes_since, data_fingerprint
from esmgn_core.engine.run_folder import RunFolder, environment
from esmgn_core.engine.sharding import is_sharded, shard
from esmgn_core.engine.shortage import MicrobatchSplit, ShortageError
from esmgn_core.engine.state import Checkpoints, Progress
from esmgn_core.engine.trackers import Trackers, resolve_trackers
from esmgn_core.engine.train import Trainer
from esmgn_core.errors import RunError, SettingsError, without_exits
from esmgn_core.model import TrainStep
from esmgn_core.printable import counted
from esmgn_core.protocols import DownstreamTask, LabelledDataset, ProteinDataset
from esmgn_core.registry import Registry
from esmgn_core.settings import CacheTable, ComponentTable, RunConfig
from esmgn_core.spec import Kind


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        run: its folder.
        progress: steps taken and the best of them.
        num_steps: steps planned.
        signal: number of the signal that stopped it, 0 if it went to the end.
        is_main: whether this process is the one that speaks to the user.
        report: scores of a downstream run that went to its end, with intervals.
    """

    run: RunFolder
    progress: Progress
    num_steps: int
    signal: int
    is_main: bool
    report: Report


def start_run(
    registry: Registry, config: RunConfig, *, out: Path | None = None, init: Path | None = None
) -> Outcome:
    """Run a configuration in a new folder.

    Args:
        registry: all components.
        config: from :func:`esmgn_core.configure.configure`.
        out: the run folder; ``runs/SEQ-STRUCT-FUSE-PRETEXT-N`` if not given.
        init: folder of a run or of imported weights whose encoder the run starts from.

    Raises:
        EsmgnError: anything that is the user's to mend; see its subclasses.
    """
    if out is not None and out.exists():
        RunFolder.check_empty(out)
    source = EncoderFolder(init) if init else None
    return _run(resolve(registry, config), registry, out=out, resume=None, init=source)


def resume_run(registry: Registry, folder: Path, *, changes: Tables) -> Outcome:
    """Go on with a run from its last checkpoint.

    Args:
        registry: all components.
        folder: the run folder.
        changes: settings that differ from now on, such as ``train.epochs``.

    Raises:
        EsmgnError: anything that is the user's to mend; see its subclasses.
    """
    run = RunFolder.existing(folder)
    if REFERENCE in changes:
        raise SettingsError(
            f"a resumed run keeps its behaviour ({REFERENCE})",
            f"start another: esmgn run {run.config} --set {REFERENCE}=true",
        )
    for table, settings in changes.items():
        if "name" in settings or "component" in settings:
            raise SettingsError(
                f"a resumed run keeps its components ({table}.name)",
                f"start another: esmgn run {run.config} --{table} {settings.get('name', 'NAME')}",
            )
    tables, remarks = _recorded_tables(run)
    config = configure(registry, [tables, changes], [str(run.config), "--set"])
    return _run(resolve(registry, config), registry, out=None, resume=run, init=None, remarks=remarks)


def _recorded_tables(run: RunFolder) -> tuple[Tables, list[str]]:
    """The configuration of a run, and a remark if it was not read from ``config.toml``, which is damaged."""
    settings = run.recorded("settings")
    settings = settings if isinstance(settings, dict) else {}
    try:
        tables = read_run_file(run.config)
    except SettingsError as error:
        if not settings:
            raise
        problem = error.message
    else:
        missing = [name for name in settings if name not in tables]
        if not missing:
            return tables, []
        problem = f"{run.config} is cut, it lacks the table [{missing[0]}]"
    remark = f"{problem}; the settings in {run.environment} are used"
    return check_tables(settings, origin=str(run.environment)), [remark]


def _run(
    blueprint: Blueprint,
    registry: Registry,
    *,
    out: Path | None,
    resume: RunFolder | None,
    init: EncoderFolder | None,
    remarks: Sequence[str] = (),
) -> Outcome:
    config = blueprint.config
    trackers = resolve_trackers(registry, config)
    tables = {**config.tracker, **{name: plan.table() for name, plan in trackers.items()}}
    blueprint = replace(blueprint, config=config.model_copy(update={"tracker": tables}))
    with (
        joined_world(config.train.device) as world,
        numerics(world.device, precision=config.train.precision),
        without_exits(),
        ExitStack() as held,
    ):
        _hold(held, resume, world)
        dataset = blueprint.dataset()
        check_planned(blueprint, dataset)
        step, downstream = _train_step(blueprint, dataset, world)
        if init:
            init.fill(step.encoder, registry)
        kept = _keep_features(step, config.cache, dataset) if config.cache.features != "off" else ""
        weights = getattr(step.encoder.sequence, "weights_sha256", None)
        _prepare(step, config, world)
        schedule = build_schedule(
            dataset, config.train, world_size=world.size, most_residues=max_residues(step)
        )
        learner = Learner(
            step, config.optim, num_steps=schedule.num_steps, steps_per_epoch=schedule.steps_per_epoch
        )
        run = resume or _new_folder(blueprint, out, world)
        _hold(held, None if resume else run, world)
        progress, remark = (
            Checkpoints(run, learner, world, config.train.keep_every).load() if resume else (Progress(), "")
        )
        remarks = [*remarks, *filter(None, [remark])]
        records = _Records(run, blueprint, registry, world, dataset, weights, init)
        remarks += records.changes()
        _check_fits(run, progress, schedule, remarks)
        records.begin(progress.step, schedule.num_steps, kept)
        pieces = MicrobatchSplit(run, progress.pieces)
        pieces.load_recorded()
        progress.pieces = pieces.number
        observers = Observers(registry.manager.hook, run, world.is_main, Trackers(trackers, run))
        for text in (*remarks, *getattr(dataset, "notes", ())):
            observers.notice(text)
        if world.is_main and progress.step < schedule.num_steps:
            _warn(blueprint, step, dataset, schedule, observers, world, pieces.number)
        trainer = Trainer(
            learner, dataset, schedule, config.train, run, world, observers, progress, downstream
        )
        unfinished = progress.step < schedule.num_steps or (downstream and not run.results.exists())
        received = trainer.fit() if world.from_main(bool(unfinished)) else 0
        if cut := step.encoder.length.report():
            run.log(cut if world.size == 1 else f"process {world.rank}: {cut}")
        if world.is_main:
            run.log(f"stopped by signal {received}" if received else f"finished at step {progress.step}")
        return Outcome(run, progress, schedule.num_steps, received, world.is_main, trainer.report)


def _train_step(
    blueprint: Blueprint, dataset: ProteinDataset, world: World
) -> tuple[TrainStep, DownstreamTask | None]:
    train = blueprint.config.train
    encoder = blueprint.encoder()
    downstream = _downstream_task(blueprint, encoder.output_dim, dataset) if blueprint.is_downstream else None
    task = downstream or blueprint.task(encoder.output_dim)
    precision = autocast_dtype(train.precision, world.device)
    step = TrainStep(encoder, task, blueprint.graph(), precision=precision).to(world.device)
    if world.size > 1 and train.sync_batch_norm:
        synchronise_batch_norm(step)
    if train.activation_checkpointing:
        recompute_activations(encoder)
    if train.compile:
        for block in repeated_blocks(encoder.get_submodule("sequence")):
            block.compile(dynamic=True)
    return step, downstream


def _keep_features(step: TrainStep, settings: CacheTable, dataset: ProteinDataset) -> str:
    """Let the step keep what its frozen sequence encoder gives; what will be kept, in words.

    Raises:
        SettingsError: the encoder is trained, or the task leaves no sequence whole.
    """
    cache = step.encoder.keep_features(settings, precision=step.precision)
    lengths = torch.as_tensor(getattr(dataset, "lengths", ()), dtype=torch.int64)
    shows_whole = getattr(step.task, "shows_whole", None)
    whole = lengths[shows_whole(lengths)] if shows_whole else lengths
    if len(lengths) and not len(whole):
        raise SettingsError(
            "cache.features has nothing to keep: the task crops or masks the sequence of every protein",
            "show whole proteins, where the task can: --set pretext.crop_length=0",
            "or compute features as they come: --set cache.features=off",
        )
    size = cache.bytes_for(whole.tolist(), step.encoder.sequence.output_dim) / 1e9
    return (
        f"features of at most {len(whole)} of {len(lengths)} proteins, {size:.3g} GB as {settings.features}, "
        f"are kept in {cache.folder}, up to {settings.max_gb:g} GB; {cache.num_kept} proteins are there"
    )


def _downstream_task(blueprint: Blueprint, encoder_dim: int, dataset: ProteinDataset) -> DownstreamTask:
    task = blueprint.downstream_task(encoder_dim, dataset)
    if isinstance(dataset, LabelledDataset):
        task.prepare(dataset.labels(dataset.split("train")[:: dataset.group_size]))
    return task


def _prepare(step: TrainStep, config: RunConfig, world: World) -> None:
    """What is done to a model once it has the weights it starts from."""
    if config.optim.lora_rank:
        add_adapters(step.encoder, config.optim)
    if config.train.strategy == "fsdp":
        if step.precision is torch.float16:
            raise SettingsError("train.strategy=fsdp does not go with fp16", "use train.precision=bf16")
        if world.size > 1:
            shard(step, world)


def _warn(
    blueprint: Blueprint,
    step: TrainStep,
    dataset: ProteinDataset,
    schedule: Schedule,
    observers: Observers,
    world: World,
    pieces: int,
) -> None:
    """Tell the user what works, but may not be meant, and what memory a step takes."""
    config = blueprint.config
    warnings = component_warnings(blueprint)
    warnings += batch_norm_warning(step, schedule, config, world.size, pieces)
    if not is_sharded(step):
        _tell_memory(step, dataset, schedule, config, observers, world)
    for warning in warnings:
        observers.notice(warning.replace("\n  ", "; "))


def _tell_memory(
    step: TrainStep,
    dataset: ProteinDataset,
    schedule: Schedule,
    config: RunConfig,
    observers: Observers,
    world: World,
) -> None:
    """Log what memory a step will take; where there is less, tell the user."""
    try:
        averaged = config.optim.ema_decay > 0
        estimate = first_estimate(step, dataset, schedule, averaged=averaged, world_size=world.size)
    except (RuntimeError, MemoryError, ShortageError, SystemExit) as error:  # the step reports it
        observers.run.log(f"memory cannot be estimated: {error}")
        return
    free = free_memory_of(next(step.parameters()).device) + estimate.weights
    text = f"memory of a step: {estimate}; {free / 1e9:.1f} GB for it"
    if estimate.total > free:
        observers.notice(f"{text}. Less: train.residues_per_batch, train.activation_checkpointing")
    else:
        observers.run.log(text)


def _new_folder(blueprint: Blueprint, out: Path | None, world: World) -> RunFolder:
    config = blueprint.config
    name = "-".join([config.seq.name, config.struct.name, config.fuse.name, config.task.name])
    path = RunFolder.create(out, name=name).path if world.is_main else None
    chosen = world.from_main(path)
    if chosen is None:
        raise RunError("the main process made no run folder")
    return RunFolder(chosen)


def _hold(held: ExitStack, run: RunFolder | None, world: World) -> None:
    """Let the main process alone write to the folder until ``held`` ends."""
    if run and world.is_main:
        held.enter_context(run.locked())


def _check_fits(run: RunFolder, progress: Progress, schedule: Schedule, differences: Sequence[str]) -> None:
    """Refuse a checkpoint from beyond the end of the schedule.

    Raises:
        RunError: the run has fewer steps than it took already.
    """
    if progress.step > schedule.num_steps:
        raise RunError(
            f"cannot resume {run.path} at step {progress.step}: the run now has {schedule.num_steps} steps",
            *differences,
            "restore its data and settings, or train longer: --set train.epochs=N",
        )


@dataclass(frozen=True, slots=True)
class _Records:
    """What a run's folder records of its start; nothing on processes but the main one."""

    run: RunFolder
    blueprint: Blueprint
    registry: Registry
    world: World
    dataset: ProteinDataset
    weights: str | None
    init: EncoderFolder | None

    def changes(self) -> list[str]:
        """What differs from the last start of the run, or from the training of the encoder it starts with."""
        if not self.world.is_main:
            return []
        if self.init:
            return self.init.differences(self._config())
        if not self.run.config.is_file():
            return []
        damaged = self.run.damaged_metrics()
        lines = [f"damaged lines of {self.run.metrics}, left out: {damaged}"] if damaged else []
        return [*lines, *changes_since(self.run, self._environment())]

    def begin(self, step: int, num_steps: int, kept: str) -> None:
        """Write configuration, environment, labels and refused files, and log how the run begins.

        Args:
            step: the step it goes on from, 0 for a new one.
            num_steps: steps planned.
            kept: what the cache of features keeps, or nothing.
        """
        if not self.world.is_main:
            return
        resumed = self.run.config.is_file()
        self._write()
        if kept:
            self.run.log(kept)
        self.run.drop_metrics_after(step)
        self.run.log(f"{'resumed at' if resumed else 'started, from'} step {step} of {num_steps}")

    def _write(self) -> None:
        run, init, started_from = self.run, self.init, self.run.started_from()
        if init:
            started_from = init.described()
        environment = {**self._environment(), "started_from": started_from}
        run.write_environment(environment)
        run.write_config(self._config(), started_from)
        refused = getattr(self.dataset, "refused", ())
        run.write_refused(refused)
        if isinstance(self.dataset, LabelledDataset) and self.blueprint.is_downstream:
            task = self.blueprint.parts[Kind.DOWNSTREAM][0].name
            run.write_labels(task, self.dataset.label_names)
        data = environment["data"]
        training = counted(data["num_train"], "training protein")
        validation = counted(data["num_valid"], "validation protein")
        run.log(f"{training}, {validation}, {counted(len(refused), 'file')} refused")
        if passed_over := getattr(self.dataset, "passed_over", ""):
            run.log(passed_over)
        if init:
            run.log(f"encoder from {init.model}, sha256 {init.sha256()}")

    def _config(self) -> RunConfig:
        return _with_checksum(self.blueprint.resolved(), self.weights)

    def _environment(self) -> dict[str, Any]:
        plugins = [
            {"name": p.name, "distribution": p.distribution, "version": p.version, "problem": p.problem}
            for p in self.registry.plugins
        ]
        return {
            **environment(plugins, device=self.world.device, num_processes=self.world.size),
            "sequence_weights_sha256": self.weights,
            "data": data_fingerprint(self.dataset),
            "settings": self._config().model_dump(mode="json", exclude_none=True),
        }


def _with_checksum(config: RunConfig, sha256: str | None) -> RunConfig:
    """The configuration with the checksum of the weights that were really loaded."""
    checkpoint = config.seq.settings.get("checkpoint")
    if not checkpoint or not sha256:
        return config
    table = {**config.seq.model_dump(), "checkpoint": {**checkpoint, "sha256": sha256}}
    return config.model_copy(update={"seq": ComponentTable(**table)})
