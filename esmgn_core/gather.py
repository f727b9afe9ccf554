"""Rows of all processes, with gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class GatheredRows(NamedTuple):
    """Rows of all processes end to end, and the first of them that this process gave."""

    rows: Tensor
    first: int


def gather_rows(rows: Tensor) -> GatheredRows:
    """The rows [n, D] of every process; processes may differ in n.

    Where the losses of all processes are added up, each row gets its gradient from all of them. A
    process alone gets its own rows back. Every process must call it equally often.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return GatheredRows(rows, 0)
    counts = [rows.new_zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, rows.new_full((1,), len(rows), dtype=torch.int64))
    sizes = [int(count) for count in counts]
    gathered: Tensor = _GatherRows.apply(rows, sizes)  # type: ignore[no-untyped-call]  # torch
    return GatheredRows(gathered, sum(sizes[: dist.get_rank()]))


class _GatherRows(torch.autograd.Function):
    """Concatenation over processes; its gradient is this process's share of their sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
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
