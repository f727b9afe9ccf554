"""The radius graph: edges between close residues, in one relation."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.neighbors import find_neighbors
from esmgn_core.settings import ComponentSettings


class RadiusGraph(nn.Module):
    r"""Builds edges between the residues of a protein whose CA atoms are close.

    .. math::
        j \to i \iff \lVert x_i - x_j \rVert < \mathrm{radius},\ j \ne i,\ |i - j| \ge s

    with s = ``min_separation``. Edges cross chains, and |i - j| counts residues along the packed protein.
    Residues at one point (closer than 1e-10 angstrom) have no edge. The defaults give the graph of the
    study's GVP runs.

    Source: Jing et al. 2021 (arXiv 2009.01411), section 4, with radius and cap of Zhang et al. 2023
    (arXiv 2303.06275).
    """

    class Settings(ComponentSettings):
        radius: float = Field(10.0, gt=0)
        """Upper bound on the CA-CA distance of an edge, in angstrom."""
        max_neighbors: int = Field(32, ge=0)
        """Cap on the neighbours of a residue, 0 for none. It keeps those first in residue order, as in the
        original. Few residues of real proteins have more than 32."""
        min_separation: int = Field(0, ge=0)
        """Smallest sequence distance of an edge. The cap also counts nearer residues."""
        self_loops: bool = False
        """Add an edge from every residue to itself."""

    num_relations = 1

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, batch: ProteinBatch) -> ResidueGraph:
        """The residue graph of the batch, on the batch's device."""
        settings = self.settings
        edges = find_neighbors(
            batch,
            settings.radius,
            max_neighbors=settings.max_neighbors,
            min_separation=settings.min_separation,
        ).close
        if settings.self_loops:
            loops = torch.arange(batch.num_residues, device=batch.ptr.device).expand(2, -1)
            edges = torch.cat([loops, edges], dim=1)
        return ResidueGraph.from_relations([edges])
