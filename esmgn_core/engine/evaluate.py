"""Compute losses and scores of validation and test proteins, and report a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esmgn_core.batch import TaskOutput
from esmgn_core.engine.checkpoint import RunProgress, load_best
from esmgn_core.engine.distributed import World
from esmgn_core.engine.microbatch import shortages_of
from esmgn_core.engine.step import MetricAverager
from esmgn_core.engine.validate import Evaluation, EvaluationPass
from esmgn_core.errors import RunError
from esmgn_core.machine.files import write_atomically, written_atomically
from esmgn_core.metrics import interval, resamples
from esmgn_core.model.joint import TrainStep
from esmgn_core.protocols import DownstreamTask, LabeledDataset, ProteinDataset, Resampled
from esmgn_core.run_folder import RunFolder

MIN_GROUPS = 20
"""Minimum number of groups of predictions (proteins or targets) for bootstrap intervals."""

Report = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predictions for P proteins or pairs, in the requested order.

    Attributes:
        values: float32 [P, T].
        labels: float32 [P, L], NaN = unknown.
        names: name of the protein, or of the first protein of a pair.
        groups: int64 [P], equal for names of the form ``GROUP/NAME`` with the same GROUP.
    """

    values: Tensor
    labels: Tensor
    names: tuple[str, ...]
    groups: Tensor

    @classmethod
    def named(cls, values: Tensor, labels: Tensor, names: Sequence[str]) -> Self:
        """Predictions with groups from their names."""
        number: dict[str, int] = {}
        keys = (name.rpartition("/")[0] or f"/{name}" for name in names)
        groups = torch.tensor([number.setdefault(key, len(number)) for key in keys], dtype=torch.int64)
        return cls(values, labels, tuple(names), groups)

    def take(self, rows: Sequence[int]) -> Self:
        """The predictions at these rows."""
        index = torch.tensor(rows, dtype=torch.int64)
        names = tuple(self.names[row] for row in rows)
        return replace(
            self, values=self.values[index], labels=self.labels[index], names=names, groups=self.groups[index]
        )

    def repeated(self, counts: NDArray[np.int64]) -> Self:
        """Repeat each prediction by its count; a group that was drawn twice becomes two groups."""
        rows = np.repeat(np.arange(len(counts)), counts)
        first = np.repeat(counts.cumsum() - counts, counts)
        again = torch.from_numpy(np.arange(len(rows)) - first)
        drawn = self.take(rows.tolist())
        return replace(drawn, groups=drawn.groups * (int(counts.max()) + 1) + again)


def evaluate(evaluation: Evaluation, indices: Sequence[int]) -> tuple[MetricAverager, dict[str, float]]:
    """Losses of this process's proteins, and scores of a downstream task over all proteins."""
    means, step, world = MetricAverager(), evaluation.step, evaluation.world
    passes = evaluation.passes(indices)
    if task := step.downstream:
        outputs, found, _ = predict_proteins(step, task, passes, world)
        for output in outputs:
            means.add(output)
        return means, world.on_main(lambda: score(task, found))
    for _, batch, draws, counts in passes:
        with shortages_of(batch):
            output = step(batch, draws)
        if counts:
            means.add(output)
    return means, {}


def predict_proteins(
    step: TrainStep, task: DownstreamTask, passes: Iterable[EvaluationPass], world: World
) -> tuple[list[TaskOutput], Predictions, list[int]]:
    """Predict proteins of a dataset once, divided among all processes.

    Args:
        step: encoder and task, in evaluation mode.
        task: the task of ``step``.
        passes: passes of this process.
        world: this process among all.

    Returns:
        The losses of this process's passes; all predictions, on every process; and the position of each
        prediction's first protein among the requested ones.

    Raises:
        RunError: none of the proteins can be read.
    """
    size = task.group_size
    outputs, mine = [], []
    for positions, batch, draws, counts in passes:
        with shortages_of(batch):
            output, values = step.predict(task, batch, draws)
        if not counts:
            continue
        outputs.append(output)
        if batch.labels is None:
            raise ValueError(f"the proteins {', '.join(batch.names[:3])} carry no labels")
        # NumPy arrays, because pickled tensors would use torch's shared memory. The positions come first, so
        # that sorting restores the order of the proteins.
        labels = batch.labels[::size].cpu().numpy()
        mine.append((list(positions[::size]), values.cpu().numpy(), labels, batch.names[::size]))
    parts: list[Any] = sorted(part for rank in world.gather(mine) for part in rank)
    if not parts:
        raise RunError("no validation or test protein can be read")
    found, known = (torch.from_numpy(np.concatenate([part[column] for part in parts])) for column in (1, 2))
    places, names = ([item for part in parts for item in part[column]] for column in (0, 3))
    return outputs, Predictions.named(found, known, names), places


