"""Scores of the cells of a study, from their run folders alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from esmgn_core.engine.evaluate import Predictions, read_predictions, resampled_scores
from esmgn_core.engine.runs import RunSummary
from esmgn_core.host.registry import Registry
from esmgn_core.model.compose import resolve
from esmgn_core.protocols import DownstreamTask
from esmgn_core.spec import Kind
from esmgn_core.study.folder import StudyFolder
from esmgn_core.study.plan import ROW, SEED, Cell

VALID, TEST = "valid", "test"
LOSS = "loss"
_LOWER = ("loss", "mae", "rmse", "mse", "error", "perplexity")


@dataclass(frozen=True, slots=True, eq=False)
class CellResult:
    """Scores of a finished cell.

    Attributes:
        cell: the cell.
        summary: its run folder.
        metric: name of the score that selected the best encoder; ``loss`` of a pretext task.
        scores: ``{set: {score: value}}``; of a pretext task those of the best validation.
    """

    cell: Cell
    summary: RunSummary
    metric: str
    scores: Mapping[str, Mapping[str, float]]

    @property
    def downstream(self) -> bool:
        """True if the task of the cell learns from labels."""
        return self.cell.config.downstream is not None

    @property
    def other_labels(self) -> tuple[str, ...]:
        """Labels of the axes other than row and seed."""
        return tuple(value for key, value in self.cell.labels.items() if key not in (ROW, SEED))

    @property
    def seconds(self) -> float:
        """Time from the first start to the end, with pauses; NaN if the log does not have both."""
        lines = [line for line in _lines(self.summary.run.log_file) if " started, from step 0" in line][:1]
        lines += [line for line in _lines(self.summary.run.log_file) if " finished at step" in line][-1:]
        try:
            first, last = (datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S") for line in lines)  # noqa: DTZ007 - local
        except ValueError:
            return math.nan
        return (last - first).total_seconds()

    def predictions(self, name: str) -> Predictions | None:
        """Predictions for the set ``name``; ``None`` without them."""
        return read_predictions(self.summary.run, name)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


@dataclass(slots=True)
class Results:
    """All finished cells of a study.

    Attributes:
        cells: the results, in the order of the cells.
        missing: cells that are not done.
    """

    cells: list[CellResult] = field(default_factory=list)
    missing: list[Cell] = field(default_factory=list)


def read_results(cells: Sequence[Cell], folder: StudyFolder) -> Results:
    """Read the scores of all finished cells.

    Raises:
        RunError: the configuration of a run folder is damaged.
    """
    results = Results()
    for cell in cells:
        if folder.state(cell) == "done":
            results.cells.append(result_of(cell, RunSummary.of(folder.run(cell).path)))
        else:
            results.missing.append(cell)
    return results


def result_of(cell: Cell, summary: RunSummary) -> CellResult:
    """The scores of a finished run."""
    sets = summary.results.get("sets", {})
    if sets:
        scores = {
            name: {score: numbers["value"] for score, numbers in found["scores"].items()}
            for name, found in sets.items()
        }
        return CellResult(cell, summary, str(summary.results["metric"]), scores)
    best = summary.best()
    line: Mapping[str, Any] = next((line for line in summary.lines if best and line["step"] == best.step), {})
    valid = {name.removeprefix("valid_"): value for name, value in line.items() if name.startswith("valid_")}
    return CellResult(cell, summary, LOSS, {VALID: valid})


def lower_is_better(metric: str) -> bool:
    """True for losses and errors."""
    return metric.rpartition("_")[2] in _LOWER or metric in _LOWER


def resamples_of(
    result: CellResult, name: str, metric: str, number: int, registry: Registry
) -> np.ndarray | None:
    """Scores on bootstrap resamples of the proteins, float64 [number]; ``None`` without predictions.

    Cells with the same proteins have the same resamples, and can be compared in pairs.
    """
    found = result.predictions(name)
    if found is None:
        return None
    blueprint = resolve(registry, result.cell.config)
    _, labels = result.summary.run.recorded_labels()
    task: DownstreamTask = blueprint.build(Kind.DOWNSTREAM, encoder_dim=1, num_targets=len(labels))
    drawn = resampled_scores(task, found, number)
    return np.asarray(drawn[metric], dtype=np.float64) if metric in drawn else None
