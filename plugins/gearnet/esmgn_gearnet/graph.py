"""The relational residue graph of GearNet: sequential, radius and nearest-neighbour edges."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.pairs import close_pairs, nearest_pairs
from esmgn_core.settings import ComponentSettings


class RelationalGraph(nn.Module):
    """Draws the edges of GearNet's residue graph.

    With ``max_offset = m`` and d = target - source, counted in residues along the packed protein:

    - relations 0 ... 2m: d = -m ... m, self-loops included (relation m), within one chain only;
    - relation 2m + 1: CA atoms closer than ``radius``;
    - relation 2m + 2: source is one of the ``num_neighbors`` residues nearest to the target.

    Radius and nearest-neighbour edges cross chains freely, but need ``min_separation <= |d|``; the
    nearest neighbours are chosen before that filter. A pair may carry several relations.

    Source: Zhang et al. 2023 (arXiv 2203.06125), section 3.1, with the details of the original code.
    """

    class Settings(ComponentSettings):
        max_offset: int = Field(2, ge=0)
        """Largest sequence distance of a sequential edge."""
        radius: float = Field(10.0, gt=0)
        """Radius edges join CA atoms closer than this, in angstrom."""
        num_neighbors: int = Field(10, ge=1)
        """Nearest neighbours of each residue."""
        min_separation: int = Field(5, ge=0)
        """Smallest sequence distance of a radius or nearest-neighbour edge."""
        max_radius_neighbors: int = Field(32, ge=0)
        """Cap on the radius neighbours of a residue, 0 for none. The original's 32 keeps those first
        in residue order; few residues of real proteins have more."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.num_relations = 2 * settings.max_offset + 3

    @torch.no_grad()
    def forward(self, batch: ProteinBatch) -> ResidueGraph:
        """The residue graph of the batch, on the batch's device."""
        settings = self.settings
        edges = [_sequential(batch, offset) for offset in self._offsets()]
        close = close_pairs(batch, settings.radius)
        near = nearest_pairs(batch, settings.num_neighbors, close)
        if settings.max_radius_neighbors:
            close = close.capped(settings.max_radius_neighbors)
        edges += [pairs.edges(min_separation=settings.min_separation) for pairs in (close, near)]
        relation = torch.cat(
            [batch.ptr.new_full((pairs.shape[1],), number) for number, pairs in enumerate(edges)]
        )
        return ResidueGraph.from_edges(torch.cat(edges, dim=1), relation, self.num_relations)

    def _offsets(self) -> range:
        return range(-self.settings.max_offset, self.settings.max_offset + 1)


def _sequential(batch: ProteinBatch, offset: int) -> Tensor:
    """Edges source -> source + offset within one chain, int64 [2, E]."""
    row = torch.arange(batch.num_residues, device=batch.ptr.device)
    first, last = (row[:-offset], row[offset:]) if offset > 0 else (row[-offset:], row[: len(row) + offset])
    protein, chain = batch.protein_index, batch.chain_index
    same = (protein[first] == protein[last]) & (chain[first] == chain[last])
    return torch.stack([first[same], last[same]])
