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
    """Resamples of predictions with replacement; members of one group are drawn together.

    Decoys of one target are alike: drawn one by one they would make an interval too narrow.

    Args:
        groups: int64 [P], the group of each prediction; all different for independent ones.
        number: how many resamples.
        seed: of the draws.

    Yields:
        int64 [P], how often each prediction was drawn.
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    num_groups = int(member.max()) + 1 if len(member) else 0
    generator = np.random.default_rng(seed)
    for _ in range(number):
        places = generator.integers(max(num_groups, 1), size=num_groups)
        drawn = np.bincount(places, minlength=num_groups)
        yield drawn[member]


def interval(values: ArrayLike) -> Interval:
    """The 95 % percentile interval of a metric's finite values on resamples."""
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if not len(found):
        return Interval(np.nan, np.nan)
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [outside, 1 - outside])
    return Interval(float(low), float(high))
