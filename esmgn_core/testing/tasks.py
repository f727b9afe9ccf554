"""Claims about pretext tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
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
from esmgn_core.testing.examples import ExampleGraph, example_proteins
from esmgn_core.testing.graphs import check_graph
from esmgn_core.testing.simulated import keeps_to_its_device, moved_to_cuda
from esmgn_core.testing.stand_ins import ExampleStructureEncoder


@dataclass(frozen=True, slots=True)
class TaskSubject:
    """A task under test; its views are encoded by a simple encoder."""

    claims: Claims
    build: Callable[[], Any]
    proteins: Sequence[Protein] = field(default_factory=example_proteins)
    group_size: int = 1

    def batch(self) -> ProteinBatch:
        """All proteins."""
        return ProteinBatch.from_proteins(self.proteins)

    def new(self) -> Any:
        """An instance with heads off their initial values."""
        torch.manual_seed(17)
        task = self.build()
        nudge(task)
        return task

    @staticmethod
    def views(task: Any, batch: ProteinBatch, positions: Sequence[int]) -> tuple[View, ...]:
        """Views of a batch whose proteins have these positions in the global batch."""
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
    """State all claims about a pretext task."""
    subject = TaskSubject(claims, lambda: build(encoder_dim=ExampleStructureEncoder.output_dim))
    claims.check(TASK_CHECKS, subject)


def _valid_views(subject: TaskSubject) -> None:
    """Every view holds all proteins of the batch, a graph on them, and tensors as targets."""
    claims = subject.claims
    views = subject.example_views(subject.new())
    claims.hold(
        isinstance(views, tuple) and bool(views) and all(isinstance(view, View) for view in views),
        "views() does not return a tuple of at least one View",
    )
    for number, view in enumerate(views):
        batch = view.batch
        claims.hold(
            len(batch) == len(subject.proteins) and batch.ptr.shape == (len(batch) + 1,),
            f"view {number} does not hold as many proteins as the batch",
        )
        rows = {len(batch.residue_type), len(batch.backbone), len(batch.atom_mask), int(batch.ptr[-1])}
        claims.hold(len(rows) == 1, f"tensors of view {number} disagree about the number of residues")
        check_graph(claims, view.graph, batch, ExampleGraph.num_relations)
        odd = [name for name, target in view.targets.items() if not isinstance(target, Tensor)]
        claims.hold(not odd, f"targets of view {number} are not tensors: {', '.join(odd)}")


def _batch_untouched(subject: TaskSubject) -> None:
    """Corrupting leaves the batch bit-identical."""
    task, batch = subject.new(), subject.batch()
    subject.claims.untouched(lambda: subject.views(task, batch, range(len(batch))), batch=batch)


def _same_draws(subject: TaskSubject) -> None:
    """The same draws give the same views: torch's own random numbers have no part in them."""
    task = subject.new()
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(snapshot(subject.example_views(task)))
    changed = differences(*found)
    subject.claims.hold(not changed, f"the same draws give two views: {', '.join(changed)}")


def _views_by_protein(subject: TaskSubject) -> None:
    """What a protein's view looks like does not depend on the proteins beside it."""
    task = subject.new()
    together = subject.example_views(task)
    size = subject.group_size
    for first in range(0, len(subject.proteins), size):
        group = subject.proteins[first : first + size]
        alone = subject.views(task, ProteinBatch.from_proteins(group), range(first, first + size))
        pairs = zip(together, alone, strict=True)
        same = all(not differences(_part(one, first, size), _part(other, 0, size)) for one, other in pairs)
        subject.claims.hold(same, f"the view of protein '{group[0].name}' depends on the proteins beside it")


def _part(view: View, first: int, size: int) -> dict[str, object]:
    """Residues and edges of one group of proteins of a view."""
    protein = view.batch.protein_index
    chosen = (first <= protein) & (protein < first + size)
    batch = view.batch.select(chosen)
    graph: ResidueGraph = view.graph.select(chosen)
    parts = (batch.residue_type, batch.backbone, batch.chain_index, graph.edge_index, graph.relation)
    return snapshot(parts)


def _loss(subject: TaskSubject) -> None:
    """The loss is a finite number that can be trained on; metrics are detached."""
    claims = subject.claims
    output = subject.loss(subject.new(), example_encoder())
    claims.hold(
        isinstance(output, TaskOutput), f"loss() returns {type(output).__name__}, expected TaskOutput"
    )
    check_number(claims, "loss", output.loss)
    claims.hold(output.loss.requires_grad, "loss carries no gradient")
    claims.count("num_samples", output.num_samples)
    for name, value in output.metrics.items():
        check_number(claims, f"metric '{name}'", value)
        claims.hold(not value.requires_grad, f"metric '{name}' is not detached")


def check_number(claims: Claims, name: str, value: object) -> None:
    """A value is a finite float tensor without dimensions."""
    fits = isinstance(value, Tensor) and not value.dim() and value.is_floating_point()
    claims.hold(fits, f"{name} is no float tensor of shape []")
    claims.hold(bool(torch.as_tensor(value).isfinite()), f"{name} is not finite")


def _views_untouched(subject: TaskSubject) -> None:
    """The loss leaves views and encodings bit-identical."""
    task = subject.new()
    views = subject.example_views(task)
    with torch.no_grad():
        encodings = encode(example_encoder(), views)
        subject.claims.untouched(lambda: task.loss(views, encodings), views=views, encodings=encodings)


def _gradients(subject: TaskSubject) -> None:
    """The loss trains every parameter of the heads, and the encoder."""
    task, encoder = subject.new().train(), example_encoder()
    gradients_reach_parameters(subject.claims, task, subject.loss(task, encoder).loss)
    encoder.zero_grad()
    gradients_reach_parameters(
        Claims(f"{subject.claims.about}, training the encoder"), encoder, subject.loss(task, encoder).loss
    )


def _state_dict(subject: TaskSubject) -> None:
    """A state dict carries the heads to a new instance: the loss is bit-identical."""
    state_dict_carries_over(
        subject.claims,
        subject.new().eval(),
        subject.build,
        lambda task: subject.loss(task, example_encoder()),
    )


def _bfloat16(subject: TaskSubject) -> None:
    """Under bfloat16 autocast the loss is still a finite float32 number."""
    task, encoder = subject.new(), example_encoder()
    views = subject.example_views(task)
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(views, encode(encoder, views)).loss
    check_number(subject.claims, "under bfloat16 autocast the loss", loss)
    subject.claims.hold(loss.dtype == torch.float32, f"under bfloat16 autocast the loss is {loss.dtype}")


def _other_device(subject: TaskSubject) -> None:
    """Nothing is left on the CPU when batch and encoder are on a GPU."""
    task, encoder = subject.new().train(), example_encoder()

    def run(device: torch.device) -> None:
        views = subject.views(moved_to_cuda(task), subject.batch().to(device), range(len(subject.proteins)))
        loss = task.loss(views, encode(moved_to_cuda(encoder), views)).loss
        loss.backward()

    keeps_to_its_device(subject.claims, run)


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
"""What holds for pretext and downstream tasks alike."""
