"""Estimate the memory of a training step before the first one, and measure it during training.

memory = weights + gradients and optimiser + activations + workspace. Weights, gradients and optimiser state
are counted. Activations are the tensors that autograd keeps of a forward pass: a constant, and a part that is
linear in the residues of the pass, edges included. Two small passes determine both.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.engine.loader import Reader
from esmgn_core.engine.schedule import MicroBatch, Schedule, encoded_lengths, max_residues
from esmgn_core.model.joint import TrainStep
from esmgn_core.protocols import ProteinDataset, lengths_of

_GB = 1e9
_WORKSPACE = 3
"""Additional tensors during the backward pass, each of the size of the largest one: the gradients of the
inputs and of the output of the current operation."""
_GROUPS_TRIED = (1, 3)
"""Groups of proteins in the two measured passes."""
_STEPS_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory of one process in a training step, in bytes.

    Attributes:
        weights: parameters and buffers.
        learning: gradients, the optimiser's two averages, and a moving average of the weights if kept.
        activations: tensors kept for the backward pass, and the workspace of that pass.
        residues: residues of the largest pass; 0 if activations are not estimated.
    """

    weights: int
    learning: int
    activations: int
    residues: int = 0

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return self.weights + self.learning + self.activations

    def with_pass(self, cost: ActivationCost, residues: int) -> MemoryEstimate:
        """The estimate with the activations of a pass of ``residues`` residues."""
        return replace(self, activations=cost.bytes(residues), residues=residues)

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients and optimiser": self.learning}
        if self.activations:
            parts["activations"] = self.activations
        text = ", ".join(f"{name} {size / _GB:.1f}" for name, size in parts.items())
        return f"about {self.total / _GB:.1f} GB: {text}"


class ActivationCost(NamedTuple):
    """Memory of one pass besides weights, gradients and optimiser, in bytes.

    Attributes:
        fixed: part that does not depend on the pass, such as half-precision copies of weights.
        per_residue: part of each residue, with its edges.
        largest: share of the largest tensor in ``per_residue``.
    """

    fixed: float
    per_residue: float
    largest: float

    def at_depth(self, deeper: ActivationCost, blocks: int) -> ActivationCost:
        """Extrapolate to ``blocks`` blocks from this cost with one block and ``deeper`` with two."""
        more = blocks - 1
        return ActivationCost(
            self.fixed + more * (deeper.fixed - self.fixed),
            self.per_residue + more * (deeper.per_residue - self.per_residue),
            max(self.largest, deeper.largest),
        )

    def bytes(self, num_residues: int) -> int:
        """Memory of a pass with ``num_residues`` residues."""
        return int(self.fixed + (self.per_residue + _WORKSPACE * self.largest) * num_residues)


def parameter_memory(step: nn.Module, *, averaged: bool) -> MemoryEstimate:
    """Memory of a model without activations; exact for Adam in float32. Works on the meta device."""
    tensors = [*step.parameters(), *step.buffers()]
    trained = sum(_bytes(parameter) for parameter in step.parameters() if parameter.requires_grad)
    return MemoryEstimate(sum(map(_bytes, tensors)), trained * (4 if averaged else 3), 0)


def activation_cost(step: TrainStep, batches: Sequence[ProteinBatch]) -> ActivationCost:
    """Measure the memory of passes of ``step`` by one or two small ones.

    Weights, batch statistics and random streams do not change.

    Args:
        step: encoder and task.
        batches: one batch, or two of different size, on the device of the step.
    """
    most = max_residues(step) or 2**62
    # Sorted, so that tensors of both passes are compared with each other.
    kept = [sorted(_kept(step, batch), reverse=True) for batch in batches]
    residues = [int(batch.lengths.clamp(max=most).sum()) or 1 for batch in batches]
    total, grown, more = sum(kept[-1]), kept[-1], residues[-1]
    slope = total / more
    if residues[-1] > residues[0]:
        more -= residues[0]
        slope = max(total - sum(kept[0]), 0) / more
        # Subtract sizes of the small pass: its largest tensor may be a half-precision copy of a weight, which
        # does not grow with the pass.
        grown = [size - before for size, before in zip(kept[-1], kept[0], strict=False)]
    fixed = max(total - slope * residues[-1], 0.0)
    return ActivationCost(fixed, slope, min(max([0, *grown]) / more, slope))


