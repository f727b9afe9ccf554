"""Metrics of one value per prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from esmgn_core.metrics import (
    accuracy,
    auroc,
    average_precision,
    grouped_spearman,
    interval,
    mean_absolute_error,
    pearson,
    resamples,
    root_mean_squared_error,
    spearman,
)

FORMULA = Path(__file__).parents[1] / "fixtures" / "metrics"
CASES = ("random", "correlated", "ties_both", "anticorrelated", "two_points")

TARGETS = np.array([0, 0, 0, 1, 1, 1])
PREDICTED = np.array([0.5, 0.6, 0.4, 0.9, 0.7, 0.8])
TRUE = np.array([0.3, 0.5, 0.4, 0.7, 0.6, 0.8])


@pytest.mark.parametrize("case", CASES)
def test_recorded_correlations_of_the_original(case):
    with np.load(FORMULA / "correlation.npz") as file:
        predicted, true = file[f"{case}.pred"], file[f"{case}.target"]
        assert spearman(predicted, true) == pytest.approx(float(file[f"{case}.spearmanr"]), abs=2e-6)
        assert pearson(predicted, true) == pytest.approx(float(file[f"{case}.pearsonr"]), abs=2e-6)


def test_correlations_agree_with_scipy():
    generator = np.random.default_rng(1)
    one, other = generator.standard_normal((2, 80)).round(1)
    assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert pearson(one, other) == pytest.approx(stats.pearsonr(one, other).statistic)


def test_worked_examples_of_spearman():
    assert spearman(PREDICTED, TRUE) == pytest.approx(0.885714, abs=1e-6)
    assert grouped_spearman(PREDICTED, TRUE, TARGETS) == pytest.approx(0.5)
    x, y = [0.1, 0.4, 0.35, 0.8, 0.8], [0.2, 0.3, 0.5, 0.7, 0.6]
    assert spearman(x, y) == pytest.approx(0.872082, abs=1e-6)


def test_a_constant_prediction_has_no_rank_correlation():
    assert spearman(np.ones(6), TRUE) == 0
    assert np.isnan(pearson(np.ones(6), TRUE))


def test_targets_with_two_decoys_or_constant_scores_do_not_count():
    groups = np.array([*TARGETS, 2, 2, 3, 3, 3])
    predicted = np.array([*PREDICTED, 0.1, 0.2, 0.1, 0.2, 0.3])
    true = np.array([*TRUE, 0.2, 0.1, 0.4, 0.4, 0.4])
    assert grouped_spearman(predicted, true, groups) == pytest.approx(0.5)
    assert np.isnan(grouped_spearman(predicted[:2], true[:2], groups[:2]))


def test_a_target_drawn_twice_counts_twice():
    true = np.array([0.3, 0.5, 0.2, 0.7, 0.6, 0.8])
    first = grouped_spearman(PREDICTED[:3], true[:3], TARGETS[:3])
    second = grouped_spearman(PREDICTED[3:], true[3:], TARGETS[3:])
    assert first != second
    counts = np.array([2, 2, 2, 1, 1, 1])
    assert grouped_spearman(PREDICTED, true, TARGETS, counts) == pytest.approx((2 * first + second) / 3)


def test_worked_example_of_auroc_and_averaged_precision():
    scores, labels = [0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 0, 0]
    assert auroc(scores, labels) == pytest.approx(0.833333, abs=1e-6)
    assert average_precision(scores, labels) == pytest.approx(0.833333, abs=1e-6)


def test_auroc_agrees_with_scikit_learn_also_with_ties():
    generator = np.random.default_rng(2)
    labels = generator.random(200) < 0.3
    scores = (generator.standard_normal(200) + labels).round(1)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert np.isnan(auroc(scores[labels], labels[labels]))


def test_errors_and_accuracy():
    assert mean_absolute_error([1.0, 2.0, 4.0], [1.0, 3.0, 2.0]) == pytest.approx(1.0)
    assert root_mean_squared_error([1.0, 2.0, 4.0], [1.0, 3.0, 2.0]) == pytest.approx((5 / 3) ** 0.5)
    assert mean_absolute_error([1.0, 2.0], [np.nan, 3.0]) == pytest.approx(1.0)
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6], [0.4, 0.6]])
    assert accuracy(scores, torch.tensor([[1.0], [0.0], [0.0], [float("nan")]])) == pytest.approx(2 / 3)


def test_predictions_and_labels_of_different_number_are_refused():
    with pytest.raises(ValueError, match="3 predictions and 2 labels"):
        spearman([1.0, 2.0, 3.0], [1.0, 2.0])


def test_members_of_a_group_are_drawn_together():
    drawn = list(resamples(TARGETS, 50))
    assert all(len(set(counts[:3])) == len(set(counts[3:])) == 1 for counts in drawn)
    assert {counts[0] + counts[3] for counts in drawn} == {2}
    assert [counts.tolist() for counts in drawn] == [c.tolist() for c in resamples(TARGETS, 50)]


def test_the_interval_of_a_mean_is_the_known_one():
    """The bootstrap interval of a mean of 400 normal numbers is its mean +- 1.96 standard errors."""
    values = np.random.default_rng(0).standard_normal(400)
    means = [counts @ values / counts.sum() for counts in resamples(np.arange(400), 2000)]
    low, high = interval([*means, np.nan])
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.012)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.012)
    assert np.isnan(interval([np.nan]).low)


PER_PREDICTION = {
    "auroc": (auroc, [1, 1, 0, 0, 1, 0]),
    "average_precision": (average_precision, [1, 1, 0, 0, 1, 0]),
    "spearman": (spearman, TRUE),
    "pearson": (pearson, TRUE),
    "grouped_spearman": (
        lambda scores, labels: grouped_spearman(scores, labels, TARGETS[: len(labels)]),
        TRUE,
    ),
    "mean_absolute_error": (mean_absolute_error, TRUE),
    "root_mean_squared_error": (root_mean_squared_error, TRUE),
}
RANKED = np.array([5, 4, 1, 0, 2, 3])


@pytest.fixture(params=PER_PREDICTION)
def metric(request):
    return PER_PREDICTION[request.param]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8, np.float16, np.float32, object])
def test_scores_of_any_kind_of_number_rank_as_their_values(metric, dtype):
    """Unsigned scores must not wrap around when the order is reversed."""
    compute, labels = metric
    assert compute(RANKED.astype(dtype), labels) == pytest.approx(compute(RANKED.astype(float), labels))


def test_bool_scores_rank_true_first():
    assert average_precision([True, False, False], [1, 0, 0]) == 1
    assert auroc(np.array([True, False, False]), [1, 0, 0]) == 1


def test_tensors_of_half_precision_with_gradient_are_scored(metric):
    compute, labels = metric
    tensor = torch.tensor(RANKED, dtype=torch.bfloat16).requires_grad_()
    assert compute(tensor, labels) == pytest.approx(compute(RANKED.astype(float), labels))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(metric, bad):
    compute, labels = metric
    with pytest.raises(ValueError, match="scores must be finite"):
        compute([0.1, 0.2, bad, 0.4, 0.5, 0.6], labels)
    with pytest.raises(ValueError, match="scores must be finite"):
        accuracy([[0.1, bad], [0.2, 0.3]], [0, 1])


def test_an_infinite_label_is_refused(metric):
    compute, labels = metric
    with pytest.raises(ValueError, match="labels must be"):
        compute(PREDICTED, [*labels[:5], np.inf])
    with pytest.raises(ValueError, match="labels must be"):
        accuracy(np.eye(2), [0, np.inf])


@pytest.mark.parametrize("text", [["1", "1_5", "3", "4", "5", "6"], [1, 2, "x", 3, 4, 5], [1j] * 6])
def test_scores_that_are_not_numbers_are_refused(metric, text):
    compute, labels = metric
    with pytest.raises(ValueError, match="expected numbers"):
        compute(text, labels)


def test_unknown_labels_are_left_out_however_they_are_written(metric):
    compute, labels = metric
    expected = compute(np.delete(RANKED, 3), np.delete(labels, 3))
    unknown = np.array(labels, dtype=float)
    unknown[3] = np.nan
    assert compute(RANKED, unknown) == pytest.approx(expected, nan_ok=True)
    assert compute(RANKED, [*labels[:3], None, *labels[4:]]) == pytest.approx(expected, nan_ok=True)
    masked = np.ma.masked_array(labels, mask=[0, 0, 0, 1, 0, 0])
    assert compute(RANKED, masked) == pytest.approx(expected, nan_ok=True)


def test_metrics_without_a_known_label_are_undefined(metric):
    compute, _ = metric
    assert np.isnan(compute(PREDICTED, np.full(6, np.nan)))
    assert np.isnan(accuracy(np.eye(2), [np.nan, np.nan]))


def test_metrics_of_empty_arrays_are_undefined():
    for compute in (spearman, pearson, auroc, average_precision, mean_absolute_error):
        assert np.isnan(compute([], []))
    assert np.isnan(accuracy(np.zeros((0, 2)), []))
    assert np.isnan(grouped_spearman([], [], []))
    assert [counts.tolist() for counts in resamples([], 2)] == [[], []]
    assert np.isnan(spearman([1.0], [1.0]))


def test_equal_numbers_have_no_correlation_whatever_their_rounding():
    """The mean of six times 0.1 is not 0.1 in float64."""
    assert np.isnan(pearson(np.full(6, 0.1), TRUE))
    assert np.isnan(pearson(TRUE, np.full(6, 0.1)))
    assert spearman(np.full(6, 0.1), TRUE) == 0


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_correlations_do_not_depend_on_the_unit(scale):
    assert pearson(PREDICTED * scale, TRUE) == pytest.approx(pearson(PREDICTED, TRUE))


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda: auroc([0.1, 0.2], [0, 2]), "labels must be 1 or 0"),
        (lambda: average_precision([0.1, 0.2], [-1, 1]), "labels must be 1 or 0"),
        (lambda: accuracy(np.eye(2), [0, 2]), "labels must be whole numbers from 0 to 1"),
        (lambda: accuracy(np.eye(2), [0, 0.5]), "labels must be whole numbers from 0 to 1"),
        (lambda: accuracy([0.1, 0.2], [0, 1]), r"expected scores \[P, T\] of T classes, got shape \[2\]"),
        (lambda: grouped_spearman([1, 2, 3], [1, 2, 3], [0, 0]), "3 predictions, and groups"),
    ],
)
def test_invalid_labels_and_shapes_are_named(compute, message):
    with pytest.raises(ValueError, match=message):
        compute()


def test_groups_may_be_text():
    names = np.array(["a", "b"])[TARGETS]
    assert grouped_spearman(PREDICTED, TRUE, names) == grouped_spearman(PREDICTED, TRUE, TARGETS)
