"""Dihedral prediction: the angle of two planes along three consecutive edges that were taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.protocols import GraphBuilder
from esmgn_pretext.angles import angle_between, angle_class, classified
from esmgn_pretext.confidence import left_out
from esmgn_pretext.edges import EdgeTaskSettings
from esmgn_pretext.heads import TupleMLP
from esmgn_pretext.walks import draw_walks


class Dihedral(nn.Module):
    r"""Cross-entropy of the dihedral angle of consecutive edges k -> t -> j -> i removed from the graph.

    In every protein ``num_samples`` triples of edges with k != j and t != i are drawn with replacement,
    uniformly, and all three edges of each are removed. The classes are ``num_bins`` equal bins of

    .. math::
        \varphi = \mathrm{atan2}(\lVert n_1 \times n_2 \rVert, n_1 \cdot n_2), \quad
        n_1 = c \times (x_i - x_j),\ n_2 = c \times (x_k - x_t),\ c = x_t - x_j

    which has no sign: 0 is cis, pi trans, and 0 where the planes are not defined. The head reads the
    residues in the order i, j, k, t. A protein without such a triple has no part in the loss.

    Source: arXiv 2303.06275, section 3.4; Zhang et al. 2023 (arXiv 2203.06125), section 4.2.
    """

    class Settings(EdgeTaskSettings):
        num_samples: int = Field(512, ge=1)
        """Triples of edges drawn in each protein."""
        num_bins: int = Field(8, ge=2)
        """Classes: equal bins of the unsigned angle between 0 and pi."""

    def __init__(self, settings: Settings, *, encoder_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.max_residues = settings.crop_length or None
        self.head = TupleMLP(encoder_dim, 4, encoder_dim, settings.num_bins, settings.head_layers)

    def shows_whole(self, lengths: Tensor) -> Tensor:
        """Which proteins of these lengths the encoder reads whole and as they are, bool [B]."""
        return self.settings.shown_whole(lengths)

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """One view without the drawn edges; targets ``residues`` int64 [4, S] and ``angle_class`` [S]."""
        batch = self.settings.crop(batch, draws)
        graph = self.settings.residue_graph(batch, build_graph)
        drawable = self.settings.drawable(graph)
        edges = draw_walks(draws, graph, drawable, batch.ptr, 3, self.settings.num_samples)
        return (self.view_without(batch, graph, edges),)

    def view_without(self, batch: ProteinBatch, graph: ResidueGraph, edges: Tensor) -> View:
        """The view without the edges k -> t, t -> j and j -> i, rows of ``graph`` in int64 [3, S]."""
        (k, t, j), i = graph.edge_index[0, edges], graph.edge_index[1, edges[2]]
        ca = batch.ca.float()
        axis = ca[t] - ca[j]
        first = torch.linalg.cross(axis, ca[i] - ca[j], dim=-1)
        second = torch.linalg.cross(axis, ca[k] - ca[t], dim=-1)
        residues = torch.stack([i, j, k, t])
        targets = {
            "residues": residues,
            "angle_class": angle_class(angle_between(first, second), self.settings.num_bins),
            **self.settings.plddt.targets(batch, residues),
        }
        return View(batch, self.settings.without(graph, edges), targets)

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean cross-entropy over the drawn triples, and the accuracy."""
        (view,), (encoding,) = views, encodings
        scores = self.head(encoding.residue, view.targets["residues"])
        weight = view.targets.get("weight")
        output = classified(scores, view.targets["angle_class"], weight)
        return replace(output, num_left_out=left_out(view.batch, view.targets["residues"][0], weight))
