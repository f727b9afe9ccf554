"""What a study costs: hours from a measured probe, and disk space."""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from esmgn_core.engine.session import start_run
from esmgn_core.host.hooks import hookimpl
from esmgn_core.host.registry import Registry
from esmgn_core.run_folder import RunFolder
from esmgn_core.study.plan import ROW, Cell

_STEPS = 8
"""Steps of a probe. The first one also warms up and is not counted."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated cost of one cell.

    Attributes:
        steps: optimiser steps.
        seconds: time of training, without start, validation and tests.
        megabytes: size of the run folder.
    """

    steps: int
    seconds: float
    megabytes: float


@dataclass(slots=True)
class _Stopwatch:
    """Observer that notes the time of each step and stops the run after a few."""

    total: int = 0
    times: list[float] = field(default_factory=list)

    @hookimpl
    def esmgn_run_started(self, total_steps: int) -> None:
        self.total = total_steps

    @hookimpl
    def esmgn_metrics_logged(self, step: int) -> None:
        self.times.append(time.perf_counter())
        if step == _STEPS:
            os.kill(os.getpid(), signal.SIGTERM)  # as a user would: the run saves and stops


def measured(registry: Registry, cells: Sequence[Cell]) -> dict[str, Cost]:
    """Estimate the cost of cells by a few steps of one run for each stage and row.

    Args:
        registry: all components.
        cells: the cells to estimate.

    Returns:
        The cost of each cell, by its id.
    """
    probed: dict[tuple[str, str], Cost] = {}
    for cell in cells:
        kind = cell.stage, cell.labels.get(ROW, "")
        if kind not in probed:
            probed[kind] = _probe(registry, cell)
    return {cell.id: probed[cell.stage, cell.labels.get(ROW, "")] for cell in cells}


def _probe(registry: Registry, cell: Cell) -> Cost:
    watch = _Stopwatch()
    changes = {"log_every": 1, "trackers": ()}
    config = cell.config.model_copy(update={"train": cell.config.train.model_copy(update=changes)})
    registry.manager.register(watch)
    try:
        with tempfile.TemporaryDirectory(prefix="esmgn-") as folder:
            run = start_run(registry, config, out=Path(folder) / "run").run
            size = _size(run)
    finally:
        registry.manager.unregister(watch)
    steps = [later - earlier for earlier, later in zip(watch.times, watch.times[1:], strict=False)]
    seconds = statistics.median(steps) * watch.total if steps else 0.0
    return Cost(watch.total, seconds, size)


def _size(run: RunFolder) -> float:
    return sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file()) / 1e6
