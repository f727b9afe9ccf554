"""Checked float64 arrays out of what callers have."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def column(values: ArrayLike) -> Floats:
    """float64 [P], from [P] or [P, 1].

    Raises:
        ValueError: another shape.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"expected one value per prediction, got shape {list(array.shape)}")
    return array


def columns(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    """Two :func:`column` of equal length, reduced to the rows where the second is known (not NaN).

    Raises:
        ValueError: they differ in length, or the first holds something that is not finite.
    """
    one, other = column(first), column(second)
    if len(one) != len(other):
        raise ValueError(f"{len(one)} predictions and {len(other)} labels")
    known = ~np.isnan(other)
    check_finite(one)
    return one[known], other[known]


def check_finite(scores: NDArray[np.floating]) -> None:
    """Raise a ``ValueError`` unless all scores are finite: a NaN would land anywhere in a ranking."""
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
