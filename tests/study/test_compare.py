"""``esmgn runs compare`` with test scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esmgn_core.engine.runs import RunSummary
from esmgn_core.errors import RunError
from esmgn_core.host.registry import discover
from esmgn_core.study.compare import results_of_runs
from esmgn_core.study.folder import StudyFolder
from esmgn_core.study.table import make_table

from ..cli.conftest import Esmgn, esmgn  # noqa: F401 - a fixture
from .test_table import downstream_study, finish_test

LABELS = np.random.default_rng(0).normal(size=60)


def finished(folder: Path, noise: dict[str, float], seeds: tuple[int, ...] = (0, 1)) -> list[Path]:
    """Run folders of two rows with predictions that differ from the labels by noise."""
    studies, paths = StudyFolder(folder), []
    for cell in downstream_study(seeds):
        random = np.random.default_rng(int(cell.labels["seed"]) + 1)
        finish_test(cell, studies, LABELS + noise[cell.labels["row"]] * random.normal(size=60), LABELS)
        paths.append(studies.run(cell).path)
    return paths


def test_seeds_are_one_row_and_differences_have_intervals(tmp_path: Path) -> None:
    runs = finished(tmp_path, {"GearNet": 0.1, "other": 2.0})
    table = make_table(results_of_runs([RunSummary.of(run) for run in runs], discover()), discover())
    [column] = table.columns
    entries = [table.entries[row, column] for row in table.rows]
    assert [len(entry.values) for entry in entries] == [2, 2]
    best, other = sorted(entries, key=lambda entry: not entry.best)
    assert best.difference is None
    assert other.difference == pytest.approx(other.mean - best.mean)
    assert other.difference_interval is not None and other.difference is not None  # noqa: PT018
    assert other.difference_interval.low < other.difference < other.difference_interval.high < 0
    assert other.p is not None
    assert other.p < 0.01


def test_the_command_prints_scores_and_differences(esmgn: Esmgn, tmp_path: Path) -> None:  # noqa: F811
    runs = finished(tmp_path, {"GearNet": 0.1, "other": 2.0}, (0,))
    done = esmgn("runs", "compare", *runs, "--resamples", 200)
    assert done.status == 0
    assert "psr spearman" in done.out
    assert "difference from the best" in done.out
    assert "optim.lr" in done.out
    three = esmgn("runs", "compare", *finished(tmp_path / "more", {"GearNet": 0.1, "other": 0.2}))
    assert three.status == 0
    assert "mean ± standard deviation over seeds" in three.out
    assert "optim.lr" not in three.out


def changed(run: Path, **arrays: object) -> None:
    """Write a run's predictions again with other arrays."""
    with np.load(run / "predictions.npz") as found:
        content = {**found, **{name.replace("__", "."): value for name, value in arrays.items()}}
    np.savez(run / "predictions.npz", **content)


def test_unknown_labels_are_not_labels_of_zero_and_all_pairs_are_compared(tmp_path: Path) -> None:
    runs = finished(tmp_path, {"GearNet": 0.1, "other": 2.0})
    known, unknown = LABELS.copy(), LABELS.copy()
    known[0], unknown[0] = 0.0, np.nan
    for run in runs:
        changed(run, test__labels=known.reshape(-1, 1))
    results_of_runs([RunSummary.of(run) for run in runs], discover())
    changed(runs[3], test__labels=unknown.reshape(-1, 1))
    with pytest.raises(RunError, match="has other labels"):
        results_of_runs([RunSummary.of(run) for run in runs], discover())


def test_runs_on_other_proteins_or_with_one_seed_are_refused(esmgn: Esmgn, tmp_path: Path) -> None:  # noqa: F811
    runs = finished(tmp_path, {"GearNet": 0.1, "other": 2.0}, (0,))
    with np.load(runs[1] / "predictions.npz") as arrays:
        names = np.array([f"{name}x" for name in arrays["test.names"]])
    changed(runs[1], test__names=names)
    with pytest.raises(RunError, match="has other proteins: 120 are in one of them only"):
        results_of_runs([RunSummary.of(run) for run in runs], discover())
    with pytest.raises(RunError, match="same settings and seed 0"):
        results_of_runs([RunSummary.of(runs[0])] * 2, discover())
    assert esmgn("runs", "compare", runs[0]).status == 2
    (runs[1] / "results.json").unlink()
    assert f"no comparison of scores: {runs[1]} has none" in esmgn("runs", "compare", *runs).out
