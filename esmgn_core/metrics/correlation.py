"""Pearson's and Spearman's correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esmgn_core.metrics.arrays import Floats, column, columns

MIN_IN_GROUP = 3
"""Size of the smallest group with a correlation, as in ATOM3D."""


def pearson(predicted: ArrayLike, true: ArrayLike) -> float:
    """Pearson's correlation of two [P]; NaN if one is constant. NaN in ``true`` is ignored.

    Raises:
        ValueError: the lengths differ, or a value other than NaN in ``true`` is not finite.
    """
    return _correlation(*columns(predicted, true))


def spearman(predicted: ArrayLike, true: ArrayLike) -> float:
    """Spearman's rank correlation of two [P], average ranks for ties. NaN in ``true`` is ignored.

    0 if one of them is constant, as in TorchDrug (SciPy returns NaN): constant predictions must not count as
    missing. NaN for fewer than two known values.

    Raises:
        ValueError: the lengths differ, or a value other than NaN in ``true`` is not finite.
    """
    values, truth = columns(predicted, true)
    if len(values) < 2:
        return np.nan
    correlation = _rank_correlation(values, truth)
    return 0.0 if np.isnan(correlation) else correlation


def grouped_spearman(
    predicted: ArrayLike, true: ArrayLike, groups: ArrayLike, counts: ArrayLike | None = None
) -> float:
    """Mean rank correlation within groups, such as the decoys of one target.

    Groups with fewer than three members, or with constant predictions or labels, are ignored, as in ATOM3D.
    NaN if no group remains.

    Args:
        predicted: [P].
        true: [P]; NaN is ignored.
        groups: [P], group of each prediction: integers or text.
        counts: [P], weight of each group (of its first member); 1 by default.

    Raises:
        ValueError: the lengths differ, or a value other than NaN in ``true`` is not finite.
    """
    known = ~np.isnan(column(true))
    values, truth = columns(predicted, true)
    _, member = np.unique(_aligned(groups, known), return_inverse=True)
    weight = np.ones(len(member)) if counts is None else _aligned(counts, known)
    order = np.argsort(member, kind="stable")
    correlations, weights = [], []
    for rows in np.split(order, np.flatnonzero(np.diff(member[order])) + 1):
        if len(rows) >= MIN_IN_GROUP and weight[rows[0]]:
            correlations.append(_rank_correlation(values[rows], truth[rows]))
            weights.append(weight[rows[0]])
    kept = ~np.isnan(correlations)
    if not kept.any():
        return np.nan
    return float(np.average(np.array(correlations)[kept], weights=np.array(weights)[kept]))


def _aligned(values: ArrayLike, known: NDArray[np.bool_]) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != known.shape:
        raise ValueError(f"{len(known)} predictions, and groups or counts of shape {list(array.shape)}")
    return array[known]


def _rank_correlation(x: Floats, y: Floats) -> float:
    # Imported here: the import takes most of a second.
    from scipy.stats import rankdata

    return _correlation(rankdata(x), rankdata(y))


def _correlation(x: Floats, y: Floats) -> float:
    # Not by a variance of zero: the mean of equal numbers may differ from them in the last bit.
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return np.nan
    first, second = _centered(x), _centered(y)
    scale = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / scale) if scale > 0 else np.nan


def _centered(values: Floats) -> Floats:
    """Differences from the mean divided by the largest, whose squares neither over- nor underflow."""
    scaled = values / np.abs(values).max()
    centered: Floats = scaled - scaled.mean()
    largest = np.abs(centered).max()
    return centered / largest if largest > 0 else centered
