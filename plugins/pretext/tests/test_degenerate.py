"""Proteins that leave a task little or nothing to ask: finite, counted, and never a neighbour's business."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from esmgn_core.alphabet import UNKNOWN
from esmgn_core.batch import CA, Encoding, Protein, ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.graph import ResidueGraph
from esmgn_core.testing.examples import ExampleGraph
from esmgn_pretext.angle import Angle
from esmgn_pretext.diffpret import DiffPreT
from esmgn_pretext.dihedral import Dihedral
from esmgn_pretext.distance import Distance
from esmgn_pretext.multiview_contrast import MultiviewContrast
from esmgn_pretext.residue_type import ResidueType
from esmgn_pretext.siamdiff import SiamDiff

DIM = 6
EDGE_TASKS = [Distance, Angle, Dihedral]
TASKS = [ResidueType, *EDGE_TASKS, MultiviewContrast, SiamDiff, DiffPreT]


class NoEdges(ExampleGraph):
    """A graph builder that finds nothing."""

    def forward(self, batch: ProteinBatch) -> ResidueGraph:
        graph = super().forward(batch)
        return graph.keep_edges(torch.zeros_like(graph.relation, dtype=torch.bool))


def chain(name: str, length: int, *, unknown: bool = False, at_one_point: bool = False) -> Protein:
    number = torch.arange(length)
    turn = number * 1.745
    place = torch.stack([2.3 * turn.cos(), 2.3 * turn.sin(), 1.5 * number], dim=1)
    backbone = torch.full((length, 4, 3), torch.nan)
    backbone[:, CA] = torch.ones(length, 3) if at_one_point else place
    return Protein(
        name=name,
        residue_type=torch.full_like(number, UNKNOWN) if unknown else number % 20,
        backbone=backbone,
        atom_mask=~backbone.isnan().any(dim=-1),
        residue_index=number,
        chain_index=torch.zeros_like(number),
    )


PROTEINS = [
    chain("one", 1),
    chain("ordinary", 40),
    chain("two", 2),
    chain("three", 3),
    chain("unknown", 9, unknown=True),
    chain("twelve", 12),
    chain("coincident", 8, at_one_point=True),
    chain("two of unknown type", 2, unknown=True),
]


def residues_of(positions) -> Tensor:
    """Random representations of the residues of some proteins; a protein has the same ones always."""
    rows = [torch.randn(len(PROTEINS[p]), DIM, generator=torch.Generator().manual_seed(p)) for p in positions]
    return torch.cat(rows).requires_grad_()


def run(task, positions, build_graph):
    """Output of the task on some of the proteins, and the gradient of its sum at their residues."""
    batch = ProteinBatch.from_proteins([PROTEINS[p] for p in positions])
    views = task.views(batch, build_graph, SeededDraws(0, 0, positions))
    assert all(torch.equal(view.batch.ptr, batch.ptr) for view in views)
    residues = [residues_of(positions) for _ in views]
    encodings = [Encoding.from_residues(x, view.batch) for x, view in zip(residues, views, strict=True)]
    output = task.loss(views, encodings)
    total = output.loss * output.num_samples
    total.backward()
    return output, total.detach(), [torch.zeros_like(x) if x.grad is None else x.grad for x in residues]


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("builder", [ExampleGraph, NoEdges])
@pytest.mark.parametrize("task_class", TASKS)
def test_loss_and_gradients_are_finite_alone_and_together(task_class, builder, hidden):
    settings = {"hide_pairs": hidden} if task_class in EDGE_TASKS else {"reference": hidden}
    task = task_class(task_class.Settings(**settings), encoder_dim=DIM)
    for positions in [range(len(PROTEINS)), *([p] for p in range(len(PROTEINS)))]:
        output, total, gradients = run(task, list(positions), builder())
        assert output.loss.isfinite()
        assert total.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert all(value.isfinite() for value in output.metrics.values())


@pytest.mark.parametrize("builder", [ExampleGraph, NoEdges])
@pytest.mark.parametrize("task_class", [task for task in TASKS if task is not MultiviewContrast])
def test_a_protein_is_asked_about_its_own_residues_alone(task_class, builder):
    """Loss, number of predictions and gradients of a batch are those of its proteins one by one.

    Contrast compares proteins, which is its purpose; the conformance kit checks that its views differ.
    """
    task = task_class(task_class.Settings(), encoder_dim=DIM)
    everyone = list(range(len(PROTEINS)))
    output, total, gradients = run(task, everyone, builder())
    alone = [run(task, [p], builder()) for p in everyone]
    assert output.num_samples == sum(one[0].num_samples for one in alone)
    torch.testing.assert_close(total, sum(one[1] for one in alone), rtol=1e-5, atol=1e-4)
    for number, gradient in enumerate(gradients):
        torch.testing.assert_close(
            gradient, torch.cat([one[2][number] for one in alone]), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(
    ("task_class", "left_out"),
    [
        (ResidueType, {"unknown", "two of unknown type"}),
        (Distance, set()),
        (Angle, {"one"}),
        (Dihedral, {"one"}),
        (SiamDiff, set()),
        (DiffPreT, set()),
        (MultiviewContrast, set()),
    ],
)
def test_proteins_of_which_nothing_can_be_asked_are_left_out_and_counted(task_class, left_out):
    task = task_class(task_class.Settings(), encoder_dim=DIM)
    alone = {protein.name: run(task, [p], ExampleGraph())[0] for p, protein in enumerate(PROTEINS)}
    assert {name for name, output in alone.items() if not output.num_samples} == left_out
    assert {name for name, output in alone.items() if output.num_left_out} == left_out
    together, _, _ = run(task, list(range(len(PROTEINS))), ExampleGraph())
    assert together.num_left_out == len(left_out)


@pytest.mark.parametrize("task_class", EDGE_TASKS)
def test_without_edges_there_is_nothing_to_ask(task_class):
    task = task_class(task_class.Settings(), encoder_dim=DIM)
    output, _, _ = run(task, list(range(len(PROTEINS))), NoEdges())
    assert (output.num_samples, output.num_left_out) == (0, len(PROTEINS))
