"""Metrics of rankings: average precision and area under the ROC curve, by scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from esmgn_core.metrics.arrays import binary, column, columns, multilabel, numbers


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
    # Takes a second to import.
    from sklearn.metrics import average_precision_score

    values, truth = numbers(scores), binary(labels)
    if values.ndim == 1:
        values, truth = values[:, None], column(truth)[:, None]
    values, truth = multilabel(values, truth)
    known = ~np.isnan(truth)
    if not known.any():
        return np.nan
    # Without a positive, scikit-learn warns.
    return float(average_precision_score(truth[known], values[known])) if (truth[known] > 0).any() else 0.0


def macro_average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean over classes of :func:`average_precision` [B, T]; classes without a positive are left out.

    NaN where no class has a positive.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.
    """
    values, truth = multilabel(scores, labels)
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
    from sklearn.metrics import roc_auc_score

    values, truth = columns(scores, binary(labels))
    return float(roc_auc_score(truth, values)) if 0 < truth.sum() < len(truth) else np.nan
