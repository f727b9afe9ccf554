"""Heads, losses and windows of the downstream tasks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.errors import StructureError
from esmgn_core.graph import View
from esmgn_core.testing import example_proteins
from esmgn_core.testing.examples import ExampleGraph
from esmgn_downstream.classification import Classification
from esmgn_downstream.head import HeadSettings
from esmgn_downstream.multilabel import Multilabel
from esmgn_downstream.paired import Paired
from esmgn_downstream.regression import Regression

FUSED = 1280 + 3072


@pytest.mark.parametrize(
    ("task", "settings", "encoder_dim", "num_targets", "expected"),
    [
        (Multilabel, {}, FUSED, 538, 40_230_426),
        (Multilabel, {}, FUSED, 489, 40_017_129),
        (Multilabel, {}, FUSED, 1943, 46_346_391),
        (Multilabel, {}, FUSED, 320, 39_281_472),
        (Multilabel, {"num_layers": 2}, 1280, 538, 2_328_858),
        (Regression, {}, FUSED, 1, 37_892_865),
        (Paired, {}, FUSED, 1, 8_705),
    ],
)
def test_heads_have_the_published_numbers_of_parameters(task, settings, encoder_dim, num_targets, expected):
    with torch.device("meta"):
        head = task(task.Settings(**settings), encoder_dim=encoder_dim, num_targets=num_targets)
    assert sum(parameter.numel() for parameter in head.parameters()) == expected


def test_the_head_for_folds_has_normalisation_and_dropout_in_both_hidden_layers():
    settings = Classification.Settings(batch_norm=True, dropout=0.5)
    head = Classification(settings, encoder_dim=8, num_targets=5).head
    kinds = [type(part).__name__ for part in head]
    assert kinds == [*["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 2, "Linear"]


def batch_with(labels):
    proteins = [
        replace(protein, labels=torch.tensor(row))
        for protein, row in zip(example_proteins(), labels, strict=False)
    ]
    return ProteinBatch.from_proteins(proteins)


def encoded(batch, dim=6):
    generator = torch.Generator().manual_seed(4)
    return Encoding.from_residues(torch.randn(batch.num_residues, dim, generator=generator), batch)


def view_of(batch):
    return View(batch, ExampleGraph()(batch), {})


def test_unknown_labels_take_no_part_in_the_loss():
    task = Multilabel(Multilabel.Settings(), encoder_dim=6, num_targets=2)
    batch = batch_with([[1.0, 0.0], [math.nan, 1.0], [0.0, math.nan]])
    output = task.loss([view_of(batch)], [encoded(batch)])
    logits = task.predict(encoded(batch), batch)
    known = ~batch.labels.isnan()
    expected = binary_cross_entropy_with_logits(logits[known], batch.labels[known])
    assert output.num_samples == 4
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_protein_without_classes_is_learned_from():
    task = Multilabel(Multilabel.Settings(), encoder_dim=6, num_targets=2)
    batch = batch_with([[0.0, 0.0]])
    assert task.loss([view_of(batch)], [encoded(batch)]).num_samples == 2


def test_values_are_standardised_by_the_training_labels_and_predicted_in_their_unit():
    task = Regression(Regression.Settings(), encoder_dim=6, num_targets=1)
    task.prepare(torch.tensor([[1.0], [2.0], [6.0], [math.nan]]))
    assert (float(task.mean), float(task.std)) == pytest.approx((3.0, math.sqrt(7.0)))
    batch = batch_with([[3.0 + math.sqrt(7.0)]])
    with torch.no_grad():
        task.head[-1].weight.zero_()
        task.head[-1].bias.fill_(0.25)
    assert task.predict(encoded(batch), batch).item() == pytest.approx(3 + 0.25 * math.sqrt(7.0))
    assert task.loss([view_of(batch)], [encoded(batch)]).loss.item() == pytest.approx(0.75**2, rel=1e-5)


def test_equal_training_labels_do_not_divide_by_zero():
    task = Regression(Regression.Settings(), encoder_dim=6, num_targets=2)
    task.prepare(torch.tensor([[5.0, 1.0], [5.0, math.nan]]))
    assert task.std.tolist() == [1.0, 1.0]


def test_models_of_one_target_are_also_ranked_among_themselves():
    task = Regression(Regression.Settings(), encoder_dim=6, num_targets=1)
    predicted = torch.tensor([0.5, 0.6, 0.4, 0.9, 0.7, 0.8]).unsqueeze(1)
    true = torch.tensor([0.3, 0.5, 0.4, 0.7, 0.6, 0.8]).unsqueeze(1)
    scores = task.score(predicted, true, torch.tensor([0, 0, 0, 1, 1, 1]))
    assert scores["spearman"] == pytest.approx(0.885714, abs=1e-6)
    assert scores["spearman_per_group"] == pytest.approx(0.5)
    assert "spearman_per_group" not in task.score(predicted, true, torch.arange(6))


def pair(length, places, name="p"):
    long = next(protein for protein in example_proteins() if protein.name == "long")
    whole = ProteinBatch.from_proteins([long]).select(torch.arange(120) < length)
    fields = ("residue_type", "backbone", "atom_mask", "residue_index", "chain_index")
    wild = replace(
        long, name=name, labels=torch.tensor([1.0]), **{field: getattr(whole, field) for field in fields}
    )
    kinds = wild.residue_type.clone()
    kinds[list(places)] = (kinds[list(places)] + 1) % 20
    return [wild, replace(wild, name=f"{name}:mutant", residue_type=kinds)]


def test_a_pair_is_predicted_from_the_mean_over_its_mutated_residues():
    batch = ProteinBatch.from_proteins([*pair(20, [3, 9]), *pair(12, [11])])
    task = Paired(Paired.Settings(), encoder_dim=6, num_targets=1)
    encoding = encoded(batch)
    residue = encoding.residue
    features = torch.stack(
        [
            torch.cat([(residue[3] + residue[9]) / 2, (residue[23] + residue[29]) / 2]),
            torch.cat([residue[40 + 11], residue[52 + 11]]),
        ]
    )
    assert torch.allclose(task.predict(encoding, batch), task.head(features))


@pytest.mark.parametrize(("place", "first"), [(5, 0), (50, 35), (115, 90)])
def test_training_on_pairs_sees_a_window_around_the_mutation(place, first):
    task = Paired(Paired.Settings(max_length=30), encoder_dim=6, num_targets=1)
    batch = ProteinBatch.from_proteins(pair(120, [place]))
    (view,) = task.train().views(batch, ExampleGraph(), None)
    assert view.batch.lengths.tolist() == [30, 30]
    assert torch.equal(view.batch.residue_type[:30], batch.residue_type[first : first + 30])
    differs = view.batch.residue_type[:30] != view.batch.residue_type[30:]
    assert differs.nonzero().flatten().tolist() == [place - first]


def test_proteins_of_a_pair_that_differ_in_length():
    batch = ProteinBatch.from_proteins([pair(20, [3])[0], pair(19, [3])[1]])
    with pytest.raises(StructureError, match="'p' and 'p:mutant' are a pair but have 20 and 19 residues"):
        Paired(Paired.Settings(), encoder_dim=6, num_targets=1).predict(encoded(batch), batch)


@pytest.mark.parametrize("task", [Multilabel, Classification, Regression])
def test_training_sees_the_beginning_and_testing_all(task):
    """Nothing is cut in testing unless test_max_length is set."""
    batch = ProteinBatch.from_proteins(example_proteins())
    cut = task(task.Settings(max_length=25), encoder_dim=6, num_targets=1)
    (training,) = cut.train().views(batch, ExampleGraph(), None)
    (testing,) = cut.eval().views(batch, ExampleGraph(), None)
    assert training.batch.lengths.tolist() == [25, 1, 25, 2, 25]
    assert torch.equal(training.batch.residue_type[:25], batch.residue_type[:25])
    assert torch.equal(testing.batch.lengths, batch.lengths)


def test_residues_that_the_encoder_sees_at_most():
    task = Multilabel(Multilabel.Settings(max_length=25), encoder_dim=6, num_targets=1)
    assert task.max_residues is None
    both = Multilabel(Multilabel.Settings(max_length=25, test_max_length=50), encoder_dim=6, num_targets=1)
    assert both.max_residues == 50
    assert HeadSettings().max_length == 0


def test_a_target_without_known_labels_is_left_out_of_the_mean_over_targets():
    """One column that no validation protein has a value for must not make every epoch undefined."""
    predicted = torch.tensor([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])
    unknown = torch.full((3,), math.nan)
    numbers = Regression(Regression.Settings(), encoder_dim=6, num_targets=2)
    scores = numbers.score(predicted, torch.stack([predicted[:, 0], unknown], dim=1), torch.arange(3))
    assert scores == pytest.approx(
        {"spearman": 1, "pearson": 1, "mean_absolute_error": 0, "root_mean_squared_error": 0}
    )
    pairs = Paired(Paired.Settings(), encoder_dim=6, num_targets=2)
    labels = torch.stack([torch.tensor([0.0, 1.0, 1.0]), unknown], dim=1)
    assert pairs.score(predicted, labels, torch.arange(3)) == {"auroc": 1, "aupr": 1}


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (Multilabel, [[math.nan] * 2] * 3),
        (Classification, [[math.nan]] * 3),
        (Regression, [[math.nan] * 2] * 3),
        (Paired, [[math.nan] * 2] * 3),
    ],
)
def test_scores_without_a_known_label_are_undefined(task, labels):
    head = task(task.Settings(), encoder_dim=6, num_targets=2)
    scores = head.score(torch.rand(3, 2), torch.tensor(labels), torch.zeros(3, dtype=torch.int64))
    assert all(math.isnan(value) for value in scores.values())
    empty = head.score(torch.zeros(0, 2), torch.tensor(labels)[:0], torch.zeros(0, dtype=torch.int64))
    assert all(math.isnan(value) for value in empty.values())


def test_equal_labels_whose_mean_is_rounded_are_not_scaled_up():
    """The standard deviation of six times 0.1 in float64 may be 1e-17."""
    task = Regression(Regression.Settings(), encoder_dim=6, num_targets=1)
    task.prepare(torch.full((6, 1), 0.1))
    assert task.std.tolist() == [1.0]
