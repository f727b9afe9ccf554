"""Tables of a study: means over seeds, intervals, paired tests and published values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from esmgn_core.host.registry import Registry
from esmgn_core.metrics import Interval, interval
from esmgn_core.study.plan import ROW, SEED
from esmgn_core.study.published import PublishedValue, differences_from, published
from esmgn_core.study.results import (
    TEST,
    VALID,
    CellResult,
    Results,
    lower_is_better,
    resamples_of,
)

LEVEL = 0.05
"""Level of the tests, after correction for the number of comparisons."""
PROTEINS, SEEDS = "proteins", "seeds"
"""What an interval is over: bootstrap resamples of the test proteins, or a t interval over seeds."""


class Column(NamedTuple):
    """One score of one stage.

    Attributes:
        stage: name of the stage.
        labels: values of the axes other than row and seed.
        set: validation or test set.
        metric: name of the score.
    """

    stage: str
    labels: tuple[str, ...]
    set: str
    metric: str

    @property
    def title(self) -> str:
        """Heading of the column."""
        return " ".join([self.stage, *self.labels, *([self.set] * (self.set != TEST)), self.metric])


@dataclass(slots=True)
class Entry:
    """One row and column of a table.

    Attributes:
        values: score of each seed.
        interval: 95 % interval of their mean; ``None`` if it cannot be estimated.
        over: what the interval is over, ``proteins`` or ``seeds``; empty without one.
        best: True if it has the best mean of its column.
        difference: mean difference from the best; ``None`` for the best itself.
        difference_interval: 95 % interval of the difference; ``None`` if it cannot be estimated.
        p: p-value of its difference from the best, corrected by Holm's method; ``None`` if not tested.
        published: the published value, if there is one.
        not_comparable: reasons why the published value cannot be compared with it.
    """

    values: Mapping[str, float]
    interval: Interval | None = None
    over: str = ""
    best: bool = False
    difference: float | None = None
    difference_interval: Interval | None = None
    p: float | None = None
    published: PublishedValue | None = None
    not_comparable: Sequence[str] = ()

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean([*self.values.values()]))

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds, n - 1; ``None`` for one seed."""
        return float(np.std([*self.values.values()], ddof=1)) if len(self.values) > 1 else None

    @property
    def as_good_as_best(self) -> bool:
        """True if it is the best, or its difference from the best is not significant."""
        return self.best or (self.p is not None and self.p >= LEVEL)


@dataclass(slots=True)
class Table:
    """Entries by row and column.

    Attributes:
        rows: labels of the rows, in order.
        columns: the columns, in order.
        entries: the entries that exist.
        num_tests: number of paired tests, for which the p-values are corrected.
        num_missing: cells that are not done.
    """

    rows: list[str]
    columns: list[Column]
    entries: dict[tuple[str, Column], Entry] = field(default_factory=dict)
    num_tests: int = 0
    num_missing: int = 0


class _Sample(NamedTuple):
    """What a paired test needs of one row: scores by seed, and mean scores on resamples if there are any."""

    values: Mapping[str, float]
    draws: np.ndarray | None


def make_table(
    results: Results, registry: Registry, *, metric: str | None = None, resamples: int = 1000
) -> Table:
    """Compare the rows of a study.

    Scores of test sets have bootstrap intervals over proteins, and differences are tested on the same
    resamples. Other scores have t intervals over seeds, and differences are tested by a paired t-test over
    seeds, from three seeds on. P-values are corrected by Holm's method for all tests of the table.

    Args:
        results: scores of the cells.
        registry: all components.
        metric: name of the score; by default the one that selects encoders (loss of pretext tasks).
        resamples: bootstrap resamples.
    """
    grouped: dict[Column, dict[str, dict[str, CellResult]]] = {}
    for result in results.cells:
        for column in _columns(result, metric):
            row = result.cell.labels.get(ROW, "")
            seed = result.cell.labels.get(SEED, "")
            grouped.setdefault(column, {}).setdefault(row, {})[seed] = result
    rows = list(dict.fromkeys(row for found in grouped.values() for row in found))
    table = Table(rows, list(grouped), num_missing=len(results.missing))
    tests: list[tuple[Entry, float]] = []
    for column, found in grouped.items():
        samples = {row: _sample(column, cells, resamples, registry) for row, cells in found.items()}
        for row, cells in found.items():
            table.entries[row, column] = _entry(column, row, cells, samples[row], registry)
        tests += _tested(column, {row: table.entries[row, column] for row in found}, samples)
    for (entry, _), corrected in zip(tests, holm([p for _, p in tests]), strict=True):
        entry.p = corrected
    table.num_tests = len(tests)
    return table


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for the number of tests by Holm's step-down method.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = round(largest, 12)
    return corrected


