"""Claims about downstream tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.protocols import OUTPUTS, DeclaresOutput
from esmgn_core.testing.claims import Claims, relative_difference
from esmgn_core.testing.examples import ExampleStructureEncoder, example_proteins
from esmgn_core.testing.tasks import LATER_CHECKS, TASK_CHECKS, TaskSubject, encode, example_encoder

_NUM_TARGETS = 3
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class DownstreamSubject(TaskSubject):
    """A downstream task under test, with labeled proteins."""

    def new(self) -> Any:
        """An instance that was prepared with the labels, with changed heads."""
        # super() without arguments fails: slots make the dataclass a new class.
        task = TaskSubject.new(self)
        task.prepare(self.labels())
        return task

    def labels(self) -> Tensor:
        """Labels of the groups, float32 [P, L]."""
        labels = self.batch().labels
        assert labels is not None  # noqa: S101 - for the type checker; labeled_examples gave them
        return labels[:: self.group_size]

    def predictions(self, task: Any, proteins: Sequence[Protein]) -> Tensor:
        """Predictions for some proteins in evaluation mode."""
        task.eval()
        views = self.views(task, ProteinBatch.from_proteins(proteins), range(len(proteins)))
        with torch.no_grad():
            (encoding, *_) = encode(example_encoder(), views)
            values: Tensor = task.predict(encoding, views[0].batch)
        return values


def check_downstream_task(claims: Claims, component: type, build: Callable[..., Any]) -> None:
    """Check all claims about a downstream task."""

    def new() -> Any:
        return build(encoder_dim=ExampleStructureEncoder.output_dim, num_targets=_NUM_TARGETS)

    task = new()
    claims.require(isinstance(task.metric, str), f"metric is {task.metric!r}, expected the name of a score")
    claims.require_positive("group_size", task.group_size)
    claims.require(
        task.label_dim in (1, _NUM_TARGETS), f"label_dim is {task.label_dim!r}, expected num_targets or 1"
    )
    if isinstance(component, DeclaresOutput):
        _output(claims, component, task)
    proteins = labeled_examples(task.group_size, task.label_dim)
    subject = DownstreamSubject(claims, new, proteins, task.group_size)
    checks = (_predictions, _alone, _saved, _score, _unknown_labels, _labels_not_read)
    claims.check((*TASK_CHECKS, *checks, *LATER_CHECKS), subject)


def _output(claims: Claims, component: DeclaresOutput, task: Any) -> None:
    """The declared output is known and fits the labels; ``group_size`` is a class attribute."""
    output = component.output
    claims.require(output in OUTPUTS, f"output is {output!r}, expected one of: {', '.join(OUTPUTS)}")
    label_dim = 1 if output == "classes" else _NUM_TARGETS
    claims.require(
        task.label_dim == label_dim,
        f"label_dim is {task.label_dim} for {_NUM_TARGETS} targets, output = {output} has {label_dim}",
    )
    own = getattr(component, "group_size", None)
    claims.require(own == task.group_size, f"group_size is {task.group_size}, but {own} on its class")


def labeled_examples(group_size: int, label_dim: int) -> list[Protein]:
    """The example proteins with labels of 0 and 1. Members of a group differ in one residue."""
    labeled = []
    for number, protein in enumerate(example_proteins()):
        labels = torch.tensor([float((number + column) % 2) for column in range(label_dim)])
        for member in range(group_size):
            kinds = protein.residue_type.clone()
            place = len(kinds) // 2
            kinds[place] = (kinds[place] + member) % len(AMINO_ACIDS) if member else kinds[place]
            name = f"{protein.name}:{member}" if group_size > 1 else protein.name
            labeled.append(replace(protein, name=name, residue_type=kinds, labels=labels))
    return labeled


def _predictions(subject: DownstreamSubject) -> None:
    """Each group of proteins has one float32 row of predictions."""
    actual = subject.predictions(subject.new(), subject.proteins)
    shape = [len(subject.proteins) // subject.group_size, _NUM_TARGETS]
    fits = list(actual.shape) == shape and actual.dtype == torch.float32
    subject.claims.require(
        fits, f"predict() returns {actual.dtype} {list(actual.shape)}, expected float32 {shape}"
    )
    subject.claims.require(bool(actual.isfinite().all()), "its predictions are not finite")


def _alone(subject: DownstreamSubject) -> None:
    """A prediction does not depend on the other proteins of the batch."""
    task, size = subject.new(), subject.group_size
    together = subject.predictions(task, subject.proteins)
    for row in range(len(together)):
        alone = subject.predictions(task, subject.proteins[row * size : (row + 1) * size])
        same = relative_difference(alone, together[row : row + 1]) <= _TOLERANCE
        name = subject.proteins[row * size].name
        subject.claims.require(same, f"the prediction for '{name}' depends on other proteins of the batch")


def _saved(subject: DownstreamSubject) -> None:
    """A new instance with the state dict gives the same predictions, without the labels."""
    task, other = subject.new(), subject.build()
    other.load_state_dict(task.state_dict())
    actual = subject.predictions(other, subject.proteins)
    same = bool(actual.equal(subject.predictions(task, subject.proteins)))
    subject.claims.require(same, "its predictions depend on values that are not in its state dict")


def _score(subject: DownstreamSubject) -> None:
    """Scores are finite numbers and include ``metric``."""
    task = subject.new()
    predictions = subject.predictions(task, subject.proteins)
    scores = task.score(predictions, subject.labels(), torch.arange(len(predictions)))
    claims = subject.claims
    claims.require(task.metric in scores, f"score() does not return its metric '{task.metric}'")
    odd = [name for name, value in scores.items() if not isinstance(value, float) or not math.isfinite(value)]
    claims.require(not odd, f"scores that are not finite numbers: {', '.join(odd)}")


def _unknown_labels(subject: DownstreamSubject) -> None:
    """Unknown labels (NaN) are left out of ``prepare``, the loss and the scores."""
    claims, size = subject.claims, subject.group_size
    groups = len(subject.proteins) // size
    some = [_with_labels(protein, lambda labels: labels * torch.nan) for protein in subject.proteins[:size]]
    some += subject.proteins[size:]
    partly = replace(subject, proteins=some)
    labels = partly.labels()
    task = partly.new()
    task.prepare(labels)
    loss = partly.loss(task, example_encoder()).loss
    claims.require(bool(loss.isfinite()), "an unknown label makes the loss infinite or NaN")
    predictions = partly.predictions(task, some)
    known = range(size, size * groups)
    rest = subject.predictions(task, [subject.proteins[number] for number in known])
    groups_of = torch.arange(groups)
    with_unknown = task.score(predictions, labels, groups_of)
    without = task.score(rest, labels[1:], groups_of[1:])
    for name, value in without.items():
        same = abs(with_unknown[name] - value) <= 1e-4 * max(1.0, abs(value)) or math.isnan(value)
        claims.require(same, f"score '{name}' changes if a prediction without a known label is added")


def _labels_not_read(subject: DownstreamSubject) -> None:
    """Labels do not change predictions."""
    task = subject.new()
    expected = subject.predictions(task, subject.proteins)
    others = [_with_labels(protein, lambda labels: 1 - labels) for protein in subject.proteins]
    same = bool(subject.predictions(task, others).equal(expected))
    subject.claims.require(same, "the labels change its predictions")


def _with_labels(protein: Protein, change: Callable[[Tensor], Tensor]) -> Protein:
    assert protein.labels is not None  # noqa: S101 - for the type checker; labeled_examples gave them
    return replace(protein, labels=change(protein.labels))
