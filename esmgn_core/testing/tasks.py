"""Claims about pretext tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES, UNKNOWN
from esmgn_core.batch import Encoding, Protein, ProteinBatch, TaskOutput
from esmgn_core.draws import SeededDraws
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.testing.claims import (
    Claims,
    differences,
    gradients_reach_parameters,
    nudge,
    snapshot,
    state_dict_carries_over,
)
from esmgn_core.testing.examples import ExampleGraph, ExampleStructureEncoder, example_proteins
from esmgn_core.testing.graphs import check_graph
from esmgn_core.testing.simulated import keeps_to_its_device, moved_to_cuda


@dataclass(frozen=True, slots=True)
class TaskSubject:
    """A task under test, with a simple encoder for its views."""

    claims: Claims
    build: Callable[[], Any]
    proteins: Sequence[Protein] = field(default_factory=example_proteins)
    group_size: int = 1

    def batch(self) -> ProteinBatch:
        """All proteins."""
        return ProteinBatch.from_proteins(self.proteins)

    def new(self) -> Any:
        """An instance with changed heads."""
        torch.manual_seed(17)
        task = self.build()
        nudge(task)
        return task

    @staticmethod
    def views(task: Any, batch: ProteinBatch, positions: Sequence[int]) -> tuple[View, ...]:
        """Views of a batch, for these positions of its proteins in the global batch."""
        with torch.no_grad():
            views: tuple[View, ...] = task.views(batch, ExampleGraph(), SeededDraws(5, 3, positions))
        return views

    def example_views(self, task: Any) -> tuple[View, ...]:
        """Views of the example batch."""
        return self.views(task, self.batch(), range(len(self.proteins)))

    def loss(self, task: Any, encoder: nn.Module) -> TaskOutput:
        """Loss of the example batch."""
        views = self.example_views(task)
        output: TaskOutput = task.loss(views, encode(encoder, views))
        return output


def example_encoder() -> ExampleStructureEncoder:
    """The encoder of the views, always with the same weights."""
    torch.manual_seed(3)
    return ExampleStructureEncoder(NUM_RESIDUE_FEATURES)


def encode(encoder: nn.Module, views: Sequence[View]) -> list[Encoding]:
    """One encoding for each view."""
    return [encoder(view.batch, view.graph, view.batch.residue_one_hot) for view in views]


def check_pretext_task(claims: Claims, _component: type, build: Callable[..., Any]) -> None:
    """Check all claims about a pretext task."""
    subject = TaskSubject(claims, lambda: build(encoder_dim=ExampleStructureEncoder.output_dim))
    claims.check((*TASK_CHECKS, _nothing_to_predict, _answer_hidden, *LATER_CHECKS), subject)


def observed_task(claims: Claims, build: Callable[..., Any]) -> dict[str, object]:
    """Parameters of a new task, its views and its loss in training."""
    subject = TaskSubject(claims, lambda: build(encoder_dim=ExampleStructureEncoder.output_dim))
    task = subject.new().train()
    batch, positions = subject.batch(), range(len(subject.proteins))
    steps = [task.views(batch, ExampleGraph(), SeededDraws(5, step, positions)) for step in range(8)]
    loss = task.loss(steps[0], encode(example_encoder(), steps[0]))
    return snapshot({"state": task, "views": steps, "loss": loss})


def _valid_views(subject: TaskSubject) -> None:
    """Every view has all proteins of the batch, their graph, and tensors as targets."""
    claims = subject.claims
    views = subject.example_views(subject.new())
    claims.require(
        isinstance(views, tuple) and bool(views) and all(isinstance(view, View) for view in views),
        "views() does not return a tuple of at least one View",
    )
    for number, view in enumerate(views):
        batch = view.batch
        claims.require(
            len(batch) == len(subject.proteins) and batch.ptr.shape == (len(batch) + 1,),
            f"view {number} does not have as many proteins as the batch",
        )
        rows = {len(batch.residue_type), len(batch.backbone), len(batch.atom_mask), int(batch.ptr[-1])}
        claims.require(len(rows) == 1, f"tensors of view {number} disagree about the number of residues")
        check_graph(claims, view.graph, batch, ExampleGraph.num_relations)
        odd = [name for name, target in view.targets.items() if not isinstance(target, Tensor)]
        claims.require(not odd, f"targets of view {number} are not tensors: {', '.join(odd)}")


def _batch_untouched(subject: TaskSubject) -> None:
    """``views()`` does not change the batch."""
    task, batch = subject.new(), subject.batch()
    subject.claims.unchanged(lambda: subject.views(task, batch, range(len(batch))), batch=batch)


def _same_draws(subject: TaskSubject) -> None:
    """The same draws give the same views, whatever the state of torch's random numbers."""
    task = subject.new()
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        results.append(snapshot(subject.example_views(task)))
    changed = differences(*results)
    subject.claims.require(not changed, f"the same draws give different views: {', '.join(changed)}")


