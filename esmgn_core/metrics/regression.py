"""Errors of predicted values, and accuracy of predicted classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from esmgn_core.metrics.arrays import check_finite, columns, numbers


def mean_absolute_error(predicted: ArrayLike, true: ArrayLike) -> float:
    """Mean absolute difference of two [P]. NaN in ``true`` is ignored."""
    values, truth = columns(predicted, true)
    return float(np.abs(values - truth).mean()) if len(values) else np.nan


def root_mean_squared_error(predicted: ArrayLike, true: ArrayLike) -> float:
    """Root mean squared difference of two [P]. NaN in ``true`` is ignored."""
    values, truth = columns(predicted, true)
    return float(np.sqrt(np.square(values - truth).mean())) if len(values) else np.nan


def accuracy(scores: ArrayLike, labels: ArrayLike) -> float:
    """Share of predictions with the highest score for the true class.

    Args:
        scores: [P, T].
        labels: index of the true class, [P] or [P, 1]; NaN is ignored.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is not one of 0 to T - 1.
    """
    values = numbers(scores)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"expected scores [P, T] of T classes, got shape {list(values.shape)}")
    check_finite(values)
    chosen, true = columns(values.argmax(axis=1), labels)
    if not np.isin(true, np.arange(values.shape[1])).all():
        raise ValueError(f"labels must be whole numbers from 0 to {values.shape[1] - 1}, or NaN if unknown")
    return float((chosen == true).mean()) if len(chosen) else np.nan
