"""Errors of predicted values, and the share of right classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from esmgn_core.metrics.arrays import check_finite, columns, numbers


def mean_absolute_error(predicted: ArrayLike, true: ArrayLike) -> float:
    """Mean of the absolute differences of two [P]. NaN in ``true`` is left out."""
    one, other = columns(predicted, true)
    return float(np.abs(one - other).mean()) if len(one) else np.nan


def root_mean_squared_error(predicted: ArrayLike, true: ArrayLike) -> float:
    """Root of the mean squared difference of two [P]. NaN in ``true`` is left out."""
    one, other = columns(predicted, true)
    return float(np.sqrt(np.square(one - other).mean())) if len(one) else np.nan


def accuracy(scores: ArrayLike, labels: ArrayLike) -> float:
    """Share of predictions whose highest score is that of the true class.

    Args:
        scores: [P, T].
        labels: index of the true class, [P] or [P, 1]; NaN is left out.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is not one of 0 to T - 1.
    """
    values = numbers(scores)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"expected scores [P, T] of T classes, got shape {list(values.shape)}")
    check_finite(values)
    chosen, true = columns(values.argmax(axis=1), labels)
    if not np.isin(true, np.arange(values.shape[1])).all():
        raise ValueError(
            f"labels must be whole numbers from 0 to {values.shape[1] - 1}, or NaN where unknown"
        )
    return float((chosen == true).mean()) if len(chosen) else np.nan
