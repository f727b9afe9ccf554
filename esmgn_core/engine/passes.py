"""Forward and backward passes, on one process or many."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from esmgn_core.batch import ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.engine.distributed import World, data_parallel
from esmgn_core.engine.learner import Learner
from esmgn_core.engine.means import Means
from esmgn_core.engine.sharding import is_sharded, synchronise_gradients
from esmgn_core.engine.shortage import ShortageError


class Passes:
    """The passes that a step is made of; their gradients add up in the learner.

    Args:
        learner: what learns.
        world: this process among all.
    """

    def __init__(self, learner: Learner, world: World) -> None:
        self._learner = learner
        self._world = world
        self._wrapped: nn.Module = learner.step
        if world.size > 1 and not is_sharded(learner.step):
            self._wrapped = data_parallel(learner.step)

    def begin(self) -> None:
        """Put the model into training mode."""
        self._wrapped.train()

    def run(self, batch: ProteinBatch, draws: Draws, means: Means, *, last: bool) -> ShortageError | None:
        """One forward and backward pass; what was short if it did not fit into memory.

        Args:
            batch: proteins of this process.
            draws: their random streams.
            means: take in what the task returns.
            last: whether it is the last pass of its step, after which processes add up their gradients.
        """
        try:
            with self._synchronised(last=last):
                output: TaskOutput = self._wrapped(batch.to(self._world.device), draws)
                self._learner.backward(self._summed(output))
        except (RuntimeError, MemoryError) as error:
            if shortage := ShortageError.of(batch, error):
                return shortage
            raise
        means.add(output)
        return None

    def _summed(self, output: TaskOutput) -> Tensor:
        """The sum over predictions of this process.

        :meth:`Learner.finish` divides it by their number over all passes and processes, which is
        not known before. The parts of a combined task differ in their numbers, so that each is
        brought to the number of proteins first, by the numbers of all processes in this pass.
        """
        if not output.parts:
            return output.loss * output.num_samples
        parts = list(output.parts.values())
        numbers = [output.num_samples, *(part.output.num_samples for part in parts)]
        own = torch.tensor(numbers, dtype=torch.float64)
        num_proteins, *counts = self._world.sum(own.to(self._world.device)).tolist()
        shares = [
            part.output.loss * (part.weight * part.output.num_samples * num_proteins / (count or 1.0))
            for part, count in zip(parts, counts, strict=True)
        ]
        return torch.stack(shares).sum()

    def _synchronised(self, *, last: bool) -> AbstractContextManager[None]:
        synchronise_gradients(self._wrapped, wanted=last)
        if isinstance(self._wrapped, DistributedDataParallel) and not last:
            return self._wrapped.no_sync()
        return nullcontext()
