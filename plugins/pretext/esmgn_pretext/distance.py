"""Distance prediction: the CA-CA distance of edges removed from the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.protocols import GraphBuilder
from esmgn_pretext.confidence import left_out, means
from esmgn_pretext.edges import EdgeTaskSettings, draw_from_each
from esmgn_pretext.heads import TupleMLP
from esmgn_pretext.task import CroppedTask


class Distance(CroppedTask):
    """Squared error of the CA-CA distance, in angstrom, of edges removed from the graph.

    In every protein ``num_samples`` edges are drawn with replacement from all edges, self-loops
    included. Only these edges are removed: the reverse edge, and edges of the same pair under another
    relation, stay unless ``hide_pairs`` is set. Proteins without edges do not contribute to the loss.

    Source: arXiv 2303.06275, section 3.4; Zhang et al. 2023 (arXiv 2203.06125), section 4.2.
    """

    predicts_residues = True
    removes_edges = True

    class Settings(EdgeTaskSettings):
        num_samples: int = Field(256, ge=1)
        """Edges drawn in each protein."""

    settings: Settings

    def __init__(self, settings: Settings, *, encoder_dim: int) -> None:
        super().__init__(settings)
        self.head = TupleMLP(encoder_dim, 2, encoder_dim, 1, settings.head_layers)

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """One view without the drawn edges; targets ``pair`` int64 [2, S] and ``distance`` [S]."""
        batch = self.settings.crop(batch, draws)
        graph = self.settings.residue_graph(batch, build_graph)
        drawable = self.settings.drawable(graph).nonzero().squeeze(1)
        ptr = torch.searchsorted(drawable, graph.edge_ptr(batch.ptr))
        number = draw_from_each(draws, ptr, self.settings.num_samples)
        return (self.view_without(batch, graph, drawable[number]),)

    def view_without(self, batch: ProteinBatch, graph: ResidueGraph, edge: Tensor) -> View:
        """The view without the edges ``edge`` (int64 [S], rows of ``graph``), which are the targets."""
        pair = graph.edge_index[:, edge]
        distance = (batch.ca[pair[0]] - batch.ca[pair[1]]).norm(dim=1)
        targets = {"pair": pair, "distance": distance, **self.settings.plddt.targets(batch, pair)}
        return View(batch, self.settings.without(graph, edge), targets)

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean squared error in square angstrom, and the mean absolute error in angstrom."""
        (view,), (encoding,) = views, encodings
        target = view.targets["distance"]
        predicted = self.head(encoding.residue, view.targets["pair"]).float().squeeze(1)
        error = predicted - target
        metrics = {"mean_absolute_error": error.detach().abs()}
        weight = view.targets.get("weight")
        output = means(error.square(), metrics, weight)
        return replace(output, num_left_out=left_out(view.batch, view.targets["pair"][0], weight))
