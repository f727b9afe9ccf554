"""Residues of low pLDDT are left out, counted less, or lose their edges; others are never touched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch, TaskOutput
from esmgn_core.draws import SeededDraws
from esmgn_core.graph import View
from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind
from esmgn_core.testing import example_proteins
from esmgn_core.testing.claims import differences, snapshot
from esmgn_core.testing.examples import ExampleGraph
from esmgn_core.testing.tasks import encode, example_encoder
from esmgn_pretext import denoiser

THRESHOLD = 70.0
PREDICTIONS = {
    "residue_type": "residue",
    "distance": "pair",
    "angle": "residues",
    "dihedral": "residues",
}
"""Target of each task that holds the residues a prediction is about."""
each_task = pytest.mark.parametrize("name", PREDICTIONS)


@pytest.fixture
def batch() -> ProteinBatch:
    """Proteins of 40, 1, 120, 2 and 33 residues; the second and the last two are predicted structures."""
    whole = ProteinBatch.from_proteins(example_proteins())
    assert whole.plddt is not None
    plddt = whole.plddt.index_fill(0, torch.tensor([40, 161]), 30.0).index_fill(0, torch.tensor([162]), 90.0)
    assert 5 < int((plddt[163:] < THRESHOLD).sum()) < 28
    return whole.replace(plddt=plddt)


def task(name: str, **plddt: Any) -> Any:
    registry = discover()
    component: Any = registry.load(registry.component(Kind.PRETEXT, name))
    torch.manual_seed(0)
    return component(component.Settings(crop_length=0, plddt=plddt), encoder_dim=example_encoder().output_dim)


def views(subject: Any, batch: ProteinBatch) -> tuple[View, ...]:
    made: tuple[View, ...] = subject.views(batch, ExampleGraph(), SeededDraws(0, 0, range(len(batch))))
    return made


def loss(subject: Any, made: tuple[View, ...]) -> TaskOutput:
    with torch.no_grad():
        output: TaskOutput = subject.loss(made, encode(example_encoder(), made))
    return output


def uncertain(name: str, view: View) -> Tensor:
    """Mask of the predictions about a residue below the threshold."""
    assert view.batch.plddt is not None
    low = (view.batch.plddt < THRESHOLD)[view.targets[PREDICTIONS[name]]]
    return low if low.dim() == 1 else low.any(dim=0)


def part(view: View, chosen: Tensor) -> tuple[View]:
    """The view with some of its predictions, none of them weighted."""
    targets = {key: target[..., chosen] for key, target in view.targets.items() if key != "weight"}
    return (View(view.batch, view.graph, targets),)


@each_task
@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_predictions_about_uncertain_residues_count_as_set(
    name: str, weight: float, batch: ProteinBatch
) -> None:
    """The loss is the weighted mean of those about certain and those about uncertain residues."""
    subject = task(name, threshold=THRESHOLD, weight=weight)
    (view,) = views(subject, batch)
    low = uncertain(name, view)
    sure, unsure, output = (loss(subject, made) for made in (part(view, ~low), part(view, low), (view,)))
    counts = sure.num_samples, weight * unsure.num_samples
    assert min(sure.num_samples, unsure.num_samples) > 0
    assert output.num_samples == pytest.approx(sum(counts))
    expected = (counts[0] * sure.loss + counts[1] * unsure.loss) / sum(counts)
    torch.testing.assert_close(output.loss, expected)
    for key, value in output.metrics.items():
        mean = (counts[0] * sure.metrics[key] + counts[1] * unsure.metrics[key]) / sum(counts)
        torch.testing.assert_close(value, mean)


@each_task
def test_uncertain_residues_lose_their_edges_before_any_is_drawn(name: str, batch: ProteinBatch) -> None:
    (view,) = views(task(name, threshold=THRESHOLD, weight=1, drop_edges=True), batch)
    assert view.batch.plddt is not None
    low = view.batch.plddt < THRESHOLD
    source, target = view.graph.edge_index
    assert bool((source == target)[low[source] | low[target]].all())
    assert "weight" not in view.targets
    if name != "residue_type":
        drawn = view.targets[PREDICTIONS[name]][:, uncertain(name, view)]
        assert bool((drawn == drawn[0]).all()), "an edge of an uncertain residue was drawn"


@each_task
def test_proteins_without_plddt_are_treated_as_before(name: str, batch: ProteinBatch) -> None:
    """An experimental structure has the same views and loss, alone and beside predicted ones."""
    rules = {"threshold": THRESHOLD, "weight": 0.5, "drop_edges": True}
    experimental = batch.replace(plddt=None)
    plain, ruled = (views(task(name, **settings), experimental) for settings in ({}, rules))
    assert differences(snapshot(plain), snapshot(ruled)) == []
    (beside,) = views(task(name, **rules), batch)
    assert beside.batch.plddt is not None
    known = beside.batch.plddt.isnan()[beside.targets[PREDICTIONS[name]]]
    weight = beside.targets["weight"][known if known.dim() == 1 else known.all(dim=0)]
    assert len(weight) > 0
    assert bool((weight == 1).all())


@each_task
def test_confidence_has_no_say_unless_asked(name: str, batch: ProteinBatch) -> None:
    plain, blind = views(task(name), batch), views(task(name), batch.replace(plddt=None))
    assert set(differences(snapshot(plain), snapshot(blind))) == {"0.batch.plddt"}


def by_protein(values: Tensor, weight: Tensor, protein: Tensor) -> float:
    """Mean over five proteins of the weighted mean of each one's values, as a plain loop."""
    found = []
    for number in range(5):
        own = protein == number
        total = float(weight[own].sum())
        found.append(float((values * weight)[own].sum()) / total if total else 0.0)
    return sum(found) / len(found)


