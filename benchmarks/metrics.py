"""Seconds of Fmax and micro-averaged precision on arrays of the size of the published test sets.

    python benchmarks/metrics.py

Scores are random; about as many labels are positive as in the published sets. The peer of Fmax is a loop
over 101 thresholds, as CAFA's evaluators have.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from esmgn_core.metrics import Sweep, average_precision, f_max

SIZES = {"EC": (1919, 538, 4), "GO-MF": (3416, 489, 8), "GO-BP": (3416, 1943, 23), "GO-CC": (3416, 320, 7)}


def main() -> None:
    print(f"{'':6}{'proteins x classes':>20}{'Fmax':>9}{'101 thresholds':>16}{'AUPR':>8}"
          f"{'a resample of both':>20}")  # fmt: skip
    generator = np.random.default_rng(0)
    for name, (proteins, classes, positives) in SIZES.items():
        labels = generator.random((proteins, classes)) < positives / classes
        scores = (generator.standard_normal((proteins, classes)) + 2 * labels).astype(np.float32)
        sweep, counts = Sweep.over(scores, labels), generator.integers(0, 3, proteins)
        times = [
            cpu(lambda s=scores, y=labels: f_max(s, y)),
            cpu(lambda s=scores, y=labels: gridded(s, y)),
            cpu(lambda s=scores, y=labels: average_precision(s, y)),
            cpu(lambda s=sweep, n=counts: (s.best(n), s.average_precision(n))),
        ]
        one, other, third, fourth = times
        print(f"{name:6}{f'{proteins:,} x {classes:,}':>20}{one:8.2f}s{other:15.2f}s{third:7.2f}s"
              f"{fourth:19.2f}s")  # fmt: skip


def cpu(work: Callable[[], object]) -> float:
    """Seconds of this process's CPU time, the best of three."""
    times = []
    for _ in range(3):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def gridded(scores: np.ndarray, labels: np.ndarray) -> float:
    """Fmax over 101 thresholds on the probabilities."""
    probabilities = 1 / (1 + np.exp(-scores))
    best, positives = 0.0, np.maximum(labels.sum(1), 1)
    for threshold in np.linspace(0, 1, 101):
        chosen = probabilities >= threshold
        hits, predicted = (chosen & labels).sum(1), chosen.sum(1)
        some = predicted > 0
        if some.any():
            precision, recall = (hits[some] / predicted[some]).mean(), (hits / positives).mean()
            best = max(best, 2 * precision * recall / max(precision + recall, 1e-12))
    return best


if __name__ == "__main__":
    main()
