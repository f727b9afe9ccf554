"""Gather rows from all processes, with gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class GatheredRows(NamedTuple):
    """Concatenated rows of all processes.

    Attributes:
        rows: [sum of n, D], by rank.
        first: position of this process's first row.
    """

    rows: Tensor
    first: int


def gather_rows(rows: Tensor) -> GatheredRows:
    """Concatenate the rows [n, D] of all processes; n may differ between processes.

    Gradients are summed over processes, as for the sum of the losses of all processes. Without a process
    group the rows are returned unchanged. Every process must make the same number of calls.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return GatheredRows(rows, 0)
    counts = [rows.new_zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, rows.new_full((1,), len(rows), dtype=torch.int64))
    sizes = [int(count) for count in counts]
    gathered: Tensor = _GatherRows.apply(rows, sizes)  # type: ignore[no-untyped-call]  # torch
    return GatheredRows(gathered, sum(sizes[: dist.get_rank()]))


class _GatherRows(torch.autograd.Function):
    """Concatenation over processes; the gradient is this process's part of the summed gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        # all_gather takes tensors of equal shape only.
        longest = max(sizes)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return torch.split(total, ctx.sizes)[dist.get_rank()], None
