"""Everything that can be wrong with a run, found before a download or its first step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from esmgn_core.compose import Blueprint, draw_up
from esmgn_core.download import offline
from esmgn_core.engine.distributed import autocast_dtype, pick_device
from esmgn_core.engine.loader import Schedule, build_schedule, max_residues
from esmgn_core.engine.memory import MemoryEstimate, first_estimate, free_memory_of, parameter_memory
from esmgn_core.engine.observers import check_trackers
from esmgn_core.errors import EsmgnError, RunError, WeightsError
from esmgn_core.model import TrainStep
from esmgn_core.printable import counted
from esmgn_core.protocols import ProteinDataset
from esmgn_core.registry import Registry
from esmgn_core.settings import RunConfig
from esmgn_core.spec import Kind
from esmgn_core.weights import locate

_TRIED_UP_TO = 50_000_000
"""Parameters of a model that is tried out on the CPU; of a larger one only the size is computed."""
_CHECKPOINTS = 3
"""Checkpoints that are on the disk at a time: the last, the one before, and the next."""


@dataclass(slots=True)
class Checkup:
    """What was found.

    Attributes:
        fine: what is as it should be, in order.
        warnings: what works, but may not be meant.
        problems: what would stop the run.
    """

    fine: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[EsmgnError] = field(default_factory=list)

    def tried(self, what: Callable[[], str]) -> None:
        """Note what ``what`` says, or the problem it raises."""
        try:
            self.fine.append(what())
        except EsmgnError as error:
            self.problems.append(error)


def check_run(registry: Registry, config: RunConfig, *, world_size: int = 1, folder: Path) -> Checkup:
    """Check a configuration: settings, device, weights, dimensions, data, batches, memory, disk.

    Nothing is downloaded, and the weights files of models are not read.

    Args:
        registry: all components.
        config: from :func:`esmgn_core.configure.configure`.
        world_size: processes the run is to have.
        folder: where its run folder will be.

    Raises:
        EsmgnError: names or settings are wrong, so that nothing further can be checked.
    """
    blueprint, found = draw_up(registry, config), Checkup()
    found.fine.append("settings: every name and value is valid")
    found.tried(lambda: _device(config))
    found.tried(lambda: _trackers(config))
    found.tried(lambda: _weights(blueprint))
    data: list[ProteinDataset] = []
    models: list[TrainStep] = []
    found.tried(lambda: _model(blueprint, models))
    found.tried(lambda: _data(blueprint, data))
    if models and data:
        schedules: list[Schedule] = []
        found.tried(lambda: _batches(config, data[0], models[0], world_size, schedules))
        if schedules:
            found.tried(lambda: _memory(blueprint, models[0], data[0], schedules[0], found))
        found.tried(lambda: _disk(models[0], folder))
    return found


def _device(config: RunConfig) -> str:
    device = pick_device(config.train.device)
    dtype = autocast_dtype(config.train.precision, device)
    return f"device: {device}, {str(dtype or torch.float32).removeprefix('torch.')}"


def _trackers(config: RunConfig) -> str:
    check_trackers(config.train.trackers)
    return f"trackers: metrics.jsonl{''.join(f', {name}' for name in config.train.trackers)}"


def _weights(blueprint: Blueprint) -> str:
    settings: Any = blueprint.parts[Kind.SEQ][2]
    weights = getattr(settings, "weights", None)
    if isinstance(weights, Path):
        if not weights.is_file():
            raise WeightsError(f"weights file not found: {weights} (seq.weights)")
        return f"weights: {weights}"
    checkpoint = getattr(settings, "checkpoint", None)
    if weights != "pretrained" or checkpoint is None:
        return "weights: random" if weights == "random" else "weights: none to load"
    if path := locate(checkpoint):
        return f"weights: {path}"
    if forbidden := offline():
        raise WeightsError(
            f"weights are not on this machine, and {forbidden} forbids to download them: {checkpoint.url}",
            f"fetch them where there is a network: esmgn weights fetch {blueprint.config.seq.name}",
        )
    return f"weights: not on this machine, will be downloaded from {checkpoint.url}"


def _model(blueprint: Blueprint, models: list[TrainStep]) -> str:
    """Build everything without memory for it: widths must fit each other."""
    blueprint = _with_random_weights(blueprint)
    with torch.device("meta"):
        encoder = blueprint.encoder()
        task = blueprint.task(encoder.output_dim)
        models.append(TrainStep(encoder, task, blueprint.graph()))
    trained = sum(p.numel() for p in models[0].parameters() if p.requires_grad)
    total = sum(p.numel() for p in models[0].parameters())
    return (
        f"model: {total / 1e6:,.1f} million parameters, {trained / 1e6:,.1f} trained; "
        f"representation of {encoder.output_dim}"
    )


def _with_random_weights(blueprint: Blueprint) -> Blueprint:
    spec, component, settings = blueprint.parts[Kind.SEQ]
    if "weights" not in type(settings).model_fields:
        return blueprint
    random = settings.model_copy(update={"weights": "random"})
    return Blueprint(blueprint.config, {**blueprint.parts, Kind.SEQ: (spec, component, random)})


def _data(blueprint: Blueprint, data: list[ProteinDataset]) -> str:
    dataset = blueprint.dataset()
    data.append(dataset)
    refused = len(getattr(dataset, "refused", ()))
    num_train, num_valid = len(dataset.split("train")), len(dataset.split("valid"))
    left_out = f", {counted(refused, 'file')} left out" if refused else ""
    training = counted(num_train, "training protein")
    lines = [f"data: {training}, {counted(num_valid, 'validation protein')}{left_out}"]
    return "\n  note: ".join([*lines, *getattr(dataset, "notes", ())])


def _batches(
    config: RunConfig,
    dataset: ProteinDataset,
    step: TrainStep,
    world_size: int,
    schedules: list[Schedule],
) -> str:
    schedule = build_schedule(dataset, config.train, world_size=world_size, most_residues=max_residues(step))
    schedules.append(schedule)
    return (
        f"batches: {schedule.steps_per_epoch:,} steps an epoch, {schedule.num_steps:,} in all, "
        f"for {world_size} process{'es' * (world_size > 1)}"
    )


def _memory(
    blueprint: Blueprint, model: TrainStep, dataset: ProteinDataset, schedule: Schedule, found: Checkup
) -> str:
    averaged = blueprint.config.optim.ema_decay > 0
    free = free_memory_of(pick_device(blueprint.config.train.device))
    if sum(parameter.numel() for parameter in model.parameters()) <= _TRIED_UP_TO:
        estimate = _tried_out(blueprint, dataset, schedule, averaged=averaged)
    else:
        estimate = parameter_memory(model, averaged=averaged)
    more = "" if estimate.activations else ", and activations"
    text = f"memory: {estimate}{more}; {free / 1e9:.1f} GB are free"
    if estimate.total > free:
        found.warnings.append(
            f"{text}\n  less: train.residues_per_batch, train.activation_checkpointing, train.strategy=fsdp"
        )
    return text


def _tried_out(
    blueprint: Blueprint, dataset: ProteinDataset, schedule: Schedule, *, averaged: bool
) -> MemoryEstimate:
    """One small pass, which also shows that encoder, graph and task work together on these proteins."""
    blueprint = _with_random_weights(blueprint)
    encoder = blueprint.encoder()
    step = TrainStep(encoder, blueprint.task(encoder.output_dim), blueprint.graph())
    return first_estimate(step, dataset, schedule, averaged=averaged)


def _disk(step: TrainStep, folder: Path) -> str:
    trained = sum(p.numel() * p.element_size() for p in step.parameters() if p.requires_grad)
    needed = _CHECKPOINTS * 3 * trained
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    if not os.access(place, os.W_OK):
        raise RunError(f"cannot write to {place}", "name another folder: --out DIR")
    free = shutil.disk_usage(place).free
    if needed > free:
        raise RunError(
            f"checkpoints need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free on the disk of {place}",
            "name a folder on another disk: --out DIR",
        )
    return f"disk: checkpoints take {needed / 1e9:.2f} GB, {free / 1e9:.1f} GB are free"
