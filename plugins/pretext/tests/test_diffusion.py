"""SiamDiff and DiffPreT against their formulas, written out edge by edge and protein by protein."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from esmgn_core.alphabet import AMINO_ACIDS, MASKED, UNKNOWN
from esmgn_core.batch import CA, Encoding
from esmgn_core.draws import SeededDraws
from esmgn_pretext.diffpret import DiffPreT
from esmgn_pretext.siamdiff import SiamDiff

from .test_heads import edge_by_edge, mlp

TASKS = [SiamDiff, DiffPreT]


def encodings_of(views, dim=6, dtype=torch.float64):
    """Random representations, the same each time."""
    generator = torch.Generator().manual_seed(1)
    return [
        Encoding(
            torch.randn(view.batch.num_residues, dim, generator=generator, dtype=dtype).requires_grad_(),
            torch.zeros(len(view.batch), dim),
        )
        for view in views
    ]


def literal(task, views, residues, shapes, sigma):
    """The formula, one edge, one residue and one protein at a time; both views' parts added up."""
    denoiser, total = task.denoiser, 0.0
    for view, rows, shape in zip(views, residues, shapes, strict=True):
        true, moved = shape.double(), view.batch.ca.double()
        source, target = view.graph.edge_index
        length = (moved[source] - moved[target]).norm(dim=1)
        asked = ((true[source] - true[target]).norm(dim=1) - length) / sigma[source]
        score = edge_by_edge(denoiser.pair_score, rows, view.graph.edge_index, length)
        u = (moved[source] - moved[target]) / (length + 1e-10).unsqueeze(1)
        types = mlp(denoiser.residue_type.layers, rows[view.targets["residue"]])
        for b in range(len(view.batch)):
            own = range(int(view.batch.ptr[b]), int(view.batch.ptr[b + 1]))
            structure = 0.0
            for i in own:
                out, into = source == i, target == i
                difference = (score - asked).unsqueeze(1) * u
                vector = difference[out].mean(dim=0) - difference[into].mean(dim=0)
                structure = structure + 0.5 * vector.square().sum() / len(own)
            drawn = (view.batch.protein_index[view.targets["residue"]] == b) & (
                view.targets["residue_type"] != UNKNOWN
            )
            sequence = 0.5 * cross_entropy(types[drawn], view.targets["residue_type"][drawn])
            total = total + (0.5 * structure + 0.5 * sequence) / len(view.batch)
    return total if isinstance(task, SiamDiff) else 2 * total


@pytest.mark.parametrize("task_class", TASKS)
def test_loss_and_gradients_are_those_of_the_formula(task_class, batch, build_graph):
    """In double precision; crops of 15 residues, so that self-loops and parallel edges abound."""
    task = task_class(task_class.Settings(crop_length=15), encoder_dim=6)
    views = task.views(batch, build_graph, SeededDraws(3, 0, range(5)))
    shapes, sigma = true_coordinates(views, batch)
    views = [in_double(view, shape, sigma) for view, shape in zip(views, shapes, strict=True)]
    task.double()
    found = []
    for run in ("task", "literal"):
        encodings = encodings_of(views)
        residues = [e.residue for e in (reversed(encodings) if task_class is SiamDiff else encodings)]
        loss = (
            task.loss(views, encodings).loss
            if run == "task"
            else literal(task, views, residues, shapes, sigma)
        )
        task.zero_grad()
        loss.backward()
        gradients = [p.grad.clone() for p in task.parameters()] + [e.residue.grad for e in encodings]
        found.append([loss.detach(), *gradients])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-11)


def true_coordinates(views, batch):
    """Where the residues of each view were before its noise, and the noise's deviation for each."""
    task = SiamDiff if len(views) == 2 else DiffPreT
    settings = task.Settings(crop_length=15)
    draws = SeededDraws(3, 0, range(5))
    cropped = settings.crop(batch, draws)
    shapes = [cropped.ca]
    if len(views) == 2:
        jitter = draws.normal(12 * cropped.lengths).view(-1, 4, 3)[:, CA].float()
        shapes.append(cropped.ca + 0.3 * jitter)
    level = (draws.uniform(torch.ones(5, dtype=torch.int64)) * 100).long()
    return shapes, settings.sigma()[level][cropped.protein_index].double()


def in_double(view, shape, sigma):
    """The view with the targets it has in single precision worked out again in double."""
    low, high = view.targets["pair"]
    true, moved = shape.double(), view.batch.ca.double()
    distance = (moved[low] - moved[high]).norm(dim=1)
    targets = {
        "distance": distance,
        "score": ((true[low] - true[high]).norm(dim=1) - distance) / sigma[low],
        "direction": (moved[low] - moved[high]) / (distance + 1e-10).unsqueeze(1),
        "weight": plain_weights(view),
    }
    for name, values in targets.items():
        torch.testing.assert_close(view.targets[name].double(), values, rtol=1e-4, atol=1e-4)
    return replace(view, targets={**view.targets, **targets})


