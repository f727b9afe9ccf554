"""Optimisers, learning-rate schedules, and an exponential moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from esmgn_core.model.blocks import repeated_blocks
from esmgn_core.model.joint import TrainStep
from esmgn_core.settings import OptimTable

Group = dict[str, object]


def build_optimizer(step: TrainStep, settings: OptimTable) -> Optimizer:
    """Build the optimiser of all trained parameters; a frozen sequence encoder is left out.

    The fused kernel updates all parameters in one pass and divides the gradients by ``optimizer.grad_scale``
    if it is set.

    Args:
        step: encoder and task.
        settings: the run's ``[optim]`` table.
    """
    sequence = step.encoder.get_submodule("sequence")
    in_sequence = set(map(id, sequence.parameters()))
    others = [parameter for parameter in _trained(step) if id(parameter) not in in_sequence]
    groups: list[Group] = [{"params": others, "lr": settings.lr}, *_sequence_groups(sequence, settings)]
    groups = [group for group in groups if group["params"]]
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return SGD(groups, settings.lr, momentum=settings.momentum, weight_decay=decay, fused=True)
    make = Adam if settings.optimizer == "adam" else AdamW
    return make(groups, settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=decay, fused=True)


def _sequence_groups(sequence: nn.Module, settings: OptimTable) -> list[Group]:
    """Parameter groups of the sequence encoder, from the top block to the embedding."""
    rate, decay = settings.lr * settings.seq_lr_scale, settings.seq_layer_decay
    if decay == 1:
        return [{"params": _trained(sequence), "lr": rate}]
    blocks = repeated_blocks(sequence)
    depth = {id(p): number for number, block in enumerate(blocks) for p in block.parameters()}
    groups: dict[int, list[Tensor]] = {}
    for name, parameter in sequence.named_parameters():
        if parameter.requires_grad:
            outside = -1 if "embed" in name else len(blocks) - 1
            groups.setdefault(depth.get(id(parameter), outside), []).append(parameter)
    top = len(blocks) - 1
    return [
        {"params": groups[number], "lr": rate * decay ** (top - number)}
        for number in sorted(groups, reverse=True)
    ]


def _trained(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


_THRESHOLD = 1e-4
"""Minimum relative improvement, as in ``torch.optim.lr_scheduler.ReduceLROnPlateau``."""


class LearningRate:
    """Learning-rate schedule: the rate of each parameter group times a common factor of the step.

    Args:
        optimizer: its groups have the base rates.
        settings: the run's ``[optim]`` table.
        num_steps: steps of the whole run.
        steps_per_epoch: steps of one epoch.
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
        """Set the rates of step ``step``, from 0; returns the rate of the first group."""
        factor = self.factor(step)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        return self._rates[0] * factor

    def factor(self, step: int) -> float:
        """Factor of all rates in step ``step``, from 0."""
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
        """Update the ``plateau`` schedule with the result of a validation."""
        if self._settings.schedule == "plateau":
            self._plateau.update(value)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, besides the number of the step."""
        return self._plateau.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self._plateau.load_state_dict(state)


class Plateau:
    """A factor that decays if a value does not improve for more than ``patience`` validations.

    With ``mode = "min"`` lower values are better. ESM-GearNet fine-tunes with ``min`` on a score that rises.
    No validation then improves on the first one, and the rate decays at fixed intervals: with a factor of 0.6
    and a patience of 5, it stays 1 up to epoch 6 (from 0) and decays every 6 epochs from epoch 7 on.
    """

    def __init__(self, settings: OptimTable) -> None:
        self._settings = settings
        self._sign = 1.0 if settings.plateau_mode == "min" else -1.0
        self._best = math.inf
        self._num_bad = 0
        self.factor = 1.0

    def update(self, value: float) -> None:
        """Update the factor with the value of one validation."""
        value *= self._sign
        if value < self._best - abs(self._best if math.isfinite(self._best) else 0.0) * _THRESHOLD:
            self._best, self._num_bad = value, 0
            return
        self._num_bad += 1
        if self._num_bad > self._settings.plateau_patience:
            self.factor *= self._settings.plateau_factor
            self._num_bad = 0

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"best": self._best, "num_bad": self._num_bad, "factor": self.factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self._best, self._num_bad, self.factor = state["best"], state["num_bad"], state["factor"]


class Average:
    r"""Exponential moving average of the trained parameters of a module.

    .. math:: \bar\theta \leftarrow d_t \bar\theta + (1 - d_t)\,\theta, \quad
              d_t = \min\left(d, \frac{1 + t}{10 + t}\right)

    after update t. The smaller decay of the first updates removes the initial weights quickly. Buffers are
    not averaged, because batch statistics are running averages already.

    Attributes:
        averages: averaged parameters by name.
        num_updates: number of updates.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self.num_updates = 0
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages with the current weights."""
        self.num_updates += 1
        decay = min(self._decay, (1 + self.num_updates) / (10 + self.num_updates))
        for name, average in self.averages.items():
            average.lerp_(self._parameters[name].detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Use the averaged weights inside the block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            # Copy values instead of rebinding: DDP and FSDP keep references to the storage of parameters.
            weights, average = parameter.detach().clone(), self.averages[name]
            parameter.copy_(average)
            average.copy_(weights)

    @torch.no_grad()
    def restart(self, num_updates: int) -> None:
        """Reset the averages to the current weights, counted as ``num_updates`` updates."""
        self.num_updates = num_updates
        for name, average in self.averages.items():
            average.copy_(self._parameters[name])
