"""Run the passes of a training step on one or many processes, and average its metrics."""

from __future__ import annotations

from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from esmgn_core.batch import ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.engine.distributed import World, data_parallel
from esmgn_core.engine.learner import Learner
from esmgn_core.engine.microbatch import shortages_of
from esmgn_core.engine.sharding import is_sharded, synchronize_gradients


class MetricAverager:
    """Running means of the loss and its metrics, weighted by the number of predictions.

    The parts of a combined task have ``PART.loss`` and ``PART.METRIC``, each averaged over the predictions of
    the part. ``loss`` is the weighted sum of the losses of the parts.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, float] = defaultdict(float)
        self.weights: dict[str, float] = {}
        self.num_samples = 0.0
        self.num_left_out = 0

    def add(self, output: TaskOutput) -> None:
        """Add the output of one forward pass."""
        self.num_samples += output.num_samples
        if not output.parts:
            self._add(output, "")
        for name, part in output.parts.items():
            self.weights[f"{name}.loss"] = part.weight
            self._add(part.output, f"{name}.")

    def _add(self, output: TaskOutput, prefix: str) -> None:
        self.num_left_out += output.num_left_out
        values = {"loss": output.loss, **output.metrics}
        stacked = torch.stack([value.detach().double() for value in values.values()])
        for name, value in zip(values, stacked.tolist(), strict=True):
            self.sums[prefix + name] += value * output.num_samples
            self.counts[prefix + name] += output.num_samples

    def over(
        self, world: World, like: MetricAverager, **extra: float
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Means over all processes, and sums: ``num_samples``, ``left_out`` and ``extra``.

        Args:
            world: all processes.
            like: an averager of the same task with its names, since this process may have no protein.
            **extra: further numbers of this process to sum.
        """
        names, sums = (
            list(like.sums),
            {"num_samples": self.num_samples, "left_out": self.num_left_out, **extra},
        )
        values = [
            *(self.sums[name] for name in names),
            *(self.counts[name] for name in names),
            *sums.values(),
        ]
        totals = world.sum(torch.tensor(values, dtype=torch.float64, device=world.device)).tolist()
        pairs = zip(totals, totals[len(names) : 2 * len(names)], strict=False)
        means = {name: total / (count or 1.0) for name, (total, count) in zip(names, pairs, strict=False)}
        if like.weights:
            means = {"loss": sum(weight * means[name] for name, weight in like.weights.items()), **means}
        return means, dict(zip(sums, totals[2 * len(names) :], strict=True))


class MicrobatchRunner:
    """Runs the passes of a step and accumulates their gradients in the learner.

    Args:
        learner: encoder and task with their optimiser.
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

    def run(self, batch: ProteinBatch, draws: Draws, *, last: bool) -> TaskOutput:
        """Run one forward and backward pass; returns the output of the task.

        Args:
            batch: proteins of this process.
            draws: their random streams.
            last: True for the last pass of a step, in which processes sum their gradients.

        Raises:
            ShortageError: the pass did not fit into memory.
        """
        with shortages_of(batch), self._synchronized(last=last):
            output: TaskOutput = self._wrapped(batch.to(self._world.device), draws)
            self._learner.backward(self._summed(output))
        return output

    def _summed(self, output: TaskOutput) -> Tensor:
        """The loss summed over the predictions of this process.

        :meth:`Learner.finish` divides by the number of predictions of all passes and processes, which is
        known only then. The parts of a combined task have different numbers of predictions. Each is first
        scaled to the number of proteins, with the counts of all processes in this pass.
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

    def _synchronized(self, *, last: bool) -> AbstractContextManager[None]:
        # Processes sum gradients in the last pass only: one communication per step instead of one per pass.
        synchronize_gradients(self._wrapped, wanted=last)
        if isinstance(self._wrapped, DistributedDataParallel) and not last:
            return self._wrapped.no_sync()
        return nullcontext()