def plain_weights(view):
    """How much of a pair's score its ends get, edge by edge."""
    number = {tuple(pair): row for row, pair in enumerate(view.targets["pair"].T.tolist())}
    source, target = view.graph.edge_index
    num_out, num_in = source.bincount(minlength=len(source)), target.bincount(minlength=len(source))
    weight = torch.zeros(2, len(number), dtype=torch.float64)
    for one, other in view.graph.edge_index.T.tolist():
        if one != other:
            pair = number[min(one, other), max(one, other)]
            weight[int(one > other), pair] += 1 / int(num_out[one])
            weight[int(other > one), pair] += 1 / int(num_in[other])
    return weight


@pytest.mark.parametrize("task_class", TASKS)
def test_pairs_are_distinct_and_each_has_an_edge(task_class, batch, build_graph, draws):
    task = task_class(task_class.Settings(), encoder_dim=6)
    for view in task.views(batch, build_graph, draws):
        pairs = [tuple(pair) for pair in view.targets["pair"].T.tolist()]
        edges = {(min(edge), max(edge)) for edge in view.graph.edge_index.T.tolist() if edge[0] != edge[1]}
        assert len(set(pairs)) == len(pairs)
        assert set(pairs) == edges


def test_both_views_hold_one_tensor_of_residue_types_and_differ_in_coordinates(batch, build_graph, draws):
    first, second = SiamDiff(SiamDiff.Settings(), encoder_dim=6).views(batch, build_graph, draws)
    assert first.batch.residue_type is second.batch.residue_type
    assert first.batch.ptr is second.batch.ptr
    assert (first.batch.ca - second.batch.ca).norm(dim=1).min() > 0


def test_edges_are_drawn_before_the_noise_moves_a_residue(batch, build_graph):
    """At the last level a residue moves by 24 angstrom on average; its edges stay."""
    settings = SiamDiff.Settings(crop_length=0, jitter=0.0, sigma_begin=0.09)
    for view in SiamDiff(settings, encoder_dim=6).views(batch, build_graph, SeededDraws(0, 0, range(5))):
        assert torch.equal(view.graph.edge_index, build_graph(batch).edge_index)
        assert (view.batch.ca - batch.ca).norm(dim=1).max() > 5


def test_a_residue_moves_as_a_whole(batch, build_graph, draws):
    task = SiamDiff(SiamDiff.Settings(crop_length=0, jitter=0.0), encoder_dim=6)
    view, _ = task.views(batch, build_graph, draws)
    moved = view.batch.backbone - batch.backbone
    assert torch.equal(moved.isnan().any(dim=-1), ~batch.atom_mask)
    own = moved[:, CA : CA + 1].expand_as(moved)
    torch.testing.assert_close(moved[batch.atom_mask], own[batch.atom_mask], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("masked_as", "code"), [("G", AMINO_ACIDS.index("G")), ("mask", MASKED)])
def test_masked_residues_are_glycine_as_in_the_original_or_masked(masked_as, code, batch, build_graph, draws):
    task = SiamDiff(SiamDiff.Settings(masked_as=masked_as, crop_length=0), encoder_dim=6)
    view, _ = task.views(batch, build_graph, draws)
    changed = torch.zeros(batch.num_residues, dtype=torch.bool)
    changed[view.targets["residue"]] = True
    assert (view.batch.residue_type[changed] == code).all()
    assert torch.equal(view.batch.residue_type[~changed], batch.residue_type[~changed])
    assert torch.equal(view.targets["residue_type"], batch.residue_type[view.targets["residue"]])


def test_schedule_of_the_study():
    """Standard deviations and mask rates of the levels, as computed by hand."""
    settings = SiamDiff.Settings()
    sigma, levels = settings.sigma(), torch.tensor([0, 9, 24, 49, 74, 99])
    expected = torch.tensor([0.0353, 0.1208, 0.2523, 0.9295, 3.6857, 13.9307])
    torch.testing.assert_close(sigma[levels], expected, rtol=0, atol=1e-4)
    drawn = settings.num_masked(levels, torch.full_like(levels, 10_000))
    assert drawn.tolist() == [1585, 2350, 3625, 5750, 7875, 10_000]
    assert settings.num_masked(torch.tensor([0]), torch.tensor([2])).tolist() == [1]


def test_unknown_residues_are_masked_but_asked_for_only_as_the_original_did(batch, build_graph, draws):
    unknown = batch.replace(residue_type=torch.full_like(batch.residue_type, UNKNOWN))
    for reference in (False, True):
        task = SiamDiff(SiamDiff.Settings(reference=reference), encoder_dim=6)
        views = task.views(unknown, build_graph, draws)
        output = task.loss(views, encodings_of(views, dtype=torch.float32))
        assert output.loss.isfinite()
        assert (float(output.metrics["sequence_loss"]) > 0) == reference
