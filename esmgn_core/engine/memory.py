"""How much memory a run will need, told before its first step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.engine.loader import MicroBatch, Schedule
from esmgn_core.engine.reader import Reader
from esmgn_core.model import TrainStep
from esmgn_core.protocols import ProteinDataset

_GB = 1e9


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes that a training step holds at a time.

    Attributes:
        weights: parameters and buffers.
        learning: gradients, the optimiser's two averages, and a running average of the weights if kept.
        activations: what the forward pass keeps for the backward pass.
    """

    weights: int
    learning: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.learning + self.activations

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients and optimiser": self.learning}
        if self.activations:
            parts["activations"] = self.activations
        text = ", ".join(f"{name} {size / _GB:.1f}" for name, size in parts.items())
        return f"about {self.total / _GB:.1f} GB: {text}"


def parameter_memory(step: nn.Module, *, averaged: bool) -> MemoryEstimate:
    """What a model needs without its activations; exact for Adam in float32. Also on the meta device."""
    tensors = [*step.parameters(), *step.buffers()]
    trained = sum(_bytes(parameter) for parameter in step.parameters() if parameter.requires_grad)
    return MemoryEstimate(sum(map(_bytes, tensors)), trained * (4 if averaged else 3), 0)


def estimate_memory(
    step: TrainStep, batch: ProteinBatch, *, num_residues: int, averaged: bool
) -> MemoryEstimate:
    """The same with activations, measured on a small batch and scaled to a whole pass.

    Changes nothing: neither weights nor statistics nor random streams.

    Args:
        step: encoder and task.
        batch: a few proteins on the device of the step.
        num_residues: residues of the largest pass.
        averaged: whether a running average of the weights is kept.
    """
    parameters = parameter_memory(step, averaged=averaged)
    training = step.training
    step.eval()
    try:
        with _saved(step) as sizes:
            output = step(batch, SeededDraws(0, 0, range(len(batch))))
        del output
    finally:
        step.train(training)
    scaled = int(sum(sizes.values()) * num_residues / max(batch.num_residues, 1))
    return MemoryEstimate(parameters.weights, parameters.learning, scaled)


def first_estimate(
    step: TrainStep, dataset: ProteinDataset, schedule: Schedule, *, averaged: bool
) -> MemoryEstimate:
    """:func:`estimate_memory` of the first pass of a run, from its first group of proteins."""
    part = schedule.micro_batches(0, 0)[0]
    size = max(2, dataset.group_size)
    small = MicroBatch(part.indices[:size], part.positions[:size])
    batch = next(Reader(dataset, 0, lambda _: None, lambda _: None).read([(small, True)])).batch
    residues = int(batch.num_residues / len(batch) * len(part.indices))
    device = next(step.parameters()).device
    return estimate_memory(step, batch.to(device), num_residues=residues, averaged=averaged)


def free_memory_of(device: torch.device) -> int:
    """Bytes that are free on a device; on the CPU what the system can give without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _saved(step: nn.Module) -> Iterator[dict[int, int]]:
    """Sizes of the tensors kept for the backward pass, by their address; parameters do not count."""
    own = {tensor.untyped_storage().data_ptr() for tensor in step.parameters()}
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # so that no address is used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
