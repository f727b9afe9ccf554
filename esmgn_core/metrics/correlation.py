"""Correlations of predicted and true values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from esmgn_core.metrics.arrays import Floats, columns

MIN_IN_GROUP = 3
"""Smallest group whose own correlation counts, as in ATOM3D."""


def pearson(predicted: ArrayLike, true: ArrayLike) -> float:
    """Pearson's correlation of two [P]; NaN where one is constant. NaN in ``true`` is left out."""
    one, other = columns(predicted, true)
    return _correlation(one, other)


def spearman(predicted: ArrayLike, true: ArrayLike) -> float:
    """Spearman's rank correlation of two [P], average ranks for ties. NaN in ``true`` is left out.

    0 where one of them is constant, as in TorchDrug (SciPy says NaN), so that a model that says the
    same for all does not count as better than none.
    """
    one, other = columns(predicted, true)
    found = _correlation(ranks(one), ranks(other))
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
        groups: int64 [P], the group of each prediction.
        counts: [P], how often each group counts (read at its first member); once by default.
    """
    values, truth = np.asarray(predicted).ravel(), np.asarray(true).ravel()
    known = ~np.isnan(truth)
    member = np.asarray(groups)[known]
    weight = np.ones(len(member)) if counts is None else np.asarray(counts)[known]
    values, truth = values[known], truth[known]
    order = np.argsort(member, kind="stable")
    found, weights = [], []
    for rows in np.split(order, np.flatnonzero(np.diff(member[order])) + 1):
        if len(rows) >= MIN_IN_GROUP and weight[rows[0]]:
            found.append(_correlation(ranks(values[rows]), ranks(truth[rows])))
            weights.append(weight[rows[0]])
    kept = ~np.isnan(found)
    return float(np.average(np.array(found)[kept], weights=np.array(weights)[kept])) if kept.any() else np.nan


def ranks(values: Floats) -> Floats:
    """Ranks from 1, the mean of their ranks for equal values.

    >>> ranks(np.array([0.3, 0.1, 0.3])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    mean: Floats = (last - (counts - 1) / 2)[inverse]
    return mean


def _correlation(one: Floats, other: Floats) -> float:
    if len(one) < 2:
        return np.nan
    first, second = one - one.mean(), other - other.mean()
    scale = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / scale) if scale > 0 else np.nan
