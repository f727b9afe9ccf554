"""Angle prediction: the angle between two consecutive edges that were taken away."""

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


class Angle(nn.Module):
    r"""Cross-entropy of the angle at j between consecutive edges k -> j -> i removed from the graph.

    In every protein ``num_samples`` pairs of edges with k != i are drawn with replacement, uniformly,
    and both edges of each are removed. The classes are ``num_bins`` equal bins of

    .. math::
        \theta = \mathrm{atan2}(\lVert u \times v \rVert, u \cdot v), \quad u = x_i - x_j,\ v = x_k - x_j

    A pair with a self-loop has angle 0. The head reads the residues in the order i, j, k. A protein
    without such a pair has no part in the loss.

    Source: arXiv 2303.06275, section 3.4; Zhang et al. 2023 (arXiv 2203.06125), section 4.2.
    """

    class Settings(EdgeTaskSettings):
        num_samples: int = Field(512, ge=1)
        """Pairs of edges drawn in each protein."""
        num_bins: int = Field(8, ge=2)
        """Classes: equal bins of the angle between 0 and pi."""

    def __init__(self, settings: Settings, *, encoder_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.max_residues = settings.crop_length or None
        self.head = TupleMLP(encoder_dim, 3, encoder_dim, settings.num_bins, settings.head_layers)

    def shows_whole(self, lengths: Tensor) -> Tensor:
        """Which proteins of these lengths the encoder reads whole and as they are, bool [B]."""
        return self.settings.shown_whole(lengths)

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """One view without the drawn edges; targets ``residues`` int64 [3, S] and ``angle_class`` [S]."""
        batch = self.settings.crop(batch, draws)
        graph = self.settings.residue_graph(batch, build_graph)
        drawable = self.settings.drawable(graph)
        edges = draw_walks(draws, graph, drawable, batch.ptr, 2, self.settings.num_samples)
        return (self.view_without(batch, graph, edges),)

    def view_without(self, batch: ProteinBatch, graph: ResidueGraph, edges: Tensor) -> View:
        """The view without the edges k -> j and j -> i, rows of ``graph`` in int64 [2, S]."""
        (k, j), i = graph.edge_index[0, edges], graph.edge_index[1, edges[1]]
        ca = batch.ca.float()
        angle = angle_between(ca[i] - ca[j], ca[k] - ca[j])
        residues = torch.stack([i, j, k])
        targets = {
            "residues": residues,
            "angle_class": angle_class(angle, self.settings.num_bins),
            **self.settings.plddt.targets(batch, residues),
        }
        return View(batch, self.settings.without(graph, edges), targets)

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean cross-entropy over the drawn pairs, and the accuracy."""
        (view,), (encoding,) = views, encodings
        scores = self.head(encoding.residue, view.targets["residues"])
        weight = view.targets.get("weight")
        output = classified(scores, view.targets["angle_class"], weight)
        return replace(output, num_left_out=left_out(view.batch, view.targets["residues"][0], weight))
