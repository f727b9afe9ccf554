"""Conversion and validation of scores and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def numbers(values: ArrayLike) -> NDArray[np.floating]:
    """Floating-point array of any shape; bool and integers become float64.

    Masked entries of a masked array and ``None`` become NaN. A tensor may be on any device.

    Raises:
        ValueError: the values are not real numbers, such as text.
    """
    if hasattr(values, "detach"):
        values = _of_tensor(values)
    array = np.asarray(values)
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError("expected numbers, got objects that are not numbers") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers, got {array.dtype}")
    # Metrics negate scores, which bool and unsigned types do not support, and mark unknown labels with NaN,
    # which integers lack. Sums in half precision overflow at 65504.
    wide = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        wide = np.where(np.ma.getmaskarray(values), np.nan, wide)
    return wide


def column(values: ArrayLike) -> Floats:
    """Convert [P] or [P, 1] to float64 [P].

    Raises:
        ValueError: the shape is different, or a value is not a number.
    """
    array = numbers(values).astype(np.float64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"expected one value per prediction, got shape {list(array.shape)}")
    return array


def columns(predicted: ArrayLike, true: ArrayLike) -> tuple[Floats, Floats]:
    """Convert predictions and labels to float64, without the rows of unknown (NaN) labels.

    Raises:
        ValueError: the lengths differ, a prediction is not finite, or a label is infinite.
    """
    values, truth = column(predicted), column(true)
    if len(values) != len(truth):
        raise ValueError(f"{len(values)} predictions and {len(truth)} labels")
    known = ~np.isnan(truth)
    check_finite(values)
    if np.isinf(truth).any():
        raise ValueError("labels must be finite, or NaN if unknown")
    return values[known], truth[known]


def binary(labels: ArrayLike) -> NDArray[np.floating]:
    """Labels of any shape: 1, 0, or NaN if unknown.

    Raises:
        ValueError: a label is neither 1 nor 0 nor NaN.
    """
    array = numbers(labels)
    if not (np.isnan(array) | (array == 0) | (array == 1)).all():
        raise ValueError("labels must be 1 or 0, or NaN if unknown")
    return array


def multilabel(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Finite scores and :func:`binary` labels of T classes, [B, T] each.

    Raises:
        ValueError: the shapes differ, a score is not finite, or a label is neither 1 nor 0 nor NaN.
    """
    values, truth = numbers(scores), binary(labels)
    if values.ndim != 2 or values.shape != truth.shape:
        raise ValueError(f"scores {list(values.shape)} and labels {list(truth.shape)} must be [B, T]")
    check_finite(values)
    return values, truth


def check_finite(scores: NDArray[np.floating]) -> None:
    """Raise ``ValueError`` unless all scores are finite; the rank of NaN is undefined."""
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")


def mean_of_known(values: ArrayLike) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    array = numbers(values)
    known = array[~np.isnan(array)]
    return float(known.mean()) if len(known) else np.nan


def _of_tensor(values: Any) -> NDArray[Any]:
    tensor = values.detach().cpu()
    # NumPy has no bfloat16.
    array: NDArray[Any] = (
        tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor
    ).numpy()
    return array
