"""The processes of a run, their communication, and synchronised batch normalisation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from warnings import catch_warnings, filterwarnings, simplefilter

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.parallel import DistributedDataParallel

from esmgn_core.errors import EsmgnError
from esmgn_core.machine.device import pick_device
from esmgn_core.readout import ProteinReadout

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class World:
    """This process among all processes of the run."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """True if this process writes the run folder and reports to the user."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, elementwise and in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def from_main(self, value: Value) -> Value:
        """The value of the main process, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def on_main(self, function: Callable[[], Value]) -> Value:
        """Call ``function`` in the main process alone; return its result on every process.

        Raises:
            EsmgnError: raised by ``function``, on every process. The others would otherwise wait for a result
                until the process group gives up.
        """
        result: Value | None = None
        failure: EsmgnError | None = None
        if self.is_main:
            try:
                result = function()
            except EsmgnError as error:
                failure = error
        result, failure = self.from_main((result, failure))
        if failure:
            raise failure
        return cast("Value", result)

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes by rank, on every process."""
        if self.size == 1:
            return [value]
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value)
        return box

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """Join the process group of torchrun, if there is one, and leave it at the end of the block.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        RunError: the device is not available.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = pick_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")) if size > 1 else None)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield World(chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(chosen, dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def lost_contact(error: BaseException) -> bool:
    """True if an error reports that another process of the run no longer responds."""
    text = str(error)
    gloo = "gloo" in text and ("by peer" in text or "imed out" in text)
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and gloo)


class _SumOverProcesses(torch.autograd.Function):
    """Sum over processes; the gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:  # noqa: ARG004 - nothing to save
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class SyncedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation with training statistics over the residues of all processes.

    The result equals that of one process with all residues. Unlike ``torch.nn.SyncBatchNorm`` it also runs on
    the CPU. Takes [N, C]; N may differ between processes.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise [N, C]."""
        if not self.training:
            return super().forward(inputs)
        values = inputs.float()
        ones = values.new_ones(1)
        sums: Tensor = _SumOverProcesses.apply(torch.cat([values.sum(0), ones * len(values)]))  # type: ignore[no-untyped-call]  # torch
        count = sums[-1].detach()
        mean = sums[:-1] / count
        # Two passes: the difference of mean square and squared mean would lose digits to cancellation.
        centered = values - mean
        variance: Tensor = _SumOverProcesses.apply(centered.square().sum(0)) / count  # type: ignore[no-untyped-call]  # torch
        self._track(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normed = centered * (variance + self.eps).rsqrt()
        if self.affine:
            normed = normed * self.weight + self.bias
        return normed.to(inputs.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def synchronize_batch_norm(module: nn.Module) -> None:
    """Convert every ``BatchNorm1d`` of a module to a :class:`SyncedBatchNorm`, in place.

    Parameters, buffers and their names stay the same.
    """
    for child in module.modules():
        if type(child) is nn.BatchNorm1d:
            child.__class__ = SyncedBatchNorm


def data_parallel(step: nn.Module) -> DistributedDataParallel:
    """Wrap ``step`` to average gradients over processes during the backward pass.

    Fusion and task determine if a learned readout is used. Without ``find_unused_parameters``, processes
    would wait for the gradient of an unused one.
    """
    readouts = [child for child in step.modules() if isinstance(child, ProteinReadout)]
    some_unread = any(readout.readout == "attention" for readout in readouts)
    if some_unread:
        # torch warns once if every readout is used after all.
        filterwarnings("ignore", message="find_unused_parameters=True was specified")
    with catch_warnings():
        # Newer versions of torch deprecate an argument in favour of one with another meaning.
        simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(step, broadcast_buffers=False, find_unused_parameters=some_unread)
