"""Metrics of rankings: average precision and area under the ROC curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from esmgn_core.metrics.arrays import binary, check_finite, column, columns, numbers
from esmgn_core.metrics.correlation import ranks
from esmgn_core.metrics.sweep import Sweep


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the precision-recall curve as the sum of precision over steps of recall; micro for [B, T].

    Equal scores share one threshold. NaN labels are left out. 0 where nothing is positive, NaN where no
    label is known.

    Args:
        scores: [P] or [B, T]; of the latter all pairs make up one ranking.
        labels: the same shape, 1 or 0.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.
    """
    values, truth = numbers(scores), binary(labels)
    if values.ndim == 1:
        values, truth = values[:, None], column(truth)[:, None]
    return Sweep.over(values, truth).average_precision()


def macro_average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean over classes of :func:`average_precision` [B, T]; classes without a positive are left out.

    NaN where no class has a positive.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.
    """
    values, truth = numbers(scores), binary(labels)
    if values.ndim != 2 or values.shape != truth.shape:
        raise ValueError(f"scores {list(values.shape)} and labels {list(truth.shape)} must be [B, T]")
    check_finite(values)
    found = [
        average_precision(values[:, number], truth[:, number])
        for number in np.flatnonzero((truth > 0).any(axis=0))
    ]
    return float(np.mean(found)) if found else np.nan


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Share of pairs of a positive and a negative in which the positive ranks higher; a tie is half.

    NaN where positives or negatives are missing. NaN labels are left out.

    Args:
        scores: [P] or [P, 1].
        labels: the same shape, 1 or 0.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.
    """
    values, truth = columns(scores, binary(labels))
    positive = truth > 0
    num_positives = int(positive.sum())
    num_pairs = num_positives * (len(truth) - num_positives)
    if not num_pairs:
        return np.nan
    won = ranks(values)[positive].sum() - num_positives * (num_positives + 1) / 2
    return float(won / num_pairs)
