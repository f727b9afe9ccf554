"""Token fusion: one vector of a protein travels between sequence and structure encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core import Kind
from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.errors import SettingsError
from esmgn_core.graph import ResidueGraph
from esmgn_core.layers import LayerSizes
from esmgn_core.protocols import LayeredEncoder, LayeredStructure
from esmgn_core.settings import ComponentSettings
from esmgn_fusion.joined import Joined, JointReadout


class TokenFuser(nn.Module):
    """A token in every sequence that is also a node of every residue graph.

    With a sequence encoder of width D and a structure encoder of K layers of width H, the token begins as a
    learned vector t in front of the end of each sequence. After K chosen blocks its row goes down to the
    structure encoder, by a linear map from the second time on, where it is joined to all residues for one
    layer. The result goes up by another linear map and replaces the row of the sequence. Residues keep their
    rows in both encoders: residue i is [s_i, g_i], the protein [s, g], without the token. The structure
    encoder reads normalized linear maps of one-hot residue types.

    In a protein of several sequences, the mean of their tokens goes down, and each gets the same value back.

    Source: FusionProt (Kalifa et al. 2025, github.com/kalifadan/FusionProt). There, the token of a shorter
    protein is behind its padding, and fine-tuning does not train the fusion (``reference``).
    """

    needs_layers: ClassVar = (Kind.SEQ, Kind.STRUCT)

    class Settings(ComponentSettings):
        after: Literal["auto"] | tuple[int, ...] = "auto"
        """Blocks of the sequence encoder, from 1, after which the token visits the structure encoder: one
        for each of its layers. ``auto`` spreads them evenly and leaves two blocks at the end where it can."""
        token_relation: int = Field(1, ge=0)
        """Relation of the edges between token and residues. 1, as published, shares the weights of the edge
        from the previous residue."""
        init_std: float = Field(0.01, ge=0)
        """Standard deviation of the initial token."""
        readout: JointReadout = "encoders"
        """Representation of a protein: ``encoders`` concatenates the proteins of both encoders; the others
        pool the concatenated residues."""
        reference: bool = False
        """Do not train the fusion itself, as the published fine-tuning."""

    def __init__(
        self,
        settings: Settings,
        *,
        sequence_dim: int,
        structure_dim: int,
        layers: Mapping[Kind, LayerSizes],
    ) -> None:
        super().__init__()
        self.settings = settings
        self.output_dim = sequence_dim + structure_dim
        self.joined = Joined(settings.readout, self.output_dim)
        self._num_blocks, width = layers[Kind.SEQ]
        self._after = visits(settings.after, self._num_blocks, layers[Kind.STRUCT].num_layers)
        if sequence_dim != width:
            raise SettingsError(
                f"token fusion reads one layer of the sequence encoder: {width} numbers, not {sequence_dim}",
                "name one: --set 'seq.layers=[-1]'",
            )
        hidden_dim = layers[Kind.STRUCT].width
        self.token = nn.Parameter(settings.init_std * torch.randn(width))
        self.features = nn.Linear(NUM_RESIDUE_FEATURES, width)
        self.norm = nn.BatchNorm1d(width)
        self.down = nn.ModuleList(nn.Linear(width, hidden_dim) for _ in self._after[1:])
        # After the last block nobody reads the row of the token.
        self.up = nn.ModuleList(
            nn.Linear(hidden_dim, width) for block in self._after if block < self._num_blocks
        )
        if settings.reference:
            self.requires_grad_(requires_grad=False)

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:
        """The structure encoder reads features as wide as the sequence encoder, because the token is."""
        return sequence_dim

    def forward(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        sequence: LayeredEncoder,
        structure: LayeredStructure,
    ) -> Encoding:
        """The joint encoding, [N, output_dim] and [B, output_dim]."""
        above = sequence.embed(batch, self.token.expand(len(batch), -1))
        features, below, done = self._features(batch), None, 0
        for layer, block in enumerate(self._after, start=1):
            while done < block:
                done += 1
                above = sequence.block(done, above)
            token = above.tokens(len(batch))
            if below is None:
                below = structure.begin(batch, graph, features, token, self.settings.token_relation)
            else:
                below = below.with_tokens(self.down[layer - 2](token))
            below = structure.layer(layer, below)
            if block < self._num_blocks:
                above = above.with_tokens(self.up[layer - 1](below.tokens(len(batch))))
        while done < self._num_blocks:
            done += 1
            above = sequence.block(done, above)
        assert below is not None  # noqa: S101 - a structure encoder has at least one layer
        encoding: Encoding = self.joined(batch, sequence.finish(above), structure.finish(below))
        return encoding

    def _features(self, batch: ProteinBatch) -> Tensor:
        one_hot = batch.residue_one_hot.to(self.features.weight.dtype)
        features: Tensor = self.norm(self.features(one_hot))
        return features


def visits(after: Literal["auto"] | tuple[int, ...], num_blocks: int, num_layers: int) -> tuple[int, ...]:
    """Numbers of the blocks after which the token visits the layers of the structure encoder.

    >>> visits("auto", 33, 6)
    (6, 11, 16, 21, 26, 31)

    Raises:
        SettingsError: they are not ``num_layers`` increasing numbers up to ``num_blocks``.
    """
    if after == "auto":
        last = max(num_blocks - 2, num_layers)
        after = tuple(math.ceil(number * last / num_layers) for number in range(1, num_layers + 1))
    increasing = all(first < second for first, second in zip((0, *after), after, strict=False))
    if len(after) != num_layers or not increasing or after[-1] > num_blocks:
        raise SettingsError(
            f"the token visits {num_layers} layers of the structure encoder after as many blocks of the "
            f"sequence encoder, increasing numbers from 1 to {num_blocks}, not {list(after)}",
            "choose others: --set fuse.after=auto, or fewer layers: --set struct.num_layers=NUMBER",
        )
    return after
