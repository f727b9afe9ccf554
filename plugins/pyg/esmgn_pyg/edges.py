"""From a residue graph of several relations to the edges and edge features of torch-geometric."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_pyg.library import GaussianSmearing


class PlainEdges(NamedTuple):
    """Ordered pairs of residues, each once.

    Attributes:
        pairs: int64 [2, P]; row 0 = source, row 1 = target; sorted by target, then source.
        relations: float32 [P, R], 1 for every relation that joins the pair, else 0.
    """

    pairs: Tensor
    relations: Tensor


def plain_edges(graph: ResidueGraph) -> PlainEdges:
    """The pairs of a residue graph: relations that join the same pair become one edge."""
    source, target = graph.edge_index
    width = int(source.max()) + 1 if source.numel() else 1
    number, pair_of_edge = (target * width + source).unique(return_inverse=True)
    relations = torch.zeros(len(number), graph.num_relations, device=source.device)
    relations[pair_of_edge, graph.relation] = 1.0
    return PlainEdges(torch.stack([number % width, number // width]), relations)


def distances(batch: ProteinBatch, edge_index: Tensor) -> Tensor:
    """CA-CA distance of every edge, float32 [E], in angstrom."""
    source, target = edge_index
    ca = batch.ca.float()
    return (ca[target] - ca[source]).square().sum(dim=1).sqrt()


def edges_within(batch: ProteinBatch, graph: ResidueGraph, cutoff: float) -> tuple[Tensor, Tensor]:
    """Pairs of two residues closer than ``cutoff`` angstrom, and their distances.

    Returns:
        int64 [2, P] as in :class:`PlainEdges`; float32 [P], in angstrom.
    """
    pairs = plain_edges(graph).pairs
    distance = distances(batch, pairs)
    kept = (distance < cutoff) & (pairs[0] != pairs[1])
    return pairs[:, kept], distance[kept]


class EdgeFeatures(nn.Module):
    """What an edge knows: the relations that join the pair, and its length in Gaussian bases.

    Args:
        num_relations: R.
        num_bases: K basis functions.
        max_distance: centre of the last one, in angstrom.
    """

    def __init__(self, num_relations: int, num_bases: int, max_distance: float) -> None:
        super().__init__()
        self.bases = GaussianSmearing(0.0, max_distance, num_bases)
        self.output_dim = num_relations + num_bases

    def forward(self, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, Tensor]:
        """Pairs, int64 [2, P], and their features, float32 [P, R + K]."""
        edges = plain_edges(graph)
        bases = self.bases(distances(batch, edges.pairs))
        return edges.pairs, torch.cat([edges.relations, bases], dim=1)
