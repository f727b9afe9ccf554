"""Metrics of downstream tasks, computed in float64 and correct under ties.

Arrays may be NumPy arrays, tensors or lists. Scores are finite numbers, bool or unsigned ones too; higher
scores rank first. NaN labels are unknown and ignored. A metric is NaN if it is undefined, for example
without a known label. Invalid input raises ``ValueError``.
"""

from esmgn_core.metrics.arrays import mean_of_known
from esmgn_core.metrics.bootstrap import Interval, interval, resamples
from esmgn_core.metrics.correlation import MIN_IN_GROUP, grouped_spearman, pearson, spearman
from esmgn_core.metrics.ranking import auroc, average_precision, macro_average_precision
from esmgn_core.metrics.regression import accuracy, mean_absolute_error, root_mean_squared_error
from esmgn_core.metrics.sweep import Sweep, f_max

__all__ = [
    "MIN_IN_GROUP",
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
    "mean_of_known",
    "pearson",
    "resamples",
    "root_mean_squared_error",
    "spearman",
]
