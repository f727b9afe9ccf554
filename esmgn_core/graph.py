"""Residue graphs, and views of a batch.

Messages flow from row 0 of ``edge_index`` (source) to row 1 (target).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch


@dataclass(frozen=True, slots=True, eq=False)
class ResidueGraph:
    """Graph of the residues of a batch, with several relations.

    Attributes:
        edge_index: int64 [2, E]; row 0 = source, row 1 = target.
        relation: int64 [E], class of each edge, 0 <= relation < num_relations.
        num_relations: number of classes.

    Edges are sorted by target, then relation, then source. The edges of one protein are therefore
    consecutive. A pair of residues may have several relations.
    """

    edge_index: Tensor
    relation: Tensor
    num_relations: int

    def __repr__(self) -> str:
        return f"ResidueGraph({self.num_edges:,} edges, {self.num_relations} relations)"

    @classmethod
    def from_relations(cls, edges: Sequence[Tensor]) -> Self:
        """Build a graph from the edges of each relation, int64 [2, E_r], in the order of their numbers.

        Edges may be in any order. Edges sorted by target, then source, are merged in linear time.
        """
        relation = torch.cat([part.new_full(part.shape[1:], number) for number, part in enumerate(edges)])
        return cls._sorted(torch.cat([*edges], dim=1), relation, len(edges), kind="stable")

    @classmethod
    def from_edges(cls, edge_index: Tensor, relation: Tensor, num_relations: int) -> Self:
        """Build a graph from edges in any order.

        Args:
            edge_index: int64 [2, E].
            relation: int64 [E].
            num_relations: number of classes.
        """
        return cls._sorted(edge_index, relation, num_relations, kind="quicksort")

    @classmethod
    def _sorted(
        cls, edge_index: Tensor, relation: Tensor, num_relations: int, kind: Literal["stable", "quicksort"]
    ) -> Self:
        # One integer key for each edge, target | relation | source in its bits: sorting the keys sorts the
        # edges without their positions.
        source, target = edge_index
        row_bits = int(edge_index.max()).bit_length() if relation.numel() else 0
        group_bits = row_bits + (num_relations - 1).bit_length()
        key = target << group_bits
        key |= relation << row_bits
        key |= source
        # NumPy's quicksort takes a fifth of the time of torch's sort, which sorts the positions too. Its
        # stable sort merges runs that are sorted already.
        on_cpu = key.device.type == "cpu"
        key = torch.from_numpy(np.sort(key.numpy(), kind=kind)) if on_cpu else key.sort().values
        edges = torch.empty_like(edge_index)
        torch.bitwise_and(key, (1 << row_bits) - 1, out=edges[0])
        torch.bitwise_right_shift(key, group_bits, out=edges[1])
        relation = (key >> row_bits).bitwise_and_((1 << group_bits - row_bits) - 1)
        return cls(edges, relation, num_relations)

    @property
    def num_edges(self) -> int:
        """E, the number of edges."""
        return self.relation.shape[0]

    def edge_ptr(self, ptr: Tensor) -> Tensor:
        """Offsets int64 [B + 1]: edges ``edge_ptr[b]:edge_ptr[b + 1]`` are in protein ``b``."""
        return torch.searchsorted(self.edge_index[1].contiguous(), ptr)

    def keep_edges(self, mask: Tensor) -> Self:
        """The graph reduced to the edges of a mask, bool [E]."""
        return replace(self, edge_index=self.edge_index[:, mask], relation=self.relation[mask])

    def select(self, keep: Tensor) -> Self:
        """The subgraph of the residues of a mask, bool [N], renumbered as by ``batch.select``."""
        number = keep.cumsum(0) - 1
        inside = keep[self.edge_index].all(dim=0)
        kept = self.keep_edges(inside)
        return replace(kept, edge_index=number[kept.edge_index])


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One corrupted or cropped copy of a batch, with the targets of its predictions.

    Attributes:
        batch: input of the encoder.
        graph: residue graph for the structure encoder.
        targets: tensors for the ``loss`` of the task, by name.
        part: for a combined task, the name of the task that made the view.
    """

    batch: ProteinBatch
    graph: ResidueGraph
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    part: str = ""
