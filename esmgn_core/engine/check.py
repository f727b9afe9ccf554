"""Validate a run without starting it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from esmgn_core.engine.advice import batch_norm_warning, component_warnings
from esmgn_core.engine.memory import MemoryEstimate, free_memory_of
from esmgn_core.engine.schedule import build_schedule, max_residues
from esmgn_core.engine.trackers import resolve_trackers
from esmgn_core.engine.trial import Trial
from esmgn_core.errors import EsmgnError, RunError, WeightsError, shown
from esmgn_core.host.registry import Registry
from esmgn_core.machine.device import autocast_dtype, pick_device
from esmgn_core.machine.download import no_connections, offline
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.model.joint import JointEncoder, TrainStep
from esmgn_core.printable import counted
from esmgn_core.protocols import ProteinDataset, notes_of, refused_by
from esmgn_core.settings import RunConfig
from esmgn_core.spec import Kind
from esmgn_core.weights import locate

Value = TypeVar("Value")
_CHECKPOINTS = 3
"""Checkpoints on the disk at the same time: the last, the previous and the next one."""
_A100 = (40, 80)
"""Memory of the two models of an A100, in GiB."""
_CUDA_CONTEXT = 1.5e9
"""Bytes of GPU memory that CUDA and its libraries need."""
_FRAGMENTED = 1.08
"""Ratio of the GPU memory that torch's allocator reserves to the memory that is used."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine on which a run will train.

    Attributes:
        processes: number of processes, one for each GPU.
        device: ``cuda`` or ``cpu``; empty for the device of ``train.device`` on this machine.
        elsewhere: True for another machine; the devices of this one are not checked.
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
    """Results of the checks.

    Attributes:
        fine: lines of the successful checks, in order.
        warnings: settings that work but may not be intended.
        problems: errors that would stop the run.
    """

    fine: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[EsmgnError] = field(default_factory=list)

    def attempt(self, check: Callable[[], Value], line: Callable[[Value], str] = str) -> Value | None:
        """Run ``check`` and record the line of its result; ``None`` if it raises an error, which is recorded.

        An empty line is not recorded.
        """
        try:
            value = check()
        except EsmgnError as error:
            self.problems.append(error)
            return None
        self.fine += filter(None, [line(value)])
        return value


def check_run(
    registry: Registry, config: RunConfig, *, machine: Machine, folder: Path, made_up: str = ""
) -> Checkup:
    """Check settings, device, weights, dimensions, data, batches, memory and disk of a configuration.

    Nothing is downloaded, and files of weights are not read.

    Args:
        registry: all components.
        config: from :func:`esmgn_core.host.configure.configure`.
        machine: the machine on which it will train.
        folder: path of the future run folder.
        made_up: remark about the data if they are made up.

    Raises:
        EsmgnError: names or settings are wrong, and nothing else can be checked.
    """
    blueprint, checkup = resolve(registry, config), Checkup()
    behaviour = f"; the original's behaviour: {originals}" if (originals := _originals(blueprint)) else ""
    checkup.fine.append(f"settings: every name and value is valid{behaviour}")
    checkup.attempt(lambda: _device(config, machine))
    checkup.attempt(lambda: _trackers(registry, config))
    checkup.attempt(lambda: _weights(blueprint))
    dataset = checkup.attempt(lambda: _dataset(blueprint, checkup), lambda _: "")
    step, planned = None, blueprint.with_random_weights()
    if blueprint.is_downstream and dataset is None:  # the labels determine the width of its heads
        checkup.attempt(lambda: _on_meta(planned.encoder), lambda made: _model(made, made))
    else:
        step = checkup.attempt(
            lambda: _on_meta(lambda: planned.step(dataset)), lambda made: _model(made, made.encoder)
        )
    if dataset is not None:
        checkup.fine.append(_data(dataset, made_up))
    checkup.warnings += component_warnings(blueprint)
    if step is not None and dataset is not None:
        _check_passes(blueprint, step, dataset, machine, checkup)
    if step is not None:
        checkup.attempt(lambda: _disk(step, folder))
    return checkup


