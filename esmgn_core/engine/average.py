"""A running average of the weights, which is often better than the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    r"""Exponential moving average of the trained parameters of a module.

    .. math:: \bar\theta \leftarrow d_t \bar\theta + (1 - d_t)\,\theta, \quad
              d_t = \min\left(d, \frac{1 + t}{10 + t}\right)

    after update t. The early, smaller decay keeps the initial weights from lingering.
    Buffers are those of the module: batch statistics are running averages already.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._num_updates = 0
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        self._num_updates += 1
        decay = min(self.decay, (1 + self._num_updates) / (10 + self._num_updates))
        for name, average in self._averages.items():
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
            weights, average = parameter.detach().clone(), self._averages[name]
            parameter.copy_(average)
            average.copy_(weights)

    def state_dict(self) -> dict[str, Tensor | int]:
        """Averages by the names of the parameters, and the number of updates."""
        return {"num_updates": self._num_updates, **self._averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Go on from a :meth:`state_dict`."""
        self._num_updates = int(state["num_updates"])
        for name, average in self._averages.items():
            average.copy_(torch.as_tensor(state[name]))
