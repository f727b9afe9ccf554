"""Input features of edges for GearNet-Edge and GearNet-IEConv."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from esmgn_core.alphabet import AMINO_ACIDS, MASKED, UNKNOWN
from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph

UnknownType = Literal["X", "G"]

_FARTHEST = 10


def edge_feature_dim(num_relations: int) -> int:
    """Width of the edge features: 59 with seven relations."""
    return 2 * len(AMINO_ACIDS) + num_relations + _FARTHEST + 1 + 1


def edge_features(batch: ProteinBatch, graph: ResidueGraph, unknown_residue: UnknownType = "X") -> Tensor:
    r"""Residue types of both ends, relation, sequence distance and length of each edge.

    .. math::
        z_{j \to i} = [\mathrm{onehot}_{20}(s_j), \mathrm{onehot}_{20}(s_i), \mathrm{onehot}_R(r),
        \mathrm{onehot}_{11}(\min(|i - j|, 10)), \lVert x_i - x_j \rVert]

    A masked residue has a one-hot of zeros.

    Args:
        batch: N residues.
        graph: E edges with R relations.
        unknown_residue: type of unknown residues: X for a one-hot of zeros, or G for glycine, as in the
            original.

    Returns:
        float32 [E, 40 + R + 11 + 1]; distances in angstrom.

    Source: Zhang et al. 2023 (arXiv 2203.06125), section 3.1, with the details of the original code.
    """
    source, target = graph.edge_index
    one_hot = torch.eye(MASKED + 1, len(AMINO_ACIDS), device=source.device)
    if unknown_residue == "G":
        one_hot[UNKNOWN, AMINO_ACIDS.index("G")] = 1.0
    residue_type = one_hot[batch.residue_type]
    apart = (source - target).abs().clamp(max=_FARTHEST)
    ca = batch.ca.float()
    parts = [
        residue_type[source],
        residue_type[target],
        functional.one_hot(graph.relation, graph.num_relations),
        functional.one_hot(apart, _FARTHEST + 1),
        (ca[source] - ca[target]).norm(dim=1, keepdim=True),
    ]
    return torch.cat([part.float() for part in parts], dim=1)
