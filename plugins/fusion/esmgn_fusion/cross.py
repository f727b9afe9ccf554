"""Cross fusion: attention over the sequence and structure representations of all residues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
from esmgn_core.attention import attend, pack_of
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.protocols import SequenceEncoder, StructureEncoder
from esmgn_core.readout import ProteinReadout, Readout
from esmgn_core.settings import ComponentSettings
from esmgn_core.weights import common_length


class CrossFuser(nn.Module):
    """Joint self-attention over 2n tokens of a protein: n of the sequence and n of the structure.

    Both encodings are projected to ``cross_dim``. Every token attends to all 2n tokens of its protein. The
    representation of a residue is the concatenated output of its two tokens. As in the published code, the
    block has additional projections before the input projections of the attention, and no residual
    connection, normalisation or feed-forward part. The original did not train these weights. With
    ``reference`` they are not trained either; gradients pass through them to both encoders.

    Shapes: residue [N, 2 * cross_dim], protein [B, 2 * cross_dim].

    Source: arXiv 2303.06275, section 3.3, with the details of the original code.
    """

    class Settings(ComponentSettings):
        cross_dim: int = Field(512, ge=1)
        """Width of the attention block. The output is twice as wide."""
        attention_heads: int = Field(8, ge=1)
        """Attention heads."""
        dropout: float = Field(0.1, ge=0, lt=1)
        """Share of attention weights dropped in training."""
        readout: Readout = "sum"
        """Pooling of residues into a protein."""
        reference: bool = False
        """Do not train the projections and the attention: the original's optimiser did not include them."""

        @model_validator(mode="after")
        def _heads_fit(self) -> Self:
            if self.cross_dim % self.attention_heads:
                raise ValueError("cross_dim must be a multiple of attention_heads")
            return self

    def __init__(self, settings: Settings, *, sequence_dim: int, structure_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.output_dim = 2 * settings.cross_dim
        self.readout = ProteinReadout(settings.readout, self.output_dim)
        self.seq_linear = nn.Linear(sequence_dim, settings.cross_dim)
        self.struct_linear = nn.Linear(structure_dim, settings.cross_dim)
        self.attn = JointAttention(settings.cross_dim, settings.attention_heads, settings.dropout)
        if settings.reference:
            for part in (self.seq_linear, self.struct_linear, self.attn):
                part.requires_grad_(requires_grad=False)

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:  # noqa: ARG003 - the contract's argument
        """The structure encoder reads one-hot residue types."""
        return NUM_RESIDUE_FEATURES

    @classmethod
    def published_settings(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """Width of the attention block in a published file; ``None`` if tensors are missing."""
        width = common_length(tensors, r"(seq_linear|struct_linear|attn\.\w+)\.bias")
        return {"cross_dim": width} if width else None

    def forward(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        sequence: SequenceEncoder,
        structure: StructureEncoder,
    ) -> Encoding:
        """The joint encoding, [N, output_dim] and [B, output_dim]."""
        first = self.seq_linear(sequence(batch).residue)
        second = self.struct_linear(structure(batch, graph, batch.residue_one_hot).residue)
        rows, lengths = _token_rows(batch)
        mixed = self.attn(torch.cat([first, second])[rows], lengths)
        back = torch.empty_like(rows).index_copy(0, rows, torch.arange(len(rows), device=rows.device))
        residue = torch.cat(mixed[back].chunk(2), dim=1)
        encoding: Encoding = self.readout(residue, batch)
        return encoding


class JointAttention(nn.Module):
    """Multi-head self-attention with an additional projection before each of its inputs.

    Parameters have the names of the original, so that published weights load without renaming.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attn = nn.MultiheadAttention(width, num_heads, dropout=dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Mix tokens, float [T, width], within each of the sequences of ``lengths`` rows."""
        block = self.attn
        weights, biases = block.in_proj_weight.chunk(3), block.in_proj_bias.chunk(3)
        inputs = (self.query(tokens), self.key(tokens), self.value(tokens))
        query, key, value = (
            functional.linear(values, weight, bias).view(len(tokens), block.num_heads, -1)
            for values, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        dropout = block.dropout if self.training else 0.0
        mixed = attend(query, key, value, pack_of(lengths), dropout=dropout)
        output: Tensor = block.out_proj(mixed.flatten(1))
        return output


def _token_rows(batch: ProteinBatch) -> tuple[Tensor, Tensor]:
    """Order of 2N tokens in which those of a protein are consecutive, shortest protein first.

    Attention runs on packs of sequences sorted by length.

    Returns:
        int64 [2N], rows of the N sequence tokens followed by the N structure tokens; and int64 [B],
        tokens of each protein in that order.
    """
    lengths, order = batch.lengths.sort(stable=True)
    rank = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))
    of_residue = rank[batch.protein_index]
    # Sequence tokens of a protein before its structure tokens, residues in their order.
    rows = torch.cat([2 * of_residue, 2 * of_residue + 1]).argsort(stable=True)
    return rows, 2 * lengths
