"""Angles between vectors, and the classes the tasks make of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from esmgn_core.batch import TaskOutput
from esmgn_pretext.confidence import means


def angle_between(first: Tensor, second: Tensor) -> Tensor:
    """Angle in radians, [S] in 0 to pi, between vectors [S, 3]; 0 where one of them is zero."""
    cross = torch.linalg.cross(first, second, dim=-1).norm(dim=-1)
    return torch.atan2(cross, (first * second).sum(dim=-1))


def angle_class(angle: Tensor, num_bins: int) -> Tensor:
    """Class int64 [S] of angles in 0 to pi: equal bins that hold their lower bound; pi is in the last."""
    bounds = torch.arange(1, num_bins, device=angle.device, dtype=angle.dtype) * (math.pi / num_bins)
    return torch.bucketize(angle, bounds, right=True)


def classified(scores: Tensor, target: Tensor, weight: Tensor | None = None) -> TaskOutput:
    """Mean cross-entropy and accuracy of ``scores`` [S, C] for the classes ``target`` int64 [S].

    Each prediction is counted by ``weight`` [S], or once.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    loss = functional.cross_entropy(scores, target, reduction="none")
    return means(loss, {"accuracy": (scores.argmax(dim=1) == target).to(scores.dtype)}, weight)
