"""Correlations of predicted and true values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esmgn_core.metrics.arrays import Floats, column, columns

MIN_IN_GROUP = 3
"""Smallest group whose own correlation counts, as in ATOM3D."""


def pearson(predicted: ArrayLike, true: ArrayLike) -> float:
    """Pearson's correlation of two [P]; NaN where one is constant. NaN in ``true`` is left out.

    Raises:
        ValueError: the lengths differ, or a value other than NaN in ``true`` is not finite.
    """
    one, other = columns(predicted, true)
    return _correlation(one, other)


def spearman(predicted: ArrayLike, true: ArrayLike) -> float:
    """Spearman's rank correlation of two [P], average ranks for ties. NaN in ``true`` is left out.

    0 where one of them is constant, as in TorchDrug (SciPy returns NaN), so that a model with constant
    predictions does not count as better than none. NaN for fewer than two known values.

    Raises:
        ValueError: the lengths differ, or a value other than NaN in ``true`` is not finite.
    """
    one, other = columns(predicted, true)
    if len(one) < 2:
        return np.nan
    found = _rank_correlation(one, other)
    return 0.0 if np.isnan(found) else found


def grouped_spearman(
    predicted: ArrayLike, true: ArrayLike, groups: ArrayLike, counts: ArrayLike | None = None
) -> float:
    """Mean of the rank correlations within groups, such as the decoys of one target.

    Groups of fewer than three, and groups in which one side is constant, are left out, as in ATOM3D.
    NaN where no group is left.

    Args:
        predicted: [P].
        true: [P]; NaN is left out.
        groups: [P], the group of each prediction: integers or text.
        counts: [P], how often each group counts (read at its first member); once by default.

    Raises:
        ValueError: the lengths differ, or a value other than NaN in ``true`` is not finite.
    """
    known = ~np.isnan(column(true))
    values, truth = columns(predicted, true)
    _, member = np.unique(_aligned(groups, known), return_inverse=True)
    weight = np.ones(len(member)) if counts is None else _aligned(counts, known)
    order = np.argsort(member, kind="stable")
    found, weights = [], []
    for rows in np.split(order, np.flatnonzero(np.diff(member[order])) + 1):
        if len(rows) >= MIN_IN_GROUP and weight[rows[0]]:
            found.append(_rank_correlation(values[rows], truth[rows]))
            weights.append(weight[rows[0]])
    kept = ~np.isnan(found)
    return float(np.average(np.array(found)[kept], weights=np.array(weights)[kept])) if kept.any() else np.nan


def _aligned(values: ArrayLike, known: NDArray[np.bool_]) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != known.shape:
        raise ValueError(f"{len(known)} predictions, and groups or counts of shape {list(array.shape)}")
    return array[known]


def _rank_correlation(one: Floats, other: Floats) -> float:
    # Takes most of a second to import.
    from scipy.stats import rankdata

    return _correlation(rankdata(one), rankdata(other))


def _correlation(one: Floats, other: Floats) -> float:
    # Compared, not computed: the mean of equal numbers may differ from them in the last bit.
    if len(one) < 2 or one.min() == one.max() or other.min() == other.max():
        return np.nan
    first, second = _centered(one), _centered(other)
    scale = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / scale) if scale > 0 else np.nan


def _centered(values: Floats) -> Floats:
    """Differences from the mean, in units of the largest, whose squares neither overflow nor vanish."""
    scaled = values / np.abs(values).max()
    centered: Floats = scaled - scaled.mean()
    largest = np.abs(centered).max()
    return centered / largest if largest > 0 else centered
