"""The relational graph convolution of GearNet."""

from __future__ import annotations

from torch import Tensor, nn

from esmgn_gearnet.neighborhoods import Grouping, Neighborhoods, relational_sum
from esmgn_gearnet.normalize import normalized
from esmgn_gearnet.pooled_edges import pooled_edges


class RelationalConv(nn.Module):
    r"""One relational convolution with batch normalisation.

    .. math::
        h_i = \mathrm{ReLU}\Bigl(\mathrm{BN}\Bigl(W_\mathrm{self} x_i
              + \sum_r W_r \sum_{j \in \mathcal{N}_r(i)} x_j + b\Bigr)\Bigr)

    Sums are not normalised by degree. ``linear`` holds the W_r side by side, relation ``r`` in columns
    ``r * d`` to ``(r + 1) * d``.

    Shapes: features [N, input_dim] -> [N, output_dim].

    Source: Zhang et al. 2023 (arXiv 2203.06125), equation 1.
    """

    def __init__(self, input_dim: int, output_dim: int, num_relations: int) -> None:
        super().__init__()
        self.self_loop = nn.Linear(input_dim, output_dim)
        self.linear = nn.Linear(num_relations * input_dim, output_dim)
        self.batch_norm = nn.BatchNorm1d(output_dim)

    def forward(
        self,
        neighborhoods: Neighborhoods,
        features: Tensor,
        shortcut: Tensor | None = None,
        outer: nn.Module | None = None,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Convolve ``features`` along the edges.

        Args:
            neighborhoods: the edges.
            features: float [N, input_dim].
            shortcut: float [N, output_dim], added to h; ``None`` for none.
            outer: batch normalisation of the sum; ``None`` for none.
            kept: a copy of ``features`` that stays in memory, for the backward pass to read instead.
        """
        update = self.update(neighborhoods, features, kept)
        return normalized(update, self.batch_norm, shortcut, outer, kept if shortcut is features else None)

    def update(self, neighborhoods: Neighborhoods, features: Tensor, kept: Tensor | None = None) -> Tensor:
        """The linear part before normalisation, float [N, output_dim]."""
        return relational_sum(
            neighborhoods,
            features,
            self.self_loop.weight,
            self.linear.weight,
            self.linear.bias + self.self_loop.bias,
            kept,
        )

    def from_edges(self, edges: Grouping, features: Tensor) -> Tensor:
        """Apply ``linear`` to the sums of the representations of incoming edges, float [N, output_dim].

        Args:
            edges: E edges, grouped by target.
            features: float [E, input_dim].
        """
        return pooled_edges(edges, features, self.linear.weight, self.linear.bias)