@pytest.mark.parametrize("name", ["siamdiff", "diffpret"])
@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_denoising_of_uncertain_residues_counts_as_set(
    name: str, weight: float, batch: ProteinBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both parts of the loss are the weighted means within each protein, then over proteins."""
    seen: list[tuple[Tensor, Tensor]] = []
    original = denoiser._Targets.mean

    def recorded(self: Any, values: Tensor, residue: Tensor) -> Tensor:
        seen.append((values, residue))
        return original(self, values, residue)

    monkeypatch.setattr(denoiser._Targets, "mean", recorded)
    subject = task(name, threshold=THRESHOLD, weight=weight)
    made = views(subject, batch)
    output = loss(subject, made)
    assert batch.plddt is not None
    low = (batch.plddt < THRESHOLD).repeat(len(made))
    certainty = torch.where(low, weight, 1.0)
    expected = []
    for values, residue in seen[:2]:
        of_view = [
            by_protein(values[own], certainty[residue[own]], batch.protein_index[residue[own] % 196])
            for own in (residue // 196 == number for number in range(len(made)))
        ]
        expected.append(sum(of_view) / len(of_view))
    assert [float(output.metrics[key]) for key in ("structure_loss", "sequence_loss")] == pytest.approx(
        expected, rel=1e-5
    )
    plain = loss(task(name), views(task(name), batch))
    assert float(output.loss) != pytest.approx(float(plain.loss), rel=1e-3)


@pytest.mark.parametrize("name", ["siamdiff", "diffpret"])
def test_denoisers_see_no_edges_of_uncertain_residues(name: str, batch: ProteinBatch) -> None:
    for view in views(task(name, threshold=THRESHOLD, drop_edges=True), batch):
        assert view.batch.plddt is not None
        low = view.batch.plddt < THRESHOLD
        source, target = view.graph.edge_index
        assert bool((source == target)[low[source] | low[target]].all())
        assert not bool(low[view.targets["pair"]].any())


@pytest.mark.parametrize("name", ["siamdiff", "diffpret"])
def test_denoisers_treat_experimental_structures_as_before(name: str, batch: ProteinBatch) -> None:
    rules = {"threshold": THRESHOLD, "weight": 0.5, "drop_edges": True}
    plain, ruled = (views(task(name, **s), batch.replace(plddt=None)) for s in ({}, rules))
    assert differences(snapshot(plain), snapshot(ruled)) == []
    weight = views(task(name, **rules), batch)[0].targets["certainty"]
    assert bool((weight == torch.where(batch.plddt < THRESHOLD, 0.5, 1.0)).all())  # type: ignore[operator]  # the test gave it pLDDT


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_a_contrast_counts_proteins_by_the_certainty_of_their_residues(
    weight: float, batch: ProteinBatch
) -> None:
    """The loss is the mean of the proteins' losses, weighted by the mean over the residues they show."""
    subject = task("multiview_contrast", threshold=THRESHOLD, weight=weight)
    subject.settings = subject.settings.model_copy(update={"crop_length": 20})
    made = views(subject, batch)
    with torch.no_grad():
        encodings = encode(example_encoder(), made)
        both = torch.stack([subject._projected(encoding.protein) for encoding in encodings], dim=1)
        found = [part.double() for part in subject._score(both, both, 0)]
    expected = torch.zeros(5, dtype=torch.float64)
    for view in made:
        assert view.batch.plddt is not None
        for number in range(5):
            low = view.batch.plddt[view.batch.protein_index == number] < THRESHOLD
            expected[number] += torch.where(low, weight, 1.0).double().mean() / 2
    output = loss(subject, made)
    assert 0 <= float(expected.min()) < 1 == float(expected.max())
    assert output.num_samples == pytest.approx(float(expected.sum()))
    assert float(output.loss) == pytest.approx(float((found[0] * expected).sum() / expected.sum()), rel=1e-5)
    retrieval = float((found[1] * expected).sum() / expected.sum())
    assert float(output.metrics["retrieval"]) == pytest.approx(retrieval)


def test_a_contrast_sees_no_edges_of_uncertain_residues(batch: ProteinBatch) -> None:
    made = views(task("multiview_contrast", threshold=THRESHOLD, weight=1, drop_edges=True), batch)
    for view in made:
        assert view.batch.plddt is not None
        low = view.batch.plddt < THRESHOLD
        source, target = view.graph.edge_index
        assert bool((source == target)[low[source] | low[target]].all())


def test_a_contrast_of_experimental_structures_is_as_before(batch: ProteinBatch) -> None:
    rules = {"threshold": THRESHOLD, "weight": 0.5, "drop_edges": True}
    plain, ruled = (
        views(task("multiview_contrast", **settings), batch.replace(plddt=None)) for settings in ({}, rules)
    )
    assert differences(snapshot(plain), snapshot(ruled)) == []


@each_task
def test_proteins_of_uncertain_residues_alone_add_nothing(name: str, batch: ProteinBatch) -> None:
    subject = task(name, threshold=100)
    (view,) = views(subject, batch.replace(plddt=torch.full((batch.num_residues,), 20.0)))
    output = loss(subject, (view,))
    assert (float(output.loss), output.num_samples) == (0.0, 0.0)
