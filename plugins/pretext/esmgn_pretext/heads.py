"""Prediction heads: plain ReLU perceptrons on residues and on tuples of residues."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
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
        hidden: Tensor = self.first.bias
        for member, weight in zip(index, self.first.weight.chunk(self.arity, dim=1), strict=True):
            # The gradient of index_select is summed in a fixed order; that of indexing is not on the CPU.
            hidden = hidden + functional.linear(residues, weight).index_select(0, member)
        for layer in self.layers:
            hidden = layer(functional.relu(hidden))
        return hidden


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
