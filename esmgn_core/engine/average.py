"""A running average of the weights, which is often better than the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Average:
    r"""Exponential moving average of the trained parameters of a module.

    .. math:: \bar\theta \leftarrow d_t \bar\theta + (1 - d_t)\,\theta, \quad
              d_t = \min\left(d, \frac{1 + t}{10 + t}\right)

    after update t. The early, smaller decay keeps the initial weights from lingering.
    Buffers are those of the module: batch statistics are running averages already.

    Attributes:
        averages: by the names of the parameters.
        num_updates: how often weights were taken in.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self.num_updates = 0
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        self.num_updates += 1
        decay = min(self._decay, (1 + self.num_updates) / (10 + self.num_updates))
        for name, average in self.averages.items():
            average.lerp_(self._parameters[name].detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged weights inside the block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            # Copied, not rebound: DDP and FSDP keep references to the storage of parameters.
            weights, average = parameter.detach().clone(), self.averages[name]
            parameter.copy_(average)
            average.copy_(weights)

    @torch.no_grad()
    def restart(self, num_updates: int) -> None:
        """Take the weights as they are for averages after ``num_updates`` updates."""
        self.num_updates = num_updates
        for name, average in self.averages.items():
            average.copy_(self._parameters[name])
