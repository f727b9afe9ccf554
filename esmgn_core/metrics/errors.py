"""Errors of predicted values, and the share of right classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from esmgn_core.metrics.arrays import columns


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
    """
    chosen, true = columns(np.asarray(scores).argmax(axis=1), labels)
    return float((chosen == true).mean()) if len(chosen) else np.nan
