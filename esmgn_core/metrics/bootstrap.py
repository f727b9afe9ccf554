"""Confidence intervals by resampling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def resamples(groups: ArrayLike, number: int, *, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Resample predictions with replacement; members of a group are drawn together.

    Decoys of one target are correlated: drawn independently, they would give too narrow intervals.

    Args:
        groups: int64 [P], group of each prediction; all different for independent predictions.
        number: number of resamples.
        seed: seed of the random generator.

    Yields:
        int64 [P], number of times that each prediction was drawn.
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    num_groups = int(member.max()) + 1 if len(member) else 0
    generator = np.random.default_rng(seed)
    for _ in range(number):
        draws = generator.integers(max(num_groups, 1), size=num_groups)
        drawn = np.bincount(draws, minlength=num_groups)
        yield drawn[member]


def interval(values: ArrayLike) -> Interval:
    """The 95 % percentile interval of the finite values of a metric on resamples."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return Interval(np.nan, np.nan)
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(finite, [outside, 1 - outside])
    return Interval(float(low), float(high))
