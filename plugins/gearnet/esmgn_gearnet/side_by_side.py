"""The outputs of all layers in one tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class SideBySide:
    """Outputs of layers, float [N, d] each, joined to [N, num_layers * d].

    An output is written where it will stand in the end. The next layer gets this copy to keep for its
    backward pass, in place of one of its own.
    """

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._outputs: list[Tensor] = []
        self._joined: Tensor | None = None

    def append(self, output: Tensor) -> Tensor:
        """Write the output of the next layer; returns the copy, without a gradient."""
        if self._joined is None:
            self._joined = output.new_empty(len(output), output.shape[1] * self._num_layers)
        # Views by .data have version counters of their own: a later layer's output does not touch this one.
        columns = slice(len(self._outputs) * output.shape[1], (len(self._outputs) + 1) * output.shape[1])
        self._outputs.append(output)
        return self._joined.data[:, columns].copy_(output.detach())

    def join(self) -> Tensor:
        """All outputs, float [N, num_layers * d]."""
        joined: Tensor = _Join.apply(self._joined, *self._outputs)  # type: ignore[no-untyped-call]  # the library does not annotate it
        return joined


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, joined: Tensor, *outputs: Tensor) -> Tensor:
        ctx.num_outputs = len(outputs)
        # A view, so that autograd refuses to change it in place: the layers read it in their backward passes.
        return joined.view_as(joined)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *gradient.chunk(ctx.num_outputs, dim=1)