def _columns(result: CellResult, metric: str | None) -> Iterator[Column]:
    tests = [name for name in result.scores if name != VALID] or [VALID]
    for name in tests:
        wanted = metric or result.metric
        if _value(result, name, wanted) is not None:
            yield Column(result.cell.stage, result.other_labels, name, wanted)


def _value(result: CellResult, name: str, metric: str) -> float | None:
    value = result.scores[name].get(metric)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _sample(column: Column, cells: Mapping[str, CellResult], number: int, registry: Registry) -> _Sample:
    values = {seed: float(result.scores[column.set][column.metric]) for seed, result in cells.items()}
    drawn = [resamples_of(result, column.set, column.metric, number, registry) for result in cells.values()]
    known = [item for item in drawn if item is not None]
    draws = np.mean(known, axis=0) if len(known) == len(drawn) and number else None
    return _Sample(values, draws)


def _entry(
    column: Column, row: str, cells: Mapping[str, CellResult], sample: _Sample, registry: Registry
) -> Entry:
    entry = Entry(sample.values)
    if sample.draws is not None:
        entry.interval, entry.over = interval(sample.draws), PROTEINS
    elif len(sample.values) > 1:
        entry.interval, entry.over = _t_interval([*sample.values.values()]), SEEDS
    config = next(iter(cells.values())).cell.config
    task = config.task.name
    if (value := published(row, task)) and value.metric == column.metric:
        entry.published = value
        entry.not_comparable = differences_from(config, task, registry)
    return entry


def _t_interval(values: Sequence[float]) -> Interval:
    from scipy import stats

    spread = float(stats.sem(values))
    half = spread * float(stats.t.ppf(0.975, len(values) - 1))
    mean = float(np.mean(values))
    return Interval(mean - half, mean + half)


def _tested(
    column: Column, entries: Mapping[str, Entry], samples: Mapping[str, _Sample]
) -> list[tuple[Entry, float]]:
    """Mark the best entry, and test the others against it; returns them with their p-values."""
    sign = -1 if lower_is_better(column.metric) else 1
    best = max(entries, key=lambda row: sign * entries[row].mean)
    entries[best].best = True
    tests = []
    for row, entry in entries.items():
        if row == best:
            continue
        entry.difference = entry.mean - entries[best].mean
        entry.difference_interval = _difference_interval(samples[row], samples[best])
        p = _p_value(samples[best], samples[row])
        if p is not None:
            tests.append((entry, p))
    return tests


def _difference_interval(first: _Sample, second: _Sample) -> Interval | None:
    """Interval of the paired difference, over resamples or seeds; ``None`` if it cannot be estimated."""
    if first.draws is not None and second.draws is not None:
        paired = len(first.draws) == len(second.draws)
        return interval(first.draws - second.draws) if paired else None
    seeds = [seed for seed in first.values if seed in second.values]
    if len(seeds) < 2:
        return None
    return _t_interval([first.values[seed] - second.values[seed] for seed in seeds])


def _p_value(first: _Sample, second: _Sample) -> float | None:
    """Two-sided p-value of the paired difference; ``None`` if the two cannot be compared in pairs."""
    if first.draws is not None and second.draws is not None:
        if len(first.draws) != len(second.draws):
            return None
        difference = first.draws - second.draws
        number = len(difference)
        tail = min((difference <= 0).sum(), (difference >= 0).sum())
        return float(min(1.0, 2 * (tail + 1) / (number + 1)))
    seeds = [seed for seed in first.values if seed in second.values]
    if len(seeds) < 3:
        return None
    from scipy import stats

    one, two = ([sample.values[seed] for seed in seeds] for sample in (first, second))
    if np.ptp(np.subtract(one, two)) == 0:
        return 1.0 if one == two else 0.0
    return float(stats.ttest_rel(one, two).pvalue)
