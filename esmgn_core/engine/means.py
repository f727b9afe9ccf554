"""Means of a loss and its metrics over passes and processes."""

from __future__ import annotations

from collections import defaultdict

import torch

from esmgn_core.batch import TaskOutput
from esmgn_core.engine.distributed import World


class Means:
    """Running means of a loss and its metrics, weighted by the number of predictions.

    Those of a combined task's parts are called ``PART.loss`` and ``PART.METRIC``, each over the
    part's own predictions; ``loss`` is the weighted sum of the parts' losses.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, float] = defaultdict(float)
        self.weights: dict[str, float] = {}
        self.num_samples = 0.0
        self.num_left_out = 0

    def add(self, output: TaskOutput) -> None:
        """Take in one forward pass."""
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

    def over(self, world: World, like: Means, **extra: float) -> tuple[dict[str, float], dict[str, float]]:
        """Means over all processes, and sums: ``num_samples``, ``left_out`` and ``extra``.

        Args:
            world: all processes.
            like: means of the same task; this process may have seen no protein itself.
            **extra: further numbers of this process to be added up.
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
