"""Attention within each sequence of a pack, without padding or masks.

On CUDA in half precision, one kernel processes the whole pack (``torch.nn.attention.varlen``, if this
PyTorch has it). Elsewhere, one call processes all consecutive sequences of equal length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

VarlenAttention = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int], Tensor]
"""``torch.nn.attention.varlen.varlen_attn``: query, key, value, offsets and longest lengths."""

_VARLEN_TYPES = (torch.float16, torch.bfloat16)
_VARLEN_CAPABILITY = (8, 0)
_MAX_WEIGHTS = 2**24
"""Attention weights that are held at a time for dropout on the CPU."""


class Group(NamedTuple):
    """Consecutive sequences of equal length in a pack."""

    num_sequences: int
    length: int
    """Rows of each sequence."""


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Positions of the S sequences in a pack of T rows; empty sequences are left out.

    Attributes:
        groups: the sequences in order, grouped by length.
        ptr: int32 [S + 1], first row of each sequence, then T.
    """

    groups: tuple[Group, ...]
    ptr: Tensor

    @property
    def longest(self) -> int:
        """Rows of the longest sequence."""
        return max((group.length for group in self.groups), default=0)


def pack_of(lengths: Tensor) -> Pack:
    """Describe a pack of sequences of these lengths, in this order.

    Args:
        lengths: int64 [S], rows of each sequence. Sort them to get the fewest groups.
    """
    counted = groupby(length for length in lengths.tolist() if length)
    ptr = torch.cat([lengths.new_zeros(1), lengths[lengths > 0].cumsum(0)])
    return Pack(tuple(Group(len(list(same)), length) for length, same in counted), ptr.to(torch.int32))


def attend(query: Tensor, key: Tensor, value: Tensor, pack: Pack, *, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention of each sequence with itself.

    The result for a sequence does not depend on the other sequences of the pack.

    Args:
        query: float [T, heads, head_dim].
        key: float [T, heads, head_dim].
        value: float [T, heads, head_dim].
        pack: the sequences, T rows in total.
        dropout: fraction of attention weights that are dropped.

    Returns:
        float [T, heads, head_dim].
    """
    if takes_varlen(query, dropout) and (kernel := varlen_attention()) is not None:
        return kernel(query, key, value, pack.ptr, pack.ptr, pack.longest, pack.longest)
    attended = []
    # One split, not many slices: the backward pass of each slice would fill all T rows.
    for q, k, v in _by_group(pack, query, key, value):
        mixed = _attended(q, k, v, dropout)
        attended.append(mixed.transpose(1, 2).flatten(0, 1))
    if len(attended) == 1:
        return attended[0]
    return torch.cat(attended) if attended else value


def _attended(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Attention of sequences of equal length, [sequences, heads, length, head_dim]."""
    attention = functional.scaled_dot_product_attention
    size = max(1, _MAX_WEIGHTS // max(query[..., 0].numel() // query.shape[2] * key.shape[2], 1))
    if not dropout or query.device.type != "cpu" or query.shape[2] <= size:
        return attention(query, key, value, dropout_p=dropout)
    # With dropout, the CPU kernel holds all weights. Take some queries at a time, and recompute their weights
    # in the backward pass.
    parts = [
        checkpoint(attention, part, key, value, dropout_p=dropout, use_reentrant=False)
        for part in torch.split(query, size, dim=2)
    ]
    return torch.cat(parts, dim=2)


def attention_weights(query: Tensor, key: Tensor, pack: Pack) -> list[Tensor]:
    """Attention weights of :func:`attend`, which does not store them.

    Args:
        query: float [T, heads, head_dim].
        key: float [T, heads, head_dim].
        pack: the sequences, T rows in total.

    Returns:
        For each group, float [sequences, heads, length, length], float32 or float64; rows sum to 1.
    """
    weights = []
    for q, k in _by_group(pack, query, key):
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        weights.append(scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)))
    return weights


def _by_group(pack: Pack, *rows: Tensor) -> list[tuple[Tensor, ...]]:
    """Part of every tensor for each group, [sequences, heads, length, head_dim]."""
    sizes = [group.num_sequences * group.length for group in pack.groups]
    parts = zip(pack.groups, *(torch.split(tensor, sizes) for tensor in rows), strict=True)
    return [
        tuple(part.view(*group, *part.shape[1:]).transpose(1, 2) for part in of_group)
        for group, *of_group in parts
    ]


def takes_varlen(query: Tensor, dropout: float) -> bool:
    """True if the kernel for whole packs supports a query: half precision, no dropout, Ampere or later."""
    if query.device.type != "cuda" or query.dtype not in _VARLEN_TYPES or dropout or query.shape[-1] % 8:
        return False
    return torch.cuda.get_device_capability(query.device) >= _VARLEN_CAPABILITY


@lru_cache(maxsize=1)
def varlen_attention() -> VarlenAttention | None:
    """The kernel for whole packs; ``None`` if this PyTorch does not have it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None

    return cast(VarlenAttention, varlen_attn)
