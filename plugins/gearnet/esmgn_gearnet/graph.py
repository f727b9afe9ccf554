"""The relational residue graph of GearNet: sequential, radius and nearest-neighbour edges."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.neighbors import find_neighbors
from esmgn_core.settings import ComponentSettings


class RelationalGraph(nn.Module):
    """Builds GearNet's residue graph.

    With ``max_offset = m`` and d = target - source, counted in residues along the packed protein:

    - relations 0 ... 2m: d = -m ... m, self-loops included (relation m), within one chain only;
    - relation 2m + 1: CA atoms closer than ``radius``;
    - relation 2m + 2: source is one of the ``num_neighbors`` residues nearest to the target.

    Radius and nearest-neighbour edges cross chains, but need ``|d| >= min_separation``. Nearest neighbours
    are chosen before that filter. A pair may have several relations.

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
        """Cap on the radius neighbours of a residue, 0 for none. It keeps those first in residue order, as in
        the original. Few residues of real proteins have more than 32."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.num_relations = 2 * settings.max_offset + 3

    def forward(self, batch: ProteinBatch) -> ResidueGraph:
        """The residue graph of the batch, on the batch's device."""
        return self._graph(batch, _sequential(batch, self.settings.max_offset))

    def edges_into(self, batch: ProteinBatch, residues: Tensor) -> ResidueGraph:
        """The edges of the graph whose targets are some residues, a mask bool [N]."""
        sequential = _sequential(batch, self.settings.max_offset)
        return self._graph(batch, [edges[:, residues[edges[1]]] for edges in sequential], residues)

    def _graph(self, batch: ProteinBatch, edges: list[Tensor], into: Tensor | None = None) -> ResidueGraph:
        """Join sequential edges and those by distance."""
        settings = self.settings
        close, nearest = find_neighbors(
            batch,
            settings.radius,
            num_nearest=settings.num_neighbors,
            max_neighbors=settings.max_radius_neighbors,
            min_separation=settings.min_separation,
            into=into,
        )
        return ResidueGraph.from_relations([*edges, close, nearest])


def _sequential(batch: ProteinBatch, max_offset: int) -> list[Tensor]:
    """Edges source -> source + offset within one chain, int64 [2, E] for each offset from -m to m."""
    row = torch.arange(batch.num_residues, device=batch.ptr.device)
    protein, chain = batch.protein_index, batch.chain_index
    new = (protein[1:] != protein[:-1]) | (chain[1:] != chain[:-1])
    run = torch.cat([row[:1], new.cumsum(0)])
    edges = [row.expand(2, -1)]
    for offset in range(1, max_offset + 1):
        first = (run[:-offset] == run[offset:]).nonzero().flatten()
        edges = [torch.stack([first + offset, first]), *edges, torch.stack([first, first + offset])]
    return edges