def score(task: DownstreamTask, found: Predictions) -> dict[str, float]:
    """The task's scores; the deciding score is NaN if a prediction is not finite."""
    if not bool(found.values.isfinite().all()):
        return {task.metric: math.nan}
    return task.score(found.values, found.labels, found.groups)


def score_with_intervals(
    task: DownstreamTask, found: Predictions, number: int
) -> dict[str, dict[str, float]]:
    """Scores with bootstrap intervals from ``number`` resamples: ``{score: {value, low, high}}``.

    Predictions of one group are drawn together, see :func:`esmgn_core.metrics.resamples`. Resampling cannot
    estimate the error if there are fewer than :data:`MIN_GROUPS` groups, or if all resamples have the same
    score. The score then has ``without_interval``, the number of groups.
    """
    values = score(task, found)
    if not number or not bool(found.values.isfinite().all()):
        return {name: {"value": value} for name, value in values.items()}
    num_groups = len(set(found.groups.tolist()))
    if num_groups < MIN_GROUPS:
        return {name: {"value": value, "without_interval": num_groups} for name, value in values.items()}
    drawn = resampled_scores(task, found, number)
    report = {}
    for name, value in values.items():
        report[name] = {"value": value}
        if name in drawn:
            found_interval = interval(drawn[name])
            certain = found_interval.low == found_interval.high
            report[name] |= {"without_interval": num_groups} if certain else found_interval._asdict()
    return report


def resampled_scores(task: DownstreamTask, found: Predictions, number: int) -> dict[str, list[float]]:
    """Scores on bootstrap resamples; the same resamples for predictions of the same groups."""
    draws = resamples(found.groups, number)
    if isinstance(task, Resampled):
        return task.score_resamples(found.values, found.labels, found.groups, draws)
    drawn: dict[str, list[float]] = {}
    for counts in draws:
        for name, value in score(task, found.repeated(counts)).items():
            drawn.setdefault(name, []).append(value)
    return drawn


def report_run(run: RunFolder, evaluation: Evaluation, task: DownstreamTask, progress: RunProgress) -> Report:
    """Score the validation proteins and every test set, and write ``results.json`` and ``predictions.npz``.

    The weights are those of the best validation, unless ``train.test_epoch`` is ``last``.

    Returns:
        ``{set: {score: {value, low, high}}}``; empty on all processes but the main one.
    """
    step, train, world = evaluation.step, evaluation.train, evaluation.world
    dataset = evaluation.reader.dataset
    world.barrier()
    best = train.test_epoch == "best" and progress.best_step
    if best:
        load_best(run, step)
    sets = evaluation_sets(dataset)
    wanted = sorted({index for indices in sets.values() for index in indices})
    if not wanted:
        return {}
    _, found, places = predict_proteins(step, task, evaluation.passes(wanted), world)
    if not world.is_main:
        return {}
    rows = {wanted[place]: row for row, place in enumerate(places)}
    parts = {
        name: found.take([rows[index] for index in indices[:: dataset.group_size] if index in rows])
        for name, indices in sets.items()
    }
    report = {name: score_with_intervals(task, part, train.resamples) for name, part in parts.items()}
    _write(run, report, parts, metric=task.metric, step=progress.best_step if best else progress.step)
    return report


def read_predictions(run: RunFolder, name: str) -> Predictions | None:
    """Predictions of a run for the set ``name``; ``None`` without them."""
    if not run.predictions.is_file():
        return None
    with np.load(run.predictions, allow_pickle=False) as arrays:
        if f"{name}.predictions" not in arrays:
            return None
        values, labels, names = (arrays[f"{name}.{key}"] for key in ("predictions", "labels", "names"))
    return Predictions.named(
        torch.from_numpy(values), torch.from_numpy(labels), [str(item) for item in names]
    )


def evaluation_sets(dataset: ProteinDataset) -> dict[str, Sequence[int]]:
    """The validation set (``valid``) and the test sets of a dataset, without empty ones."""
    sets = {"valid": dataset.split("valid")}
    if isinstance(dataset, LabeledDataset):
        sets |= dataset.test_sets
    return {name: indices for name, indices in sets.items() if len(indices)}


def _write(
    run: RunFolder, report: Report, parts: Mapping[str, Predictions], *, metric: str, step: int
) -> None:
    record = {
        "step": step,
        "metric": metric,
        "sets": {
            name: {"num_predictions": len(parts[name].names), "scores": _json_numbers(scores)}
            for name, scores in report.items()
        },
    }
    write_atomically(run.results, json.dumps(record, indent=2) + "\n")
    arrays: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        arrays |= {
            f"{name}.predictions": part.values.numpy(),
            f"{name}.labels": part.labels.numpy(),
            f"{name}.names": np.array(part.names),
        }
    with written_atomically(run.predictions) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _json_numbers(scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Replace undefined scores by ``None``, because JSON has no NaN."""
    return {
        name: {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        for name, numbers in scores.items()
    }
