"""Attention within each sequence of a pack, without padding and without a mask."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Group(NamedTuple):
    """Sequences of equal length that stand next to one another in the pack."""

    num_sequences: int
    length: int
    """Rows of each of them."""


def groups_of(lengths: Tensor) -> tuple[Group, ...]:
    """Neighbouring sequences of equal length, counted; sort by length to get the fewest groups.

    Args:
        lengths: int64 [S], rows of each sequence in the order of the pack.
    """
    return tuple(Group(len(list(same)), length) for length, same in groupby(lengths.tolist()) if length)


def attend(
    query: Tensor, key: Tensor, value: Tensor, groups: tuple[Group, ...], *, dropout: float = 0.0
) -> Tensor:
    """Scaled dot-product attention of each sequence with itself.

    One call per group: what a sequence is packed with cannot touch its result.

    Args:
        query: float [T, heads, head_dim].
        key: float [T, heads, head_dim].
        value: float [T, heads, head_dim].
        groups: the sequences of the pack, T rows in all.
        dropout: share of attention weights dropped.

    Returns:
        float [T, heads, head_dim].
    """
    sizes = [group.num_sequences * group.length for group in groups]
    attended = []
    # One split instead of many slices: the backward pass of each slice would fill all T rows.
    for group, *parts in zip(
        groups, *(torch.split(rows, sizes) for rows in (query, key, value)), strict=True
    ):
        q, k, v = (part.unflatten(0, group).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        attended.append(mixed.transpose(1, 2).flatten(0, 1))
    return torch.cat(attended) if attended else value


def attention_weights(query: Tensor, key: Tensor, groups: tuple[Group, ...]) -> list[Tensor]:
    """The weights that :func:`attend` mixes values with, and never holds.

    Args:
        query: float [T, heads, head_dim].
        key: float [T, heads, head_dim].
        groups: the sequences of the pack, T rows in all.

    Returns:
        For each group float [sequences, heads, length, length], at least float32; rows sum to 1.
    """
    sizes = [group.num_sequences * group.length for group in groups]
    weights = []
    for group, *parts in zip(groups, torch.split(query, sizes), torch.split(key, sizes), strict=True):
        q, k = (part.view(*group, *part.shape[1:]).transpose(1, 2) for part in parts)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        weights.append(scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)))
    return weights
