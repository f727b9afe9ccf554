"""Dihedral prediction: the dihedral angle of three consecutive edges removed from the graph."""

from __future__ import annotations

import torch
from torch import Tensor

from esmgn_pretext.angles import AngleTask, angle_between


class Dihedral(AngleTask):
    r"""Cross-entropy of the dihedral angle of consecutive edges k -> t -> j -> i removed from the graph.

    In every protein ``num_samples`` triples of edges with k != j and t != i are drawn uniformly with
    replacement, and all three edges of each are removed. The classes are ``num_bins`` equal bins of

    .. math::
        \varphi = \mathrm{atan2}(\lVert n_1 \times n_2 \rVert, n_1 \cdot n_2), \quad
        n_1 = c \times (x_i - x_j),\ n_2 = c \times (x_k - x_t),\ c = x_t - x_j

    The angle has no sign: 0 is cis, pi is trans. It is 0 if a plane is undefined. The head reads the
    residues in the order i, j, k, t. Proteins without such a triple do not contribute to the loss.

    Source: arXiv 2303.06275, section 3.4; Zhang et al. 2023 (arXiv 2203.06125), section 4.2.
    """

    num_edges = 3

    def measure(self, visited: Tensor, ca: Tensor) -> tuple[Tensor, Tensor]:
        """Residues i, j, k, t, and the angle of the planes t, j, i and j, t, k."""
        k, t, j, i = visited
        axis = ca[t] - ca[j]
        first = torch.linalg.cross(axis, ca[i] - ca[j], dim=-1)
        second = torch.linalg.cross(axis, ca[k] - ca[t], dim=-1)
        return torch.stack([i, j, k, t]), angle_between(first, second)