def _kept(step: TrainStep, batch: ProteinBatch) -> list[int]:
    training = step.training
    step.eval()
    try:
        with _saved(step) as sizes:
            output = step(batch, SeededDraws(0, 0, range(len(batch))))
        del output
    finally:
        step.train(training)
    return list(sizes.values())


def small_batches(dataset: ProteinDataset, schedule: Schedule) -> list[ProteinBatch]:
    """One or two batches from the first proteins of a run; the second one is larger."""
    part, size = schedule.micro_batches(0, 0)[0], dataset.group_size
    numbers = sorted({min(groups, len(part.indices) // size) for groups in _GROUPS_TRIED})
    small = [MicroBatch(part.indices[: n * size], part.positions[: n * size]) for n in numbers]
    return [batch for _, batch in Reader(dataset, 0, lambda *_: None, lambda _: None).read(small)]


def largest_pass(step: TrainStep, dataset: ProteinDataset, schedule: Schedule) -> int:
    """Encoded residues in the largest pass of one process, among the first 200 steps.

    If the dataset does not know the lengths of its proteins, they are estimated from up to four proteins.
    """
    most = max_residues(step)
    parts = [
        part.indices
        for number in range(min(schedule.steps_per_epoch, _STEPS_LOOKED_AT))
        for rank in range(schedule.world_size)
        for part in schedule.micro_batches(number, rank)
    ]
    if lengths_of(dataset) is None:
        indices = max(parts, key=len)
        mean = sum(min(len(dataset[i]), most or 2**62) for i in indices[:4]) / len(indices[:4])
        return int(mean * len(indices))
    lengths = encoded_lengths(dataset, most)
    return max(int(lengths[list(indices)].sum()) for indices in parts)


def first_estimate(
    step: TrainStep, dataset: ProteinDataset, schedule: Schedule, *, averaged: bool
) -> MemoryEstimate:
    """Estimate the memory of the largest pass of a run from passes over its first proteins.

    Args:
        step: encoder and task, ready for training on their device.
        dataset: all proteins.
        schedule: proteins of each step.
        averaged: True if a moving average of the weights is kept.
    """
    device = next(step.parameters()).device
    cost = activation_cost(step, [batch.to(device) for batch in small_batches(dataset, schedule)])
    parameters = parameter_memory(step, averaged=averaged)
    return parameters.with_pass(cost, largest_pass(step, dataset, schedule))


def free_memory_of(device: torch.device) -> int:
    """Free memory of a device in bytes; on the CPU the memory available without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _saved(step: nn.Module) -> Iterator[dict[int, int]]:
    """Sizes of the tensors kept for the backward pass by their address, without parameters."""
    own = {tensor.untyped_storage().data_ptr() for tensor in step.parameters()}
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # keeps the memory allocated, so that each address occurs once
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


_UNIT = 1 if sys.platform == "darwin" else 1024
"""Unit of ``ru_maxrss`` in bytes."""


def usage(device: torch.device) -> dict[str, float]:
    """Peak memory so far in GB and, if known, the utilisation of the GPU.

    Returns:
        ``memory_gb``: peak memory that torch allocated on the GPU, or peak resident memory of the process.
        ``gpu_percent``: share of the last second in which the GPU was busy; needs the package
        ``nvidia-ml-py``.
    """
    if device.type != "cuda":
        return {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / 1e9}
    values = {"memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    with suppress(ModuleNotFoundError, RuntimeError):
        values["gpu_percent"] = float(torch.cuda.utilization(device))
    return values


def balance(busy: Sequence[float]) -> dict[str, float]:
    """The slowest process and the waiting time of the others; empty for one process.

    Args:
        busy: seconds of work of each process in a step, by rank.

    Returns:
        ``slowest_rank``, and ``idle_percent``: waiting time, averaged over processes.
    """
    longest = max(busy)
    if len(busy) == 1 or not longest:
        return {}
    return {
        "slowest_rank": float(busy.index(longest)),
        "idle_percent": 100 * (1 - sum(busy) / (len(busy) * longest)),
    }