def _views_by_protein(subject: TaskSubject) -> None:
    """The view of a protein does not depend on the other proteins of the batch."""
    task = subject.new()
    together = subject.example_views(task)
    size = subject.group_size
    for first in range(0, len(subject.proteins), size):
        group = subject.proteins[first : first + size]
        alone = subject.views(task, ProteinBatch.from_proteins(group), range(first, first + size))
        pairs = zip(together, alone, strict=True)
        same = all(not differences(_part(one, first, size), _part(other, 0, size)) for one, other in pairs)
        subject.claims.require(same, f"the view of protein '{group[0].name}' depends on others of the batch")


def _part(view: View, first: int, size: int) -> dict[str, object]:
    """Residues and edges of one group of proteins of a view."""
    protein = view.batch.protein_index
    chosen = (first <= protein) & (protein < first + size)
    batch = view.batch.select(chosen)
    graph: ResidueGraph = view.graph.select(chosen)
    parts = (batch.residue_type, batch.backbone, batch.chain_index, graph.edge_index, graph.relation)
    return snapshot(parts)


def _loss(subject: TaskSubject) -> None:
    """The loss is a finite number with a gradient; metrics are detached."""
    claims = subject.claims
    output = subject.loss(subject.new(), example_encoder())
    claims.require(
        isinstance(output, TaskOutput), f"loss() returns {type(output).__name__}, expected TaskOutput"
    )
    check_number(claims, "loss", output.loss)
    claims.require(output.loss.requires_grad, "loss has no gradient")
    number = output.num_samples
    positive = isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < math.inf
    claims.require(positive, f"num_samples is {number!r}, expected a positive number")
    for name, value in output.metrics.items():
        check_number(claims, f"metric '{name}'", value)
        claims.require(not value.requires_grad, f"metric '{name}' is not detached")


def check_number(claims: Claims, name: str, value: object) -> None:
    """A value is a finite float tensor without dimensions."""
    fits = isinstance(value, Tensor) and not value.dim() and value.is_floating_point()
    claims.require(fits, f"{name} is not a float tensor of shape []")
    claims.require(bool(torch.as_tensor(value).isfinite()), f"{name} is not finite")


def _views_untouched(subject: TaskSubject) -> None:
    """``loss()`` does not change views and encodings."""
    task = subject.new()
    views = subject.example_views(task)
    with torch.no_grad():
        encodings = encode(example_encoder(), views)
        subject.claims.unchanged(lambda: task.loss(views, encodings), views=views, encodings=encodings)


def _gradients(subject: TaskSubject) -> None:
    """Gradients of the loss reach every parameter of the heads and the encoder."""
    task, encoder = subject.new().train(), example_encoder()
    gradients_reach_parameters(subject.claims, task, subject.loss(task, encoder).loss)
    encoder.zero_grad()
    gradients_reach_parameters(
        Claims(f"{subject.claims.about}, training the encoder"), encoder, subject.loss(task, encoder).loss
    )


def _state_dict(subject: TaskSubject) -> None:
    """A new instance with the state dict gives a bit-identical loss."""
    state_dict_carries_over(
        subject.claims,
        subject.new().eval(),
        subject.build,
        lambda task: subject.loss(task, example_encoder()),
    )


def _bfloat16(subject: TaskSubject) -> None:
    """Under bfloat16 autocast, the loss is a finite float32 number."""
    task, encoder = subject.new(), example_encoder()
    views = subject.example_views(task)
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(views, encode(encoder, views)).loss
    check_number(subject.claims, "under bfloat16 autocast the loss", loss)
    subject.claims.require(loss.dtype == torch.float32, f"under bfloat16 autocast the loss is {loss.dtype}")


def _other_device(subject: TaskSubject) -> None:
    """No tensor stays on the CPU if batch and encoder are on a GPU."""
    task, encoder = subject.new().train(), example_encoder()

    def run(device: torch.device) -> None:
        views = subject.views(moved_to_cuda(task), subject.batch().to(device), range(len(subject.proteins)))
        loss = task.loss(views, encode(moved_to_cuda(encoder), views)).loss
        loss.backward()

    keeps_to_its_device(subject.claims, run)


def _nothing_to_predict(subject: TaskSubject) -> None:
    """The loss of single residues of unknown type, without edges, is a finite number."""
    single = min(subject.proteins, key=len)
    unknown = replace(single, residue_type=torch.full_like(single.residue_type, UNKNOWN))
    task = subject.new()
    views = subject.views(task, ProteinBatch.from_proteins([unknown] * 2), range(2))
    loss = task.loss(views, encode(example_encoder(), views)).loss
    subject.claims.require(
        bool(loss.isfinite()), "the loss is NaN or infinite where nothing can be predicted"
    )
    loss.backward()


