"""Multiview contrast: match two windows of a protein among windows of other proteins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.crop import random_windows, window_mask
from esmgn_core.draws import Draws
from esmgn_core.gather import gather_rows
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.protocols import DrawsEdgesInto, GraphBuilder
from esmgn_pretext.confidence import means
from esmgn_pretext.edges import draw_from_each, share_of
from esmgn_pretext.heads import MLP
from esmgn_pretext.settings import CroppedTaskSettings
from esmgn_pretext.task import CroppedTask


class MultiviewContrast(CroppedTask):
    r"""Cross-entropy of a protein's second view among those of a group of proteins.

    Edges are built on the whole protein. Each view is a random window with the edges inside it. In half of
    the views, chosen once per step, a share of these edges is removed. With x and y the projected
    representations of the n proteins of a group in the first and second view:

    .. math::
        \ell = -\frac1n \sum_a \log \frac{\exp(\cos(x_a, y_a) / \tau)}{\sum_b \exp(\cos(x_a, y_b) / \tau)}

    A protein alone in its group has loss 0.

    Source: arXiv 2303.06275, section 3.4; Zhang et al. 2023 (arXiv 2203.06125), section 4.1.
    """

    reads_graph = False
    couples_proteins = True

    class Settings(CroppedTaskSettings):
        crop_length: int = Field(50, ge=0)
        """Length of the random window that is a view of a protein; 0 for whole proteins."""
        mask_rate: float = Field(0.15, gt=0, le=1)
        """Share of edges drawn for removal, with replacement, in views whose edges are masked."""
        temperature: float = Field(0.07, gt=0)
        """Divisor of the cosine similarities."""
        group_size: int = Field(48, ge=0)
        """Largest number of proteins compared with one another. The proteins of a pass are divided into
        equal groups; 0 for one group."""
        symmetric: bool = False
        """Average the loss with that of matching first views to second views."""
        gather: bool = False
        """In training, compare the proteins of all processes, without groups."""

    settings: Settings

    def __init__(self, settings: Settings, *, encoder_dim: int) -> None:
        super().__init__(settings)
        self.projection = MLP(encoder_dim, encoder_dim, encoder_dim, settings.head_layers)

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """Two views of each protein; targets ``weight`` [B] only if residues of low pLDDT count less."""
        windows = [self._window(batch, draws) for _ in range(2)]
        if all(bool(window.all()) for window in windows):
            graph = self.settings.residue_graph(batch, build_graph)
            return self._view(batch, graph, draws), self._view(batch, graph, draws)
        # Neighbours are chosen in the whole protein, but only edges into the windows are needed.
        if isinstance(build_graph, DrawsEdgesInto):
            graph = build_graph.edges_into(batch, windows[0] | windows[1])
        else:
            graph = build_graph(batch)
        graph = self.settings.plddt.certain_edges(batch, graph)
        first, second = (self._view(batch.select(w), graph.select(w), draws) for w in windows)
        return first, second

    def _window(self, batch: ProteinBatch, draws: Draws) -> Tensor:
        """Residues of a random window of each protein, bool [N]."""
        length, skip = self.settings.crop_length, self.settings.reference
        if not length:
            return torch.ones_like(batch.residue_type, dtype=torch.bool)
        starts = random_windows(batch.lengths, length, draws, skip_last_start=skip)
        return window_mask(batch, starts, length)

    def _view(self, batch: ProteinBatch, graph: ResidueGraph, draws: Draws) -> View:
        targets = self.settings.plddt.protein_targets(batch)
        if float(draws.shared(1)) < 0.5:
            return View(batch, graph, targets)
        ptr = graph.edge_ptr(batch.ptr)
        drawn = draw_from_each(draws, ptr, share_of(ptr.diff().cpu(), self.settings.mask_rate))
        return View(batch, without(graph, drawn), targets)

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean cross-entropy over proteins, and the share whose second view is the most similar."""
        projected = self._projected(torch.cat([encoding.protein for encoding in encodings]))
        both = torch.stack(projected.chunk(len(encodings)), dim=1)
        with torch.autocast(both.device.type, enabled=False):
            if self.settings.gather and self.training:
                scored = [self._score(both, *gather_rows(both))]
            else:
                groups = torch.tensor_split(both, self._num_groups(len(both)))
                scored = [self._score(group, group, 0) for group in groups]
        losses, hits = (torch.cat(column) for column in zip(*scored, strict=True))
        weights = [view.targets["weight"] for view in views if "weight" in view.targets]
        weight = torch.stack(weights).mean(dim=0) if weights else None
        return means(losses, {"retrieval": hits.to(losses.dtype)}, weight)

    def _projected(self, protein: Tensor) -> Tensor:
        """Projected representations as unit vectors, at least float32."""
        projected = self.projection(protein)
        return functional.normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)), dim=1)

    def _num_groups(self, num_proteins: int) -> int:
        return -(-num_proteins // self.settings.group_size) if self.settings.group_size else 1

    def _score(self, own: Tensor, group: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Loss float [n] and hits bool [n] of n proteins, which are rows ``first:first + n`` of a group.

        Args:
            own: float [n, 2, D], both views of the proteins.
            group: float [m, 2, D], both views of the group.
            first: row of the first protein in the group.
        """
        target = torch.arange(len(own), device=own.device) + first
        scores = own[:, 0] @ group[:, 1].T / self.settings.temperature
        losses = functional.cross_entropy(scores, target, reduction="none")
        if self.settings.symmetric:
            reverse = own[:, 1] @ group[:, 0].T / self.settings.temperature
            losses = (losses + functional.cross_entropy(reverse, target, reduction="none")) / 2
        return losses, scores.argmax(dim=1) == target


def without(graph: ResidueGraph, edge: Tensor) -> ResidueGraph:
    """The graph without the edges of the rows ``edge`` (int64, repeats allowed)."""
    return graph.keep_edges(
        torch.ones_like(graph.relation, dtype=torch.bool).index_fill(0, edge, value=False)
    )