def start_warnings(blueprint: Blueprint, *, processes: int) -> list[str]:
    """Warnings that a run prints when it starts; those about batches only if its data can be read."""
    warnings, train = component_warnings(blueprint), blueprint.config.train
    try:
        if (dataset := _dataset(blueprint, Checkup())) is None:
            return warnings
        step = _on_meta(lambda: blueprint.with_random_weights().step(dataset))
        schedule = build_schedule(dataset, train, world_size=processes, most_residues=max_residues(step))
    except EsmgnError:
        return warnings
    return warnings + batch_norm_warning(step, schedule, train)


def _check_passes(
    blueprint: Blueprint, step: TrainStep, dataset: ProteinDataset, machine: Machine, checkup: Checkup
) -> None:
    """Check the division of proteins into passes, and the memory of a pass."""
    train, number = blueprint.config.train, machine.processes
    schedule = checkup.attempt(
        lambda: build_schedule(dataset, train, world_size=number, most_residues=max_residues(step)),
        lambda made: (
            f"batches: {made.steps_per_epoch:,} steps an epoch, {made.num_steps:,} in all, "
            f"for {counted(number, 'process', 'processes')}"
        ),
    )
    if schedule:
        checkup.warnings += batch_norm_warning(step, schedule, train)
        checkup.attempt(lambda: _memory(Trial(blueprint, dataset, schedule), machine, checkup))


def _originals(blueprint: Blueprint) -> str:
    """The settings that ``reference = true`` sets in this run; empty without it."""
    if not blueprint.config.reference:
        return ""
    originals = []
    for kind, (_, _, settings) in blueprint.parts.items():
        values = settings.model_dump(mode="json")
        originals += [
            f"{kind}.{name} = {shown(values[name])}" for name in settings.original(values) if name in values
        ]
    train = blueprint.config.train
    originals += [f"train.{name} = {shown(getattr(train, name))}" for name in train.originals]
    return ", ".join(originals)


def _device(config: RunConfig, machine: Machine) -> str:
    if machine.elsewhere:
        return "device: GPUs of another machine, not checked"
    device = pick_device(machine.device or config.train.device)
    dtype = autocast_dtype(config.train.precision, device)
    return f"device: {device}, {str(dtype or torch.float32).removeprefix('torch.')}"


def _trackers(registry: Registry, config: RunConfig) -> str:
    resolve_trackers(registry, config)
    return f"trackers: metrics.jsonl{''.join(f', {name}' for name in config.train.trackers)}"


def _weights(blueprint: Blueprint) -> str:
    if (table := blueprint.config.seq) is None:
        return "weights: none to load"
    settings: Any = blueprint.parts[Kind.SEQ][2]
    weights = getattr(settings, "weights", None)
    if isinstance(weights, Path):
        if not weights.exists():
            raise WeightsError(f"weights file not found: {weights} (seq.weights)")
        return f"weights: {weights}"
    checkpoint = getattr(settings, "checkpoint", None)
    if weights == "pretrained" and (repository := getattr(settings, "repository", None)):
        where = f"not checked ({forbidden} is set)" if (forbidden := offline(hub=True)) else "or its cache"
        return f"weights: {repository} on the Hub of Hugging Face, {where}"
    if weights != "pretrained" or checkpoint is None:
        return "weights: random" if weights == "random" else "weights: none to load"
    if path := locate(checkpoint):
        return f"weights: {path}"
    if forbidden := offline():
        raise WeightsError(
            f"weights are not on this machine, and {forbidden} forbids downloads: {checkpoint.url}",
            f"fetch them on a machine with a network: esmgn weights fetch {table.name}",
        )
    return f"weights: not on this machine, will be downloaded from {checkpoint.url}"


def _on_meta(build: Callable[[], Value]) -> Value:
    """Build on the meta device, which checks widths without allocating weights."""
    with torch.device("meta"):
        return build()


