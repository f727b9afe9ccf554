"""Tables of a study: statistics, published values and formats."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from esmgn_core.host.registry import discover
from esmgn_core.metrics import spearman
from esmgn_core.study.folder import StudyFolder
from esmgn_core.study.plan import Cell, Study
from esmgn_core.study.published import differences_from, published, published_values
from esmgn_core.study.render import as_csv, as_latex, as_markdown, notes
from esmgn_core.study.results import lower_is_better, read_results
from esmgn_core.study.table import Column, Table, holm, make_table

REGISTRY = discover()
ROWS = ("GearNet", "other")


def pretext_study(seeds: Sequence[int] = (0, 1, 2)) -> list[Cell]:
    rows = [
        {"label": label, "struct": {"name": "gearnet", "hidden_dim": 8 * n}}
        for n, label in enumerate(ROWS, 1)
    ]
    content = {
        "run": {"seq": "onehot", "pretext": "residue_type"},
        "axes": {"seed": list(seeds)},
        "rows": rows,
    }
    return Study.of(content, origin="a.toml", name="a").cells(REGISTRY)


def downstream_study(seeds: Sequence[int] = (0, 1)) -> list[Cell]:
    content = {
        "run": {"seq": "onehot", "downstream": "psr", "data": "psr"},
        "axes": {"seed": list(seeds)},
        "rows": [
            {"label": label, "fuse": "sequence", "optim.lr": n * 0.1} for n, label in enumerate(ROWS, 1)
        ],
    }
    return Study.of(content, origin="a.toml", name="a").cells(REGISTRY)


def finish(cell: Cell, folder: StudyFolder, lines: Sequence[Mapping[str, float]]) -> Path:
    """A run folder as a finished run leaves it."""
    run = folder.run(cell)
    run.path.mkdir(parents=True)
    run.write_config(cell.config)
    run.log("finished at step 2")
    for line in lines:
        run.append_metrics(int(line["step"]), {key: value for key, value in line.items() if key != "step"})
    return run.path


def finish_test(cell: Cell, folder: StudyFolder, predictions: np.ndarray, labels: np.ndarray) -> None:
    path = finish(cell, folder, [])
    run = folder.run(cell)
    run.write_labels("regression", ["gdt_ts"])
    value = spearman(predictions, labels)
    scores = {"spearman": {"value": value}, "mae": {"value": 0.5}}
    run.results.write_text(
        json.dumps(
            {"step": 2, "metric": "spearman", "sets": {"test": {"num_predictions": 50, "scores": scores}}}
        )
    )
    arrays: dict[str, Any] = {
        "test.predictions": predictions[:, None].astype(np.float32),
        "test.labels": labels[:, None].astype(np.float32),
        "test.names": np.array([f"T{number}/d" for number in range(len(labels))]),
    }
    np.savez(path / "predictions.npz", **arrays)


LOSSES = {"GearNet": [2.0, 2.1, 2.2], "other": [2.5, 2.7, 2.6]}


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


@pytest.fixture
def pretext_table(folder: StudyFolder) -> Table:
    cells = pretext_study()
    for cell in cells:
        loss = LOSSES[cell.labels["row"]][int(cell.labels["seed"])]
        # The best step counts, not the last one.
        lines = [
            {"step": 1, "valid_loss": loss, "valid_accuracy": 0.3},
            {"step": 2, "valid_loss": loss + 1, "valid_accuracy": 0.9},
        ]
        finish(cell, folder, lines)
    return make_table(read_results(cells, folder), REGISTRY)


COLUMN = Column("run", (), "valid", "loss")


def test_the_mean_deviation_and_interval_are_over_seeds(pretext_table: Table) -> None:
    entry = pretext_table.entries["GearNet", COLUMN]
    assert entry.mean == pytest.approx(2.1)
    assert entry.deviation == pytest.approx(0.1)
    assert entry.interval == pytest.approx(stats.t.interval(0.95, 2, 2.1, stats.sem(LOSSES["GearNet"])))
    assert entry.over == "seeds"


def test_the_lowest_loss_is_best_and_the_other_is_tested_in_pairs(pretext_table: Table) -> None:
    best, other = (pretext_table.entries[row, COLUMN] for row in ROWS)
    assert (best.best, other.best, best.p) == (True, False, None)
    assert other.p == pytest.approx(stats.ttest_rel(LOSSES["GearNet"], LOSSES["other"]).pvalue)
    assert pretext_table.num_tests == 1


def test_two_seeds_are_not_tested(folder: StudyFolder) -> None:
    cells = pretext_study(seeds=(0, 1))
    for cell in cells:
        finish(cell, folder, [{"step": 1, "valid_loss": float(cell.labels["seed"])}])
    table = make_table(read_results(cells, folder), REGISTRY)
    assert [entry.p for entry in table.entries.values()] == [None, None]


def test_another_score_can_be_compared(folder: StudyFolder) -> None:
    cells = pretext_study()
    for cell in cells:
        accuracy = 0.3 if cell.labels["row"] == "other" else 0.2
        finish(cell, folder, [{"step": 1, "valid_loss": 1.0, "valid_accuracy": accuracy}])
    table = make_table(read_results(cells, folder), REGISTRY, metric="accuracy")
    [column] = table.columns
    assert column.metric == "accuracy"
    assert table.entries["other", column].best


def test_missing_cells_are_counted(folder: StudyFolder) -> None:
    cells = pretext_study()
    finish(cells[0], folder, [{"step": 1, "valid_loss": 1.0}])
    table = make_table(read_results(cells, folder), REGISTRY)
    assert table.num_missing == 5
    assert "5 cells not done: see esmgn study status" in notes(table)


def downstream_table(folder: StudyFolder, noise: Mapping[str, float], seeds: Sequence[int] = (0, 1)) -> Table:
    cells = downstream_study(seeds)
    labels = np.random.default_rng(0).random(60)
    for number, cell in enumerate(cells):
        drawn = np.random.default_rng(number % len(seeds) + 1).normal(size=60)
        finish_test(cell, folder, labels + noise[cell.labels["row"]] * drawn, labels)
    return make_table(read_results(cells, folder), REGISTRY, resamples=200)


def test_test_scores_have_intervals_over_proteins(folder: StudyFolder) -> None:
    table = downstream_table(folder, {"GearNet": 0.1, "other": 0.1}, seeds=[0])
    for entry in table.entries.values():
        assert entry.over == "proteins"
        assert entry.interval is not None
        assert entry.interval.low < entry.mean < entry.interval.high
        assert entry.deviation is None


def test_a_clear_difference_is_significant_and_none_is_not(folder: StudyFolder, tmp_path: Path) -> None:
    clear = downstream_table(folder, {"GearNet": 0.05, "other": 3.0})
    [column] = clear.columns
    assert clear.entries["GearNet", column].best
    assert clear.entries["other", column].p == pytest.approx(2 / 201)
    assert not clear.entries["other", column].as_good_as_best
    equal = downstream_table(StudyFolder(tmp_path / "equal"), {"GearNet": 0.5, "other": 0.5})
    assert all(entry.as_good_as_best for entry in equal.entries.values())


def test_published_values_and_why_they_are_not_comparable(folder: StudyFolder) -> None:
    table = downstream_table(folder, {"GearNet": 0.1, "other": 0.2})
    [column] = table.columns
    entry = table.entries["GearNet", column]
    assert entry.published is not None
    assert (entry.published.value, entry.published.band) == (0.708, 0.02)
    assert "optim.lr = 0.1, published 0.0001" in entry.not_comparable
    assert "train.epochs = 50, published 20" in entry.not_comparable
    assert table.entries["other", column].published is None
    text = "\n".join(notes(table))
    assert "published: ESM-GearNet, arXiv 2303.06275" in text
    assert "not comparable with the published values: optim.lr = 0.1, published 0.0001" in text


def test_a_run_of_the_published_recipe_is_comparable() -> None:
    content = {
        "rows": [{"label": "ESM-GearNet serial", "fuse": "serial"}],
        "stages": [{"name": "psr", "recipe": "psr"}],
    }
    [cell] = Study.of(content, origin="a.toml", name="a").cells(REGISTRY)
    assert differences_from(cell.config, "psr", REGISTRY) == []
    random = cell.config.model_copy(
        update={"seq": type(cell.config.seq)(name="esm2_650m", component="esm2", weights="random")}  # type: ignore[misc]  # it has a table
    )
    assert differences_from(random, "psr", REGISTRY) == ["random weights of esm2_650m"]


def test_published_values_are_scores_of_published_tasks() -> None:
    for item in published_values():
        assert item.task in REGISTRY.catalogue.recipes
        assert 0 < item.value < 1
        assert item.source
    assert published("ESM-GearNet serial", "ec") is not None
    assert published("nothing", "ec") is None


def test_holm_corrects_and_stays_monotonic() -> None:
    values = [0.001, 0.02, 0.03, 0.5]
    assert holm(values) == [0.004, 0.06, 0.06, 0.5]
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("name", "expected"), [("loss", True), ("distance_mae", True), ("f_max", False), ("lossless", False)]
)
def test_losses_and_errors_are_better_if_lower(name: str, *, expected: bool) -> None:
    assert lower_is_better(name) == expected


def test_formats_have_the_same_numbers(pretext_table: Table) -> None:
    markdown, latex = as_markdown(pretext_table), as_latex(pretext_table)
    assert "| GearNet | **2.100 ± 0.100 [1.852, 2.348]** |" in markdown
    assert "GearNet & \\textbf{2.100 $\\pm$ 0.100 [1.852, 2.348]} \\\\" in latex
    assert "% lower loss is better" in latex
    rows = list(csv.DictReader(as_csv(pretext_table).splitlines()))
    assert [row["row"] for row in rows] == list(ROWS)
    assert float(rows[0]["mean"]) == pytest.approx(2.1)
    assert (rows[0]["best"], rows[1]["best"]) == ("yes", "")
    assert float(rows[1]["p_corrected"]) == pytest.approx(pretext_table.entries["other", COLUMN].p)


def test_names_cannot_break_a_format(folder: StudyFolder) -> None:
    content = {
        "run": {"seq": "onehot", "pretext": "residue_type"},
        "axes": {"seed": [0]},
        "rows": [{"label": "a|b & 50% _x", "fuse": "sequence"}],
    }
    cells = Study.of(content, origin="a.toml", name="a").cells(REGISTRY)
    finish(cells[0], folder, [{"step": 1, "valid_loss": 1.0}])
    table = make_table(read_results(cells, folder), REGISTRY)
    assert "| a\\|b & 50% _x |" in as_markdown(table)
    assert "a|b \\& 50\\% \\_x & " in as_latex(table)
