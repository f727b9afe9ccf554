"""Injected structure: graph convolutions inside the attention of every block of the sequence encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core import Kind
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.errors import SettingsError
from esmgn_core.graph import ResidueGraph
from esmgn_core.layers import LayerSizes
from esmgn_core.protocols import LayeredEncoder, StructureEncoder
from esmgn_fusion.joined import Joined
from esmgn_fusion.serial import SerialFuser


class InjectFuser(nn.Module):
    r"""Structure inside the sequence encoder, then a structure encoder on its output as in serial fusion.

    Each block has its own extractor. From the normalized representations x of all tokens it computes
    graph convolutions without weights of edges (GIN), whose outputs s are added to queries, keys and values:

    .. math::
        y_j = \mathrm{BN}_j\bigl(\mathrm{MLP}_j\bigl((1 + \epsilon_j) z_{j-1} + \sum_{k \in \mathcal{N}(i)}
              z_{j-1}\bigr)\bigr), \quad z_j = \mathrm{ReLU}(y_j), \quad s = \sum_j O_j y_j

    Tokens that are not residues have no neighbors. The maps of s begin at zero, so that an untrained model
    is the sequence encoder.

    With the structure encoder ``identity`` and the graph ``radius`` of 8 angstrom this is the protein
    structure transformer.

    Source: PST (Chen et al. 2024, arXiv 2401.14819).
    """

    needs_layers: ClassVar = (Kind.SEQ,)

    class Settings(SerialFuser.Settings):
        hops: int = Field(2, ge=1)
        """Graph convolutions of an extractor."""
        relations: tuple[int, ...] = ()
        """Relations whose edges the extractors read; all if empty."""

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
        num_blocks, width = layers[Kind.SEQ]
        self.output_dim = structure_dim + (sequence_dim if settings.output == "both" else 0)
        self.joined = Joined(settings.readout, self.output_dim)
        self.extractors = nn.ModuleList(Extractor(width, settings.hops) for _ in range(num_blocks))

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:
        """The structure encoder reads sequence representations."""
        return sequence_dim

    def forward(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        sequence: LayeredEncoder,
        structure: StructureEncoder,
    ) -> Encoding:
        """The joint encoding, [N, output_dim] and [B, output_dim]."""
        pairs = self._pairs(graph, batch.num_residues)
        state = sequence.embed(batch)
        edges = state.residue_row[pairs]
        for number, extractor in enumerate(self.extractors, start=1):
            state = sequence.block(number, state, Injection(extractor, edges))
        first = sequence.finish(state)
        second = structure(batch, graph, first.residue)
        if self.settings.output == "structure":
            return second
        encoding: Encoding = self.joined(batch, first, second)
        return encoding

    def _pairs(self, graph: ResidueGraph, num_residues: int) -> Tensor:
        """Distinct pairs of neighbors, int64 [2, P]: no self-loops, and one edge for several relations."""
        source, target = graph.edge_index
        keep = source != target
        if self.settings.relations:
            if max(self.settings.relations) >= graph.num_relations:
                raise SettingsError(
                    f"the graph has relations 0 to {graph.num_relations - 1}, and fuse.relations asks for "
                    f"{max(self.settings.relations)}",
                    "choose from them: --set 'fuse.relations=[0]'",
                )
            wanted = torch.zeros(graph.num_relations, dtype=torch.bool, device=source.device)
            wanted[list(self.settings.relations)] = True
            keep &= wanted[graph.relation]
        key = torch.unique(target[keep] * max(num_residues, 1) + source[keep])
        return torch.stack([key % max(num_residues, 1), key // max(num_residues, 1)])


class Injection:
    """Additions of one extractor in one pass of a block, which may be recomputed for its gradient.

    Only the first call changes statistics of batch normalizations.

    Args:
        extractor: computes s.
        edges: rows of neighbors among the tokens, int64 [2, P].
    """

    def __init__(self, extractor: nn.Module, edges: Tensor) -> None:
        self._extractor, self._edges, self._called = extractor, edges, False

    def __call__(self, normalized: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Additions to queries, keys and values, float [T, D] each."""
        again, self._called = self._called, True
        additions: tuple[Tensor, Tensor, Tensor] = self._extractor(normalized, self._edges, again=again)
        return additions


class Extractor(nn.Module):
    """The graph convolutions of one block, and the maps of their output to queries, keys and values."""

    def __init__(self, width: int, hops: int) -> None:
        super().__init__()
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(hops)
        )
        self.eps = nn.Parameter(torch.zeros(hops))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(hops))
        self.outputs = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(hops))
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        for projection in (self.query, self.key, self.value):
            nn.init.zeros_(projection.weight)

    def forward(self, hidden: Tensor, edges: Tensor, *, again: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Additions to queries, keys and values, float [T, D] each, from representations [T, D].

        With ``again``, statistics of batch normalizations do not change.
        """
        source, target = edges
        structure = torch.zeros_like(hidden)
        for eps, mlp, norm, output in zip(self.eps, self.mlps, self.norms, self.outputs, strict=True):
            summed = torch.zeros_like(hidden).index_add(0, target, hidden[source])
            update = _normalized(norm, mlp((1 + eps) * hidden + summed), again=again)
            structure = structure + output(update)
            hidden = functional.relu(update).to(structure.dtype)
        return self.query(structure), self.key(structure), self.value(structure)


def _normalized(norm: nn.Module, rows: Tensor, *, again: bool) -> Tensor:
    if again and norm.training and isinstance(norm, nn.BatchNorm1d):
        assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101, PT018
        # Copies, because recomputation has to save as many tensors as the first pass.
        statistics = norm.running_mean.clone(), norm.running_var.clone()
        return functional.batch_norm(rows, *statistics, norm.weight, norm.bias, training=True, eps=norm.eps)
    normalized: Tensor = norm(rows)
    return normalized
