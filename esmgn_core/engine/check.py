"""Everything that can be wrong with a run, found before a download or its first step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from esmgn_core.compose import Blueprint, resolve
from esmgn_core.download import no_connections, offline
from esmgn_core.engine.advice import batch_norm_warning, component_warnings
from esmgn_core.engine.distributed import autocast_dtype, pick_device
from esmgn_core.engine.loader import Schedule, build_schedule, max_residues
from esmgn_core.engine.memory import MemoryEstimate, free_memory_of
from esmgn_core.engine.planned import planned_step
from esmgn_core.engine.trackers import resolve_trackers
from esmgn_core.engine.trial import Trial
from esmgn_core.errors import EsmgnError, RunError, WeightsError, shown
from esmgn_core.model import TrainStep
from esmgn_core.printable import counted
from esmgn_core.protocols import ProteinDataset
from esmgn_core.registry import Registry
from esmgn_core.settings import RunConfig
from esmgn_core.spec import Kind
from esmgn_core.weights import locate

_CHECKPOINTS = 3
"""Checkpoints that are on the disk at a time: the last, the one before, and the next."""
_A100 = (40, 80)
"""Gigabytes (GiB) of the two models of an A100."""
_CUDA_CONTEXT = 1.5e9
"""Bytes that CUDA itself and its libraries take on a GPU."""
_FRAGMENTED = 1.08
"""Memory that torch's allocator holds on a GPU for each byte that is used."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run is to be trained.

    Attributes:
        processes: of the run, one for each GPU.
        device: ``cuda`` or ``cpu``; empty for what ``train.device`` stands for here.
        elsewhere: the run is for another machine, so that the devices of this one do not matter.
    """

    processes: int = 1
    device: str = ""
    elsewhere: bool = False

    def on_gpu(self, config: RunConfig) -> bool:
        """True if the run trains on GPUs."""
        named = config.train.device
        if self.device or named != "auto":
            return (self.device or named).startswith("cuda")
        return torch.cuda.is_available()


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
        """Note the text of ``what`` as fine, or the problem it raises; an empty text is not noted."""
        try:
            text = what()
        except EsmgnError as error:
            self.problems.append(error)
        else:
            self.fine += [text] * bool(text)


def check_run(
    registry: Registry, config: RunConfig, *, machine: Machine, folder: Path, made_up: str = ""
) -> Checkup:
    """Check a configuration: settings, device, weights, dimensions, data, batches, memory, disk.

    Nothing is downloaded, and the weights files of models are not read.

    Args:
        registry: all components.
        config: from :func:`esmgn_core.configure.configure`.
        machine: where it is to run.
        folder: where its run folder will be.
        made_up: what to say of the data if they are made up.

    Raises:
        EsmgnError: names or settings are wrong, so that nothing further can be checked.
    """
    blueprint, found = resolve(registry, config), Checkup()
    behaviour = f"; the original's behaviour: {originals}" if (originals := _originals(blueprint)) else ""
    found.fine.append(f"settings: every name and value is valid{behaviour}")
    found.tried(lambda: _device(config, machine))
    found.tried(lambda: _trackers(registry, config))
    found.tried(lambda: _weights(blueprint))
    data: list[ProteinDataset] = []
    models: list[TrainStep] = []
    if blueprint.is_downstream:  # its heads have the width of the labels
        found.tried(lambda: _data(blueprint, data, made_up, found))
    if data or not blueprint.is_downstream:
        found.tried(lambda: _model(blueprint, models, data))
    else:
        found.tried(lambda: _encoder(blueprint))
    if not blueprint.is_downstream:
        found.tried(lambda: _data(blueprint, data, made_up, found))
    found.warnings += component_warnings(blueprint)
    if models and data:
        schedules: list[Schedule] = []
        found.tried(lambda: _batches(config, data[0], models[0], machine.processes, schedules))
        for schedule in schedules:
            found.warnings += batch_norm_warning(models[0], schedule, config, machine.processes)
            found.tried(lambda: _memory(blueprint, data[0], schedules[0], machine, found))
    if models:
        found.tried(lambda: _disk(models[0], folder))
    return found


def _originals(blueprint: Blueprint) -> str:
    """The settings that ``reference = true`` stands for in this run; empty without it."""
    if not blueprint.config.reference:
        return ""
    found = []
    for kind, (_, _, settings) in blueprint.parts.items():
        values = settings.model_dump(mode="json")
        found += [
            f"{kind}.{name} = {shown(values[name])}" for name in settings.original(values) if name in values
        ]
    train = blueprint.config.train
    found += [f"train.{name} = {shown(getattr(train, name))}" for name in train.originals]
    return ", ".join(found)


def _device(config: RunConfig, machine: Machine) -> str:
    if machine.elsewhere:
        return "device: GPUs of another machine, not looked at"
    device = pick_device(machine.device or config.train.device)
    dtype = autocast_dtype(config.train.precision, device)
    return f"device: {device}, {str(dtype or torch.float32).removeprefix('torch.')}"


def _trackers(registry: Registry, config: RunConfig) -> str:
    resolve_trackers(registry, config)
    return f"trackers: metrics.jsonl{''.join(f', {name}' for name in config.train.trackers)}"


def _weights(blueprint: Blueprint) -> str:
    settings: Any = blueprint.parts[Kind.SEQ][2]
    weights = getattr(settings, "weights", None)
    if isinstance(weights, Path):
        if not weights.exists():
            raise WeightsError(f"weights file not found: {weights} (seq.weights)")
        return f"weights: {weights}"
    checkpoint = getattr(settings, "checkpoint", None)
    if weights == "pretrained" and (repository := getattr(settings, "repository", None)):
        where = f"not looked for ({forbidden} is set)" if (forbidden := offline(hub=True)) else "or its cache"
        return f"weights: {repository} on the Hub of Hugging Face, {where}"
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


def _model(blueprint: Blueprint, models: list[TrainStep], data: list[ProteinDataset]) -> str:
    """Build everything without memory for it: widths must fit each other."""
    with torch.device("meta"):
        models.append(planned_step(blueprint, data[0] if data else None))
    return _size(models[0], models[0].encoder.output_dim)


def _encoder(blueprint: Blueprint) -> str:
    """The encoder alone, where the data that a task needs cannot be had."""
    with torch.device("meta"):
        encoder = blueprint.with_random_weights().encoder()
    return _size(encoder, encoder.output_dim)


def _size(module: nn.Module, output_dim: int) -> str:
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in module.parameters())
    return (
        f"model: {total / 1e6:,.1f} million parameters, {trained / 1e6:,.1f} trained; "
        f"representation of {output_dim}"
    )


def _data(blueprint: Blueprint, data: list[ProteinDataset], made_up: str, found: Checkup) -> str:
    forbidden = offline()
    with no_connections(forbidden or "ESMGN_OFFLINE") as refused:
        try:
            dataset = blueprint.dataset()
        except EsmgnError:
            if forbidden or not refused.any:
                raise
            found.warnings.append(
                f"data: '{blueprint.config.data.name}' is not on this machine, a run downloads it first; "
                "batches and memory can be checked when it is there"
            )
            return ""
    data.append(dataset)
    num_refused = len(getattr(dataset, "refused", ()))
    num_train, num_valid = len(dataset.split("train")), len(dataset.split("valid"))
    left_out = f", {counted(num_refused, 'file')} left out" if num_refused else ""
    training = counted(num_train, "training protein")
    sizes = f"{training}, {counted(num_valid, 'validation protein')}{left_out}"
    lines = [f"data: {sizes}; {made_up}" if made_up else f"data: {sizes}"]
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
    blueprint: Blueprint, dataset: ProteinDataset, schedule: Schedule, machine: Machine, found: Checkup
) -> str:
    """The memory of each process: fine, or a warning, whichever it is."""
    config, number = blueprint.config, machine.processes
    gpu = machine.on_gpu(config)
    here = not machine.elsewhere and (not gpu or torch.cuda.is_available())
    device = pick_device(machine.device or config.train.device) if here else torch.device("cuda")
    dtype = autocast_dtype(config.train.precision, device) if here else _gpu_dtype(config)
    estimate = Trial(blueprint, dataset, schedule, dtype, number).estimate()
    parts = [f"memory: {estimate}{_each(gpu=gpu, number=number)}{_pass(estimate, dtype)}"]
    short = False
    if here:
        free = free_memory_of(device)
        needed = estimate.total if gpu else estimate.total * number
        together = f"{needed / 1e9:.1f} GB together, " if not gpu and number > 1 else ""
        parts.append(f"{together}{free / 1e9:.1f} GB are free")
        short = needed > free
    if not gpu and not machine.device and config.train.device == "auto":
        on_gpu = (
            estimate
            if dtype is _gpu_dtype(config)
            else Trial(blueprint, dataset, schedule, _gpu_dtype(config), number).estimate()
        )
        parts.append(f"on a GPU about {on_gpu.total / 1e9:.1f} GB, {_a100(on_gpu)}")
    elif gpu:
        parts.append(_a100(estimate))
        short = short or (not here and not _fits(estimate, max(_A100)))
    text = "; ".join(parts)
    if short:
        found.warnings.append(
            f"{text}\n  less: train.residues_per_batch, train.activation_checkpointing, train.strategy=fsdp"
        )
        return ""
    return text


def _each(*, gpu: bool, number: int) -> str:
    if number == 1:
        return ""
    return f" on each of {number} GPUs" if gpu else f" for each of {number} processes"


def _pass(estimate: MemoryEstimate, dtype: torch.dtype | None) -> str:
    name = str(dtype or torch.float32).removeprefix("torch.")
    if not estimate.residues:
        return f" ({name}), and activations, which this sequence encoder gives no way to estimate"
    return f" ({name}, {estimate.residues:,} residues in a pass)"


def _gpu_dtype(config: RunConfig) -> torch.dtype | None:
    """What the run would compute in on an A100."""
    named = {"auto": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}
    return named.get(config.train.precision)


def _fits(estimate: MemoryEstimate, size: int) -> bool:
    return estimate.total * _FRAGMENTED + _CUDA_CONTEXT <= size * 2**30


def _a100(estimate: MemoryEstimate) -> str:
    """Which A100 the estimate fits."""
    small, large = _A100
    if not estimate.residues:
        return "A100: unknown without activations"
    if _fits(estimate, small):
        return f"fits an A100 of {small} GB and of {large} GB"
    if _fits(estimate, large):
        return f"does not fit an A100 of {small} GB, fits one of {large} GB"
    return f"does not fit an A100, neither of {small} GB nor of {large} GB"


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