def _model(module: nn.Module, encoder: JointEncoder) -> str:
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in module.parameters())
    return (
        f"model: {total / 1e6:,.1f} million parameters, {trained / 1e6:,.1f} trained; "
        f"representation of {encoder.output_dim}"
    )


def _dataset(blueprint: Blueprint, checkup: Checkup) -> ProteinDataset | None:
    """The dataset; ``None``, with a warning, if the run has to download it first."""
    forbidden = offline()
    with no_connections(forbidden or "ESMGN_OFFLINE") as refused:
        try:
            return blueprint.dataset()
        except EsmgnError:
            if forbidden or not refused.any:
                raise
    checkup.warnings.append(
        f"data: '{blueprint.config.data.name}' is not on this machine, the run will download it first; "
        "batches and memory can be checked after that"
    )
    return None


def _data(dataset: ProteinDataset, made_up: str) -> str:
    num_refused = len(refused_by(dataset))
    sizes = [
        counted(len(dataset.split("train")), "training protein"),
        counted(len(dataset.split("valid")), "validation protein"),
    ]
    sizes += [f"{counted(num_refused, 'file')} left out"] * bool(num_refused)
    text = f"data: {', '.join(sizes)}{made_up and f'; {made_up}'}"
    return "\n  note: ".join([text, *notes_of(dataset)])


def _memory(trial: Trial, machine: Machine, checkup: Checkup) -> str:
    """Estimate the memory of each process: a line if it fits, else an empty one and a warning."""
    config, number = trial.blueprint.config, machine.processes
    gpu, gpu_dtype = machine.on_gpu(config), _gpu_dtype(config)
    here = not machine.elsewhere and (not gpu or torch.cuda.is_available())
    device = pick_device(machine.device or config.train.device) if here else torch.device("cuda")
    dtype = autocast_dtype(config.train.precision, device) if here else gpu_dtype
    estimate = trial.estimate(dtype)
    parts = [f"memory: {estimate}{_each(gpu=gpu, number=number)}{_pass(estimate, dtype)}"]
    short = False
    if here:
        free = free_memory_of(device)
        needed = estimate.total if gpu else estimate.total * number
        together = f"{needed / 1e9:.1f} GB together, " if not gpu and number > 1 else ""
        parts.append(f"{together}{free / 1e9:.1f} GB are free")
        short = needed > free
    if gpu:
        parts.append(_a100(estimate))
        short = short or (not here and not _fits(estimate, max(_A100)))
    elif not machine.device and config.train.device == "auto":
        on_gpu = estimate if dtype is gpu_dtype else trial.estimate(gpu_dtype)
        parts.append(f"on a GPU about {on_gpu.total / 1e9:.1f} GB, {_a100(on_gpu)}")
    text = "; ".join(parts)
    if not short:
        return text
    checkup.warnings.append(
        f"{text}\n  less: train.residues_per_batch, train.activation_checkpointing, train.strategy=fsdp"
    )
    return ""


def _each(*, gpu: bool, number: int) -> str:
    if number == 1:
        return ""
    return f" on each of {number} GPUs" if gpu else f" for each of {number} processes"


def _pass(estimate: MemoryEstimate, dtype: torch.dtype | None) -> str:
    name = str(dtype or torch.float32).removeprefix("torch.")
    if not estimate.residues:
        return f" ({name}), plus activations, which cannot be estimated for this sequence encoder"
    return f" ({name}, {estimate.residues:,} residues in a pass)"


def _gpu_dtype(config: RunConfig) -> torch.dtype | None:
    """The autocast dtype of the run on an A100."""
    named = {"auto": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}
    return named.get(config.train.precision)


def _fits(estimate: MemoryEstimate, size: int) -> bool:
    return estimate.total * _FRAGMENTED + _CUDA_CONTEXT <= size * 2**30


def _a100(estimate: MemoryEstimate) -> str:
    """The models of an A100 with enough memory for the estimate."""
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
