"""Concatenation of the outputs of all layers without a second copy of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class SideBySide:
    """Outputs of layers, float [N, d] each, concatenated to [N, num_layers * d].

    Each output is written into the final tensor at once. The next layer keeps this copy for its backward
    pass, so that memory holds no other one.
    """

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._outputs: list[Tensor] = []
        self._joined: Tensor | None = None

    def append(self, output: Tensor) -> Tensor:
        """Write the output of the next layer. Returns the copy, without a gradient."""
        if self._joined is None:
            self._joined = output.new_empty(len(output), output.shape[1] * self._num_layers)
        # A view by .data has a separate version counter: writing a later output must not invalidate this one.
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