def _answer_hidden(subject: TaskSubject) -> None:
    """A view hides the residue types that are its targets, and the edges that the task removes."""
    task = subject.new()
    protein = next(protein for protein in subject.proteins if 10 < len(protein) < 50)
    types = protein.residue_type
    views = subject.views(task, ProteinBatch.from_proteins([protein]), (0,))
    asked = hidden = 0
    for residue in range(len(protein)):
        other = replace(
            protein, residue_type=types.index_fill(0, torch.tensor(residue), (types[residue] + 1) % 20)
        )
        changed = subject.views(task, ProteinBatch.from_proteins([other]), (0,))
        for before, after in zip(views, changed, strict=True):
            if differences(snapshot(before.targets), snapshot(after.targets)):
                asked += 1
                hidden += before.batch.residue_type.equal(after.batch.residue_type)
    subject.claims.require(hidden > 0 or not asked, "its views show the residue types that are their targets")
    if getattr(task, "removes_edges", False):
        removed = any(view.graph.num_edges < ExampleGraph()(view.batch).num_edges for view in views)
        subject.claims.require(removed, "declares removes_edges, but its views have all edges")


def _atoms_of_views(subject: TaskSubject) -> None:
    """In a view, an atom that the mask names has coordinates."""
    for number, view in enumerate(subject.example_views(subject.new())):
        present = view.batch.backbone.isfinite().all(dim=2)
        agrees = bool(present[view.batch.atom_mask].all())
        subject.claims.require(agrees, f"view {number} has atoms in its mask without coordinates")


def _labels_of_views(subject: TaskSubject) -> None:
    """Labels do not change what a view shows."""
    task, batch = subject.new(), subject.batch()
    width = 1 if batch.labels is None else batch.labels.shape[1]
    shown = []
    for value in (0.0, 1.0):
        labeled = batch.replace(labels=torch.full((len(batch), width), value))
        views = subject.views(task, labeled, range(len(batch)))
        shown.append(snapshot([replace(view, batch=view.batch.replace(labels=None)) for view in views]))
    changed = differences(*shown)
    subject.claims.require(not changed, f"labels change its views: {', '.join(changed)}")


def _halves(subject: TaskSubject) -> None:
    """The loss of a batch is that of its parts, weighted by ``num_samples``; or proteins are coupled."""
    task, encoder, size = subject.new().eval(), example_encoder(), subject.group_size
    if getattr(task, "couples_proteins", False):
        subject.claims.not_judged.append("num_samples: the loss couples the proteins of a batch")
        return
    half = len(subject.proteins) // size // 2 * size
    bounds = ((0, len(subject.proteins)), (0, half), (half, len(subject.proteins)))
    outputs = []
    for first, end in bounds:
        batch = ProteinBatch.from_proteins(subject.proteins[first:end])
        with torch.no_grad():
            views = subject.views(task, batch, range(first, end))
            outputs.append(_means(task.loss(views, encode(encoder, views))))
    for about in outputs[0]:
        (loss, number), *parts = (output[about] for output in outputs)
        total = sum(part for _, part in parts)
        subject.claims.require(
            abs(total - number) <= 1e-4 * max(total, 1.0),
            f"num_samples{about} is {number:g} for a batch and {total:g} for its parts together",
        )
        mean = sum(loss * number for loss, number in parts) / max(total, 1e-12)
        subject.claims.require(
            abs(mean - loss) <= 1e-4 * max(abs(loss), 1.0),
            f"the loss{about} of a batch is {loss:.4f}, but {mean:.4f} over its parts, weighted by "
            "num_samples; if the loss compares proteins with one another, declare couples_proteins = True",
        )


def _means(output: TaskOutput) -> dict[str, tuple[float, float]]:
    """Loss and ``num_samples`` of a task; of each task of a combination, whose sum is not a mean."""
    if not output.parts:
        return {"": (float(output.loss), float(output.num_samples))}
    return {
        f" of {name}": (float(part.output.loss), float(part.output.num_samples))
        for name, part in output.parts.items()
    }


TASK_CHECKS = (
    _valid_views,
    _batch_untouched,
    _same_draws,
    _views_by_protein,
    _loss,
    _views_untouched,
    _gradients,
    _state_dict,
    _bfloat16,
    _other_device,
)
"""Claims about both pretext and downstream tasks."""
LATER_CHECKS = (_atoms_of_views, _labels_of_views, _halves)
"""Further claims about both, whose failures have simpler causes among those before."""
