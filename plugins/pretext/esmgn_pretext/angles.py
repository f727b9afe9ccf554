"""Base class of angle and dihedral prediction: classes of angles along walks of edges."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.protocols import GraphBuilder
from esmgn_pretext.confidence import left_out, means
from esmgn_pretext.edges import EdgeTaskSettings
from esmgn_pretext.heads import TupleMLP
from esmgn_pretext.task import CroppedTask
from esmgn_pretext.walks import draw_walks


class AngleTask(CroppedTask, ABC):
    """Cross-entropy of an angle along consecutive edges removed from the graph, in equal bins."""

    predicts_residues = True
    removes_edges = True

    class Settings(EdgeTaskSettings):
        num_samples: int = Field(512, ge=1)
        """Walks of consecutive edges drawn in each protein."""
        num_bins: int = Field(8, ge=2)
        """Classes: equal bins of the unsigned angle between 0 and pi."""

    num_edges: ClassVar[Literal[2, 3]]
    """Edges of a walk."""

    settings: Settings

    def __init__(self, settings: Settings, *, encoder_dim: int) -> None:
        super().__init__(settings)
        num_members = self.num_edges + 1
        self.head = TupleMLP(encoder_dim, num_members, encoder_dim, settings.num_bins, settings.head_layers)

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """One view without the drawn edges.

        Targets: ``residues`` int64 [num_edges + 1, S], ``angle_class`` int64 [S]; ``weight`` float [S]
        only where residues of low pLDDT count less.
        """
        batch = self.settings.crop(batch, draws)
        graph = self.settings.residue_graph(batch, build_graph)
        drawable = self.settings.drawable(graph)
        edges = draw_walks(draws, graph, drawable, batch.ptr, self.num_edges, self.settings.num_samples)
        return (self.view_without(batch, graph, edges),)

    def view_without(self, batch: ProteinBatch, graph: ResidueGraph, edges: Tensor) -> View:
        """The view without the edges of some walks, rows of ``graph`` in int64 [num_edges, S]."""
        visited = torch.cat([graph.edge_index[0, edges], graph.edge_index[1, edges[-1:]]])
        residues, angle = self.measure(visited, batch.ca.float())
        targets = {
            "residues": residues,
            "angle_class": angle_class(angle, self.settings.num_bins),
            **self.settings.plddt.targets(batch, residues),
        }
        return View(batch, self.settings.without(graph, edges), targets)

    @abstractmethod
    def measure(self, visited: Tensor, ca: Tensor) -> tuple[Tensor, Tensor]:
        """Residues in the order the head reads them, and the angle of each walk.

        Args:
            visited: int64 [num_edges + 1, S], residues in the order of the walk.
            ca: float32 [N, 3], in angstrom.

        Returns:
            int64 [num_edges + 1, S], and float32 [S] in radians, from 0 to pi.
        """

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean cross-entropy over the drawn walks, and the accuracy."""
        (view,), (encoding,) = views, encodings
        scores = self.head(encoding.residue, view.targets["residues"])
        weight = view.targets.get("weight")
        output = classified(scores, view.targets["angle_class"], weight)
        return replace(output, num_left_out=left_out(view.batch, view.targets["residues"][0], weight))


def angle_between(first: Tensor, second: Tensor) -> Tensor:
    """Angle in radians, [S] in 0 to pi, between vectors [S, 3]; 0 if one of them is zero."""
    # atan2 is accurate near 0 and pi, where the derivative of acos diverges.
    cross = torch.linalg.cross(first, second, dim=-1).norm(dim=-1)
    return torch.atan2(cross, (first * second).sum(dim=-1))


def angle_class(angle: Tensor, num_bins: int) -> Tensor:
    """Class int64 [S] of angles in 0 to pi. Bins include their lower bound; pi is in the last bin."""
    bounds = torch.arange(1, num_bins, device=angle.device, dtype=angle.dtype) * (math.pi / num_bins)
    return torch.bucketize(angle, bounds, right=True)


def classified(scores: Tensor, target: Tensor, weight: Tensor | None = None) -> TaskOutput:
    """Mean cross-entropy and accuracy of ``scores`` [S, C] for the classes ``target`` int64 [S].

    Predictions are weighted by ``weight`` [S], or equally.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    loss = functional.cross_entropy(scores, target, reduction="none")
    return means(loss, {"accuracy": (scores.argmax(dim=1) == target).to(scores.dtype)}, weight)
