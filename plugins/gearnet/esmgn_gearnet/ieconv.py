"""Intrinsic-extrinsic convolution: a learned filter for every edge."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

_MAX_PRODUCTS_PER_BLOCK = 8_000_000


class IEConv(nn.Module):
    r"""Convolution whose filters are a function of the relative position of two residues.

    With h = BN(x), w = ``hidden_dim`` and f_e the features of edge e = (j -> i):

    .. math::
        m_e &= \mathrm{ReLU}(\mathrm{BN}(V\,\mathrm{ReLU}(h_j) + c)), \qquad
        [k_e, K_e] = B\,\mathrm{ReLU}(A f_e + a) + d \\
        s_i &= \sum_{e \to i} K_e m_e + k_e, \qquad
        y_i = \mathrm{BN}(U\,\mathrm{ReLU}(\mathrm{BN}(s_i)) + u)

    with dropout after each ReLU but that of the filters. The filters are never computed: K_e is linear in
    q_e = ReLU(A f_e + a), so that s_i is a linear map of the sum over edges of the outer products of
    [q_e, 1] and [1, m_e].

    Shapes: features [N, input_dim], edge features [E, edge_dim] -> [N, output_dim].

    Source: Hermosilla et al. 2021 (arXiv 2007.06252), as in Zhang et al. 2023 (arXiv 2203.06125),
    appendix.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        *,
        edge_dim: int,
        kernel_hidden_dim: int = 32,
        dropout: float = 0.05,
        dropout_before_conv: float = 0.2,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.input_batch_norm = nn.BatchNorm1d(input_dim)
        self.input_linear = nn.Linear(input_dim, hidden_dim)
        self.message_batch_norm = nn.BatchNorm1d(hidden_dim)
        self.kernel_in = nn.Linear(edge_dim, kernel_hidden_dim)
        self.kernel_out = nn.Linear(kernel_hidden_dim, (hidden_dim + 1) * hidden_dim)
        self.update_batch_norm = nn.BatchNorm1d(hidden_dim)
        self.output_linear = nn.Linear(hidden_dim, output_dim)
        self.output_batch_norm = nn.BatchNorm1d(output_dim)
        self.dropout = nn.Dropout(dropout)
        self.dropout_before_conv = nn.Dropout(dropout_before_conv)

    def forward(self, edge_index: Tensor, features: Tensor, edge_features: Tensor) -> Tensor:
        """Convolve ``features`` along edges int64 [2, E], sorted by target."""
        source, target = edge_index
        hidden = self.dropout(functional.relu(self.input_batch_norm(features)))
        message = self.input_linear(hidden)[source]
        if len(source):
            message = self.message_batch_norm(message)
        message = self.dropout_before_conv(functional.relu(message))
        code = functional.relu(self.kernel_in(edge_features.to(message.dtype)))
        update = self._filtered(target.contiguous(), code, message, len(features))
        update = self.dropout(functional.relu(self.update_batch_norm(update)))
        output: Tensor = self.output_batch_norm(self.output_linear(update))
        return output

    def _filtered(self, target: Tensor, code: Tensor, message: Tensor, num_residues: int) -> Tensor:
        """Sums of K_e m_e + k_e at each residue, float [N, w], in blocks of residues."""
        code, message = functional.pad(code, (0, 1), value=1.0), functional.pad(message, (1, 0), value=1.0)
        first_edge = torch.searchsorted(target, torch.arange(num_residues + 1, device=target.device))
        first_of = first_edge.tolist()
        weight = self._product_weight()
        updates = [message.new_empty(0, self.hidden_dim)]
        for first, last in self._blocks(num_residues, code.shape[1]):
            edges = slice(first_of[first], first_of[last])
            bounds = first_edge[first : last + 1] - edges.start
            # Products take as much memory as filters would: the backward pass recomputes them.
            updates.append(
                checkpoint(_products, bounds, code[edges], message[edges], weight, use_reentrant=False)
            )
        return torch.cat(updates)

    def _product_weight(self) -> Tensor:
        """Weight of the outer products, float [(q + 1) * (w + 1), w], from the weight of the filters."""
        weight = torch.cat([self.kernel_out.weight, self.kernel_out.bias.unsqueeze(1)], dim=1)
        # The first w rows of the weight give k_e, the others K_e row by row: [1 + output, input, code].
        filters = weight.view(self.hidden_dim + 1, self.hidden_dim, -1)
        bias, matrix = filters[:1], filters[1:]
        return torch.cat([bias.permute(2, 0, 1), matrix.permute(2, 1, 0)], dim=1).flatten(0, 1)

    def _blocks(self, num_residues: int, code_dim: int) -> Iterator[tuple[int, int]]:
        size = max(1, _MAX_PRODUCTS_PER_BLOCK // (code_dim * (self.hidden_dim + 1)))
        for first in range(0, num_residues, size):
            yield first, min(first + size, num_residues)


def _products(bounds: Tensor, code: Tensor, message: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of outer products over the edges ``bounds[i]:bounds[i + 1]`` of each residue i.

    Edges are padded to the largest degree, so that one batched matrix product sums them.
    """
    degree = bounds.diff()
    residue = torch.arange(len(degree), device=degree.device).repeat_interleave(degree)
    slot = torch.arange(len(code), device=degree.device) - bounds[residue]
    size = (len(degree), int(degree.max()))
    row = residue * size[1] + slot
    left = code.new_zeros(math.prod(size), code.shape[1]).index_copy(0, row, code)
    right = message.new_zeros(math.prod(size), message.shape[1]).index_copy(0, row, message)
    products = left.view(*size, code.shape[1]).mT @ right.view(*size, message.shape[1])
    return products.flatten(1) @ weight
