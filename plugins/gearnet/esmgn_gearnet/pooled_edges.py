"""Sums of the representations of incoming edges, multiplied by relation weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from esmgn_gearnet.neighborhoods import Grouping, add_product, autocast


def pooled_edges(edges: Grouping, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    r"""Weighted sums over incoming edges.

    .. math:: y_i = b + \sum_r W_r \sum_{e \in \mathcal{N}_r(i)} z_e

    As in :func:`~esmgn_gearnet.neighborhoods.relational_sum`, the sums are computed block by block, and the
    backward pass keeps only ``features``.

    Args:
        edges: E edges, grouped by N targets and R relations.
        features: float [E, d], z.
        weight: float [k, R * d], W_r in columns ``r * d`` to ``(r + 1) * d``.
        bias: float [k].

    Returns:
        float [N, k].
    """
    summed: Tensor = _PooledEdges.apply(edges, *autocast(features, weight, bias))  # type: ignore[no-untyped-call]  # the library does not annotate it
    return summed


class _PooledEdges(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edges: Grouping, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.edges = edges
        output = features.new_empty(edges.num_nodes, weight.shape[0])
        for block in edges.blocks(features):
            torch.addmm(bias, block.sum_edges(features), weight.T, out=output[block.rows])
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        _, features_wanted, weight_wanted, bias_wanted = ctx.needs_input_grad
        precise = torch.promote_types(weight.dtype, torch.float32)
        for_weight = torch.zeros_like(weight, dtype=precise) if weight_wanted else None
        for_features = torch.empty_like(features) if features_wanted else None
        for block in ctx.edges.blocks(features):
            if for_features is not None:
                by_group = (gradient[block.rows] @ weight).view(-1, features.shape[1])
                for_features[block.edges] = by_group.repeat_interleave(block.offsets.diff(), dim=0)
            if for_weight is not None:
                add_product(for_weight, gradient[block.rows].T, block.sum_edges(features))
        if for_weight is not None:
            for_weight = for_weight.to(weight.dtype)
        return None, for_features, for_weight, gradient.sum(dim=0) if bias_wanted else None
