"""Prediction heads: plain ReLU perceptrons on residues and on tuples of residues."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class MLP(nn.Module):
    """``num_layers`` linear layers with ReLU between them; hidden layers are ``hidden_dim`` wide.

    Shapes: [..., input_dim] -> [..., output_dim].
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        widths = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(first, second) for first, second in pairwise(widths))

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply all layers."""
        hidden = inputs
        for number, layer in enumerate(self.layers):
            hidden = layer(functional.relu(hidden) if number else hidden)
        return hidden


class TupleMLP(nn.Module):
    """An :class:`MLP` on the concatenated representations of ``arity`` residues.

    The first layer is linear. Each residue is therefore projected once, and the projections are gathered
    and added. This equals the layer on the concatenation, with far fewer operations if residues occur in
    many tuples.

    Shapes: residues [N, residue_dim] and index int64 [arity, S] -> [S, output_dim].
    """

    def __init__(
        self, residue_dim: int, arity: int, hidden_dim: int, output_dim: int, num_layers: int
    ) -> None:
        super().__init__()
        self.arity = arity
        widths = [arity * residue_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.first = nn.Linear(widths[0], widths[1])
        self.layers = nn.ModuleList(nn.Linear(first, second) for first, second in pairwise(widths[1:]))

    def forward(self, residues: Tensor, index: Tensor) -> Tensor:
        """Apply the head to the tuples ``index`` of ``residues``."""
        hidden = tuple_linear(residues, index, self.first.weight, self.first.bias)
        for layer in self.layers:
            hidden = layer(functional.relu(hidden))
        return hidden


def tuple_linear(residues: Tensor, index: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer on the concatenated representations of tuples of residues.

    The backward pass writes the gradient of each member's weights into its columns of one tensor. Autograd
    would compute them apart and concatenate them, a copy of the whole weight for every step.

    Args:
        residues: float [N, d].
        index: int64 [arity, S], residues of the tuples.
        weight: float [k, arity * d]. Member ``m`` has columns ``m * d`` to ``(m + 1) * d``.
        bias: float [k].

    Returns:
        float [S, k].
    """
    device = residues.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        residues, weight, bias = residues.to(dtype), weight.to(dtype), bias.to(dtype)
    output: Tensor = _TupleLinear.apply(residues, index, weight, bias)  # type: ignore[no-untyped-call]  # the library does not annotate it
    return output


class _TupleLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residues: Tensor, index: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(residues, index, weight)
        output = bias.repeat(index.shape[1], 1)
        for member, columns in zip(index, weight.chunk(len(index), dim=1), strict=True):
            output += functional.linear(residues, columns).index_select(0, member)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        residues, index, weight = ctx.saved_tensors
        residues_wanted, _, weight_wanted, bias_wanted = ctx.needs_input_grad
        width = residues.shape[1]
        for_residues = torch.zeros_like(residues) if residues_wanted else None
        for_weight = torch.empty_like(weight) if weight_wanted else None
        for number, member in enumerate(index):
            columns = slice(number * width, (number + 1) * width)
            # index_add is summed in a fixed order; the gradient of indexing is not on the CPU.
            by_residue = gradient.new_zeros(len(residues), len(weight)).index_add_(0, member, gradient)
            if for_residues is not None:
                for_residues.addmm_(by_residue, weight[:, columns])
            if for_weight is not None:
                torch.mm(by_residue.T, residues, out=for_weight[:, columns])
        return for_residues, None, for_weight, gradient.sum(dim=0) if bias_wanted else None


class PairScore(nn.Module):
    r"""Scores of pairs of residues from the product of their representations and their distance.

    .. math::
        s_{ab} = \mathrm{MLP}_s([z_a \odot z_b, \mathrm{MLP}_d(d_{ab})])

    The score is symmetric, so that one evaluation serves all edges between two residues. Between the last
    layer of MLP_d and the first layer of MLP_s there is no activation. With many pairs the product of their
    weights is computed once, which saves a layer for every pair.

    Shapes: residues [N, residue_dim], pair int64 [2, P], distance [P] -> [P].
    """

    def __init__(self, residue_dim: int, num_layers: int) -> None:
        super().__init__()
        self.distance = MLP(1, residue_dim, residue_dim, num_layers)
        self.struct = MLP(2 * residue_dim, residue_dim, 1, num_layers)

    def forward(self, residues: Tensor, pair: Tensor, distance: Tensor) -> Tensor:
        """Scores of the pairs ``pair`` of ``residues`` at ``distance``."""
        first, *rest = self.struct.layers
        by_product, by_distance = first.weight.chunk(2, dim=1)  # type: ignore[operator]  # Linear
        product = residues.index_select(0, pair[0]) * residues.index_select(0, pair[1])
        hidden = functional.linear(product, by_product, first.bias)  # type: ignore[arg-type]  # Linear
        hidden = hidden + self._of_distance(distance, by_distance)
        for layer in rest:
            hidden = layer(functional.relu(hidden))
        return hidden.squeeze(1)

    def _of_distance(self, distance: Tensor, weight: Tensor) -> Tensor:
        *inner, last = self.distance.layers
        hidden = distance.unsqueeze(1)
        for layer in inner:
            hidden = functional.relu(layer(hidden))
        if len(distance) <= len(weight):
            return functional.linear(last(hidden), weight)
        return functional.linear(hidden, weight @ last.weight, weight @ last.bias)  # type: ignore[operator]  # Linear
