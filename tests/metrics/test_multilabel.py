"""Fmax and averaged precision of multi-label predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from esmgn_core.metrics import Sweep, average_precision, f_max, macro_average_precision

FORMULA = Path(__file__).parents[1] / "fixtures" / "metrics"
REAL = Path(__file__).parents[3] / "shared" / "fixtures" / "torchdrug" / "metrics"
CASES = ("random", "ties_coarse", "zero_label_rows", "perfect", "single_row", "all_negative")

SCORES = np.array([[2.0, 0.5, -1.0], [1.0, 0.2, -0.5], [0.3, -2.0, -3.0]])
LABELS = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]])


@pytest.fixture(params=[FORMULA, REAL], ids=["formula", "real"])
def recorded(request):
    if not request.param.is_dir():
        pytest.skip("recorded values are missing (../shared/fixtures/torchdrug)")
    with np.load(request.param / "multilabel.npz") as file:
        return dict(file)


@pytest.mark.parametrize("case", CASES)
def test_recorded_values_of_the_original(recorded, case):
    scores, labels = recorded[f"{case}.pred"], recorded[f"{case}.target"]
    value = {name: recorded[f"{case}.{name}"] for name in ("f1_max", "f1_max_distinct_thresholds")}
    assert f_max(scores, labels, mode="torchdrug") == pytest.approx(float(value["f1_max"]), abs=1e-6)
    assert f_max(scores, labels) == pytest.approx(float(value["f1_max_distinct_thresholds"]), abs=1e-7)
    expected = float(recorded[f"{case}.average_precision_distinct_thresholds"])
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-7)
    if not recorded[f"{case}.has_ties"]:
        assert average_precision(scores, labels) == pytest.approx(
            float(recorded[f"{case}.auprc_micro"]), abs=1e-6
        )


def test_a_protein_without_labels_counts_as_in_the_published_numbers():
    """It lowers recall, and precision once a class is predicted for it."""
    assert f_max(SCORES, LABELS) == pytest.approx(4 / 9)
    assert f_max(SCORES, LABELS, mode="torchdrug") == pytest.approx(4 / 9)
    assert f_max(SCORES, LABELS, mode="cafa") == pytest.approx(0.5)
    assert f_max(SCORES[:2], LABELS[:2]) == pytest.approx(2 / 3)
    assert average_precision(SCORES, LABELS) == pytest.approx(0.6095238, abs=1e-7)


def test_precision_and_recall_at_each_hit_of_the_worked_example():
    sweep = Sweep.over(SCORES, LABELS)
    assert sweep.score[sweep.ends].tolist() == [2.0, 0.2, -1.0]
    precision, recall = sweep.curve()
    assert precision == pytest.approx([1, 1 / 3, 1 / 3])
    assert recall == pytest.approx([1 / 6, 0.5, 2 / 3])


def test_ties_are_one_threshold():
    """A model with equal scores for all classes gets the F of predicting everything, not 0.8."""
    scores, labels = np.zeros((2, 3)), np.array([[1, 0, 0], [1, 0, 0]])
    assert f_max(scores, labels) == pytest.approx(0.5)
    assert f_max(scores, labels, mode="torchdrug") == pytest.approx(0.8)


def by_definition(scores, labels, mode="distinct"):
    """Fmax written down threshold by threshold."""
    best = 0.0
    answerable = labels.any(1).sum() if mode == "cafa" else len(labels)
    for threshold in np.unique(scores):
        chosen = scores >= threshold
        some = chosen.any(1)
        precision = ((chosen & labels).sum(1)[some] / chosen.sum(1)[some]).mean()
        recall = ((chosen & labels).sum(1) / np.maximum(labels.sum(1), 1)).sum() / answerable
        if precision + recall:
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


@pytest.mark.parametrize("mode", ["distinct", "cafa"])
@pytest.mark.parametrize("seed", range(5))
def test_fmax_is_its_definition_also_with_many_ties(seed, mode):
    generator = np.random.default_rng(seed)
    labels = generator.random((30, 12)) < 0.15
    scores = np.round(generator.standard_normal((30, 12)) + labels, 1)
    assert f_max(scores, labels, mode=mode) == pytest.approx(by_definition(scores, labels, mode))


def test_the_order_of_proteins_and_classes_does_not_matter():
    generator = np.random.default_rng(3)
    labels = generator.random((40, 9)) < 0.2
    scores = np.round(generator.standard_normal((40, 9)), 1)
    rows, columns = generator.permutation(40), generator.permutation(9)
    assert f_max(scores[rows][:, columns], labels[rows][:, columns]) == pytest.approx(f_max(scores, labels))


def test_counts_are_repeated_proteins():
    generator = np.random.default_rng(5)
    labels = generator.random((20, 7)) < 0.3
    scores = np.round(generator.standard_normal((20, 7)), 1)
    counts = generator.integers(0, 4, 20)
    sweep = Sweep.over(scores, labels)
    repeated = scores.repeat(counts, axis=0), labels.repeat(counts, axis=0)
    assert sweep.best(counts)[0] == pytest.approx(f_max(*repeated))
    assert sweep.average_precision(counts) == pytest.approx(average_precision(*repeated))


def test_the_threshold_is_where_the_maximum_is():
    best, threshold = Sweep.over(SCORES, LABELS).best()
    chosen = threshold <= SCORES
    assert threshold == -1.0
    assert best == pytest.approx(by_definition(np.where(chosen, 1.0, 0.0), LABELS > 0), abs=1e-12)


def test_unknown_labels_are_left_out():
    """A class that is unknown for a protein is neither a hit nor a miss."""
    labels = LABELS.astype(float)
    labels[0, 1] = labels[1, 0] = np.nan
    pairs = ~np.isnan(labels)
    expected = average_precision_score(labels[pairs], SCORES[pairs])
    assert average_precision(SCORES, labels) == pytest.approx(expected)
    assert f_max(SCORES[:2], labels[:2]) == pytest.approx(6 / 7)  # precision 1 and recall 3/4 from 0.2 on


@pytest.mark.parametrize("seed", range(3))
def test_averaged_precision_agrees_with_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    labels = generator.random((50, 8)) < 0.2
    labels[:, 3] = False
    labels[0, [0, 1, 2, 4, 5, 6, 7]] = True
    scores = np.round(generator.standard_normal((50, 8)) + labels, 1)
    assert average_precision(scores, labels) == pytest.approx(
        average_precision_score(labels, scores, average="micro")
    )
    with_positives = [0, 1, 2, 4, 5, 6, 7]
    expected = average_precision_score(labels[:, with_positives], scores[:, with_positives], average="macro")
    assert macro_average_precision(scores, labels) == pytest.approx(expected)


def test_without_any_positive():
    assert f_max(SCORES, np.zeros((3, 3))) == 0
    assert average_precision(SCORES, np.zeros((3, 3))) == 0
    assert np.isnan(macro_average_precision(SCORES, np.zeros((3, 3))))


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="scores must be finite"):
        f_max(np.array([[np.nan, 1.0]]), np.array([[1, 0]]))


METRICS = (f_max, average_precision, macro_average_precision)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mode", [np.uint8, np.uint16, np.int64, np.float16, object])
def test_scores_of_any_kind_of_number_rank_as_their_values(metric, mode):
    scores = np.array([[9, 3, 0], [5, 6, 1], [2, 4, 8]])
    labels = np.eye(3)
    assert metric(scores.astype(mode), labels) == metric(scores.astype(float), labels) == 1


@pytest.mark.parametrize("metric", METRICS)
def test_bool_scores_rank_true_first(metric):
    assert metric(np.eye(3, dtype=bool), np.eye(3)) == 1


@pytest.mark.parametrize("mode", ["distinct", "torchdrug", "cafa"])
def test_a_protein_without_a_known_label_does_not_count(mode):
    """Its recall is unknown, not 0."""
    scores = np.array([*SCORES[:2], [3.0, 2.0, 1.0]])
    labels = np.array([*LABELS[:2].astype(float), [np.nan] * 3])
    assert f_max(scores, labels, mode=mode) == pytest.approx(f_max(SCORES[:2], LABELS[:2], mode=mode))
    sweep = Sweep.over(scores, labels, mode=mode)
    assert sweep.best([1, 1, 5]) == Sweep.over(SCORES[:2], LABELS[:2], mode=mode).best()


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_without_a_known_label_are_undefined(metric):
    assert np.isnan(metric(SCORES, np.full((3, 3), np.nan)))
    assert np.isnan(metric(np.zeros((0, 3)), np.zeros((0, 3))))
    assert np.isnan(metric(np.zeros((2, 0)), np.zeros((2, 0))))
    assert np.isnan(Sweep.over(SCORES[:2], [[1, 0, 0], [np.nan] * 3]).best([0, 1])[0])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS * 2, "labels must be 1 or 0"),
        (np.where(LABELS > 0, np.inf, 0), "labels must be 1 or 0"),
        (LABELS[:2], "must be"),
    ],
)
def test_other_labels_are_refused(metric, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(SCORES, labels)


@pytest.mark.parametrize("metric", METRICS)
def test_one_class_and_constant_scores(metric):
    """One class with constant scores: everything is predicted or nothing."""
    assert metric(np.zeros((4, 1)), [[1], [0], [0], [0]]) == pytest.approx(0.25)
