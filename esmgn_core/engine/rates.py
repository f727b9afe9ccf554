"""Learning rates over the steps of a run."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer

from esmgn_core.settings import OptimTable

_THRESHOLD = 1e-4
"""Relative change that counts as better, as in ``torch.optim.lr_scheduler.ReduceLROnPlateau``."""


class LearningRate:
    """Sets the learning rate of every step: that of each group times a factor common to all.

    Args:
        optimizer: its groups hold the rates that the factor multiplies.
        settings: the run's ``[optim]`` table.
        num_steps: steps of the whole run.
        steps_per_epoch: those of one pass over the training proteins.
    """

    def __init__(
        self, optimizer: Optimizer, settings: OptimTable, *, num_steps: int, steps_per_epoch: int
    ) -> None:
        self._optimizer = optimizer
        self._rates: list[float] = [group["lr"] for group in optimizer.param_groups]
        self._settings = settings
        self._num_steps, self._steps_per_epoch = num_steps, steps_per_epoch
        self._plateau = Plateau(settings)

    def set(self, step: int) -> float:
        """Set the rates of step ``step``, from 0; returns that of the first group."""
        factor = self.factor(step)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        return self._rates[0] * factor

    def factor(self, step: int) -> float:
        """What step ``step``, from 0, multiplies all rates by."""
        warmup, kind = self._settings.warmup_steps, self._settings.schedule
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if kind == "plateau":
            return self._plateau.factor
        if kind == "constant":
            return 1.0
        if kind == "step":
            return self._settings.step_factor ** (step // self._steps_per_epoch // self._settings.step_epochs)
        lowest = self._settings.min_lr_scale
        done = (step - warmup) / max(self._num_steps - warmup, 1)
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    def validated(self, value: float) -> None:
        """Take in the result of a pass over the held-out proteins."""
        if self._settings.schedule == "plateau":
            self._plateau.take(value)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs besides the number of its step."""
        return self._plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self._plateau.load_state_dict(state)


class Plateau:
    """A factor that shrinks once a value has not become better for more than ``patience`` passes.

    ``mode = "min"`` holds a lower value for the better one. ESM-GearNet fine-tunes with it on a
    score that rises, so that no pass is ever better than the first and the rate falls by the
    factor in fixed intervals: with 0.6 and 5, the factor is 1 up to and with epoch 6, counted from
    0, and shrinks every 6 epochs from epoch 7 on.
    """

    def __init__(self, settings: OptimTable) -> None:
        self._settings = settings
        self._sign = 1.0 if settings.plateau_mode == "min" else -1.0
        self._best = math.inf
        self._num_bad = 0
        self.factor = 1.0

    def take(self, value: float) -> None:
        """Take in the value of one pass."""
        value *= self._sign
        if value < self._best - abs(self._best if math.isfinite(self._best) else 0.0) * _THRESHOLD:
            self._best, self._num_bad = value, 0
            return
        self._num_bad += 1
        if self._num_bad > self._settings.plateau_patience:
            self.factor *= self._settings.plateau_factor
            self._num_bad = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything that passes have changed."""
        return {"best": self._best, "num_bad": self._num_bad, "factor": self.factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self._best, self._num_bad, self.factor = state["best"], state["num_bad"], state["factor"]
