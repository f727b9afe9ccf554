"""Average precision and area under the ROC curve, computed by scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from esmgn_core.metrics.arrays import binary, column, columns, multilabel, numbers


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the precision-recall curve: sum of precision over steps of recall; micro for [B, T].

    Equal scores share one threshold. NaN labels are ignored. 0 without a positive label, NaN without a known
    label.

    Args:
        scores: [P] or [B, T]; all pairs of [B, T] form one ranking.
        labels: the same shape, 1 or 0.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.
    """
    # Imported here: the import takes a second.
    from sklearn.metrics import average_precision_score

    values, truth = numbers(scores), binary(labels)
    if values.ndim == 1:
        values, truth = values[:, None], column(truth)[:, None]
    values, truth = multilabel(values, truth)
    known = ~np.isnan(truth)
    if not known.any():
        return np.nan
    # Avoids a warning of scikit-learn without a positive.
    return float(average_precision_score(truth[known], values[known])) if (truth[known] > 0).any() else 0.0


def macro_average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean over classes of :func:`average_precision` for [B, T]; classes without a positive are ignored.

    NaN if no class has a positive.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.
    """
    values, truth = multilabel(scores, labels)
    precisions = [
        average_precision(values[:, number], truth[:, number])
        for number in np.flatnonzero((truth > 0).any(axis=0))
    ]
    return float(np.mean(precisions)) if precisions else np.nan


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: share of positive-negative pairs ranked correctly; ties count half.

    NaN without positives or without negatives. NaN labels are ignored.

    Args:
        scores: [P] or [P, 1].
        labels: the same shape, 1 or 0.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.
    """
    from sklearn.metrics import roc_auc_score

    values, truth = columns(scores, binary(labels))
    return float(roc_auc_score(truth, values)) if 0 < truth.sum() < len(truth) else np.nan
