"""Angle prediction: the angle between two consecutive edges removed from the graph."""

from __future__ import annotations

import torch
from torch import Tensor

from esmgn_pretext.angles import AngleTask, angle_between


class Angle(AngleTask):
    r"""Cross-entropy of the angle at j between consecutive edges k -> j -> i removed from the graph.

    In every protein ``num_samples`` pairs of edges with k != i are drawn uniformly with replacement, and
    both edges of each pair are removed. The classes are ``num_bins`` equal bins of

    .. math::
        \theta = \mathrm{atan2}(\lVert u \times v \rVert, u \cdot v), \quad u = x_i - x_j,\ v = x_k - x_j

    A pair with a self-loop has angle 0. The head reads the residues in the order i, j, k. Proteins
    without such a pair do not contribute to the loss.

    Source: arXiv 2303.06275, section 3.4; Zhang et al. 2023 (arXiv 2203.06125), section 4.2.
    """

    num_edges = 2

    def measure(self, visited: Tensor, ca: Tensor) -> tuple[Tensor, Tensor]:
        """Residues i, j, k, and the angle at j."""
        k, j, i = visited
        return torch.stack([i, j, k]), angle_between(ca[i] - ca[j], ca[k] - ca[j])
