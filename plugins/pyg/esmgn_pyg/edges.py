"""Conversion of a residue graph of several relations to edges and edge features for torch-geometric."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_pyg.library import coalesce, schnet
from esmgn_pyg.settings import DistanceSettings


def plain_edges(graph: ResidueGraph) -> tuple[Tensor, Tensor]:
    """Each ordered pair of residues with an edge once, and its relations.

    Returns:
        int64 [2, P], row 0 = source, row 1 = target, sorted by target, then source;
        float32 [P, R], 1 for every relation of the pair, else 0.
    """
    relations = functional.one_hot(graph.relation, graph.num_relations).float()
    pairs, relations = coalesce(graph.edge_index, relations, reduce="max", sort_by_row=False)
    return pairs, relations


def distances(batch: ProteinBatch, edge_index: Tensor) -> Tensor:
    """CA-CA distance of every edge, float32 [E], in angstrom."""
    source, target = edge_index
    ca = batch.ca.float()
    return (ca[target] - ca[source]).square().sum(dim=1).sqrt()


def edges_within(batch: ProteinBatch, graph: ResidueGraph, cutoff: float) -> tuple[Tensor, Tensor]:
    """Pairs of two residues closer than ``cutoff`` angstrom, and their distances.

    Returns:
        int64 [2, P], sorted as in :func:`plain_edges`; float32 [P], in angstrom.
    """
    pairs, _ = plain_edges(graph)
    distance = distances(batch, pairs)
    kept = (distance < cutoff) & (pairs[0] != pairs[1])
    return pairs[:, kept], distance[kept]


class EdgeFeatures(nn.Module):
    """Features of a pair: its relations, and its distance in Gaussian basis functions."""

    def __init__(self, settings: DistanceSettings, num_relations: int) -> None:
        super().__init__()
        self.bases = schnet.GaussianSmearing(0.0, settings.max_distance, settings.num_distance_bases)
        self.output_dim = num_relations + settings.num_distance_bases

    def forward(self, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, Tensor]:
        """Pairs, int64 [2, P], and their features, float32 [P, output_dim]."""
        pairs, relations = plain_edges(graph)
        return pairs, torch.cat([relations, self.bases(distances(batch, pairs))], dim=1)
