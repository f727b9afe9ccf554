"""State of an encoder between its layers, for fusers that exchange rows with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

Inject = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Additions to queries, keys and values before any rotation, float [T, D] each, from the normalized
representations [T, D] that a block projects. Columns are in the order of the block's own projections. With
recomputation a block calls it twice in one pass."""


class LayerSizes(NamedTuple):
    """Sizes of an encoder that runs layer by layer."""

    num_layers: int
    """Number of layers that run."""
    width: int
    """Width of the representations between layers."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerState:
    """Representations between two layers: rows of residues, of added tokens, and others of the encoder.

    Attributes:
        hidden: float [T, D].
        residue_row: int64 [N], the row of each residue.
        token_row: int64 [S], the row of each added token; empty without tokens. A sequence encoder has one
            for each sequence, a structure encoder one for each protein.
        token_protein: int64 [S], the protein of each added token.
        kept: outputs of earlier layers that ``finish`` reads, by number of the layer.
        context: what the encoder computed once for all layers.
    """

    hidden: Tensor
    residue_row: Tensor
    token_row: Tensor
    token_protein: Tensor
    kept: Mapping[int, Tensor] = field(default_factory=dict)
    context: Any = None

    def with_tokens(self, values: Tensor) -> Self:
        """A state whose added tokens have the ``values`` [B, D] of their proteins."""
        rows = values.to(self.hidden.dtype)[self.token_protein]
        return replace(self, hidden=self.hidden.index_copy(0, self.token_row, rows))

    def tokens(self, num_proteins: int) -> Tensor:
        """The mean of the added tokens of each protein, float [B, D]; zero for a protein without any."""
        rows = self.hidden[self.token_row]
        total = rows.new_zeros(num_proteins, rows.shape[1]).index_add(0, self.token_protein, rows)
        number = torch.bincount(self.token_protein, minlength=num_proteins).clamp(min=1)
        return total / number.unsqueeze(1)
