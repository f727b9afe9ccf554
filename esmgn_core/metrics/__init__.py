"""Metrics of downstream tasks, in float64 and right under ties.

Arrays may be NumPy arrays or tensors on the CPU. Scores must be finite; what is higher ranks first.
"""

from esmgn_core.metrics.bootstrap import Interval, interval, resamples
from esmgn_core.metrics.correlation import grouped_spearman, pearson, spearman
from esmgn_core.metrics.errors import accuracy, mean_absolute_error, root_mean_squared_error
from esmgn_core.metrics.ranking import auroc, average_precision, macro_average_precision
from esmgn_core.metrics.sweep import Sweep, f_max

__all__ = [
    "Interval",
    "Sweep",
    "accuracy",
    "auroc",
    "average_precision",
    "f_max",
    "grouped_spearman",
    "interval",
    "macro_average_precision",
    "mean_absolute_error",
    "pearson",
    "resamples",
    "root_mean_squared_error",
    "spearman",
]
