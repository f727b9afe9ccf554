"""Train small models on each pretext task and compare them with trivial predictors.

python benchmarks/learning.py [--data sample|FOLDER ...] [--objective NAME ...] [--seeds 0 1 2] [--minutes 15]

Every model is GearNet on one-hot residue types, trained for the given minutes of processor time of one core.
The validation set has a fifth of the clusters: folds of made-up proteins, or chains with shared 5-mers.
Trivial predictors predict the same validation targets from averages of the training targets.
The table is Markdown. Values are means over seeds, with the standard deviation in brackets.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein, ProteinBatch, TaskOutput
from esmgn_core.draws import SeededDraws
from esmgn_core.engine.step import MetricAverager
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.host.configure import configure, data_tables
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.model.joint import TrainStep
from esmgn_core.protocols import GraphBuilder

MEASURES = {
    "residue_type": ("accuracy",),
    "distance": ("mean_absolute_error", "root_mean_square_error"),
    "angle": ("accuracy",),
    "dihedral": ("accuracy",),
    "multiview_contrast": ("retrieval",),
    "siamdiff": ("structure_loss", "sequence_loss"),
    "diffpret": ("structure_loss", "sequence_loss"),
}
"""What is compared; of accuracies and retrieval more is better, of the others less."""
SHUFFLED = ("residue_type",)
"""Objectives whose model is also trained on shuffled edges."""
SEPARATIONS = (-1, 2)
"""Edges between residues farther apart in the chain are shuffled: all edges, or the spatial ones."""
HELD_OUT_STEP = 2**62
PROTEINS_PER_BATCH = 16
SHARED_WORDS = 0.06
WORD = 5


class Result(NamedTuple):
    """What one trained model reaches on the held-out questions."""

    model: dict[str, float]
    trivial: dict[str, float]
    steps: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["sample"], help="sample, or folders of structures")
    parser.add_argument("--objective", nargs="+", default=None, choices=MEASURES, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=15.0, help="processor time of each training run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, valid = split(proteins_of(arguments.data))
    print(
        f"{len(train)} training and {len(valid)} validation proteins, {arguments.minutes:g} minutes a model\n"
    )
    shuffled = "all edges shuffled | spatial edges shuffled"
    print(f"| objective | measure | model | trivial predictor | {shuffled} | steps |")
    print("|---|---|---|---|---|---|---|")
    for objective in arguments.objective or MEASURES:
        models, *shuffled = (
            [trained(objective, seed, arguments.minutes, train, valid, kept) for seed in arguments.seeds]
            for kept in (None, *(SEPARATIONS if objective in SHUFFLED else ()))
        )
        for line in lines(objective, models, shuffled):
            print(line, flush=True)


def lines(objective: str, models: Sequence[Result], shuffled: Sequence[Sequence[Result]]) -> Iterator[str]:
    """Rows of the table."""
    for measure in MEASURES[objective]:
        columns = [
            text([result.model[measure] for result in models]),
            text([result.trivial[measure] for result in models]),
            *(text([result.model[measure] for result in results]) for results in shuffled or ()),
            *(["-"] * len(SEPARATIONS) if not shuffled else []),
            f"{statistics.mean(result.steps for result in models):.0f}",
        ]
        yield f"| `{objective}` | {measure.replace('_', ' ')} | {' | '.join(columns)} |"


def text(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ({spread:.3f})"


# Data


def proteins_of(names: Sequence[str]) -> list[Protein]:
    """Proteins of at least 30 residues of all data sets."""
    registry, found = discover(), []
    for name in names:
        settings = {"data": {"num_proteins": 1500}} if name == "sample" else {}
        config = configure(registry, [{"seq": {"name": "onehot"}}, data_tables(registry, name), settings])
        dataset = resolve(registry, config).dataset()
        found += [dataset[index] for index in range(len(dataset)) if len(dataset[index]) >= 30]
    return found


def split(proteins: Sequence[Protein]) -> tuple[list[Protein], list[Protein]]:
    """Training and held-out proteins; a cluster is never divided."""
    groups: dict[str, list[Protein]] = defaultdict(list)
    for protein, cluster in zip(proteins, clusters(proteins), strict=True):
        groups[cluster].append(protein)
    order = sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest())
    held: list[Protein] = []
    while len(held) < len(proteins) / 5:
        held += groups.pop(order.pop())
    return [protein for group in groups.values() for protein in group], held


def clusters(proteins: Sequence[Protein]) -> list[str]:
    """The cluster of each protein: its fold if it is made up, else chains that share 5-mers with it.

    Two proteins are of one cluster if they share more than 6 % of the 5-mers of the one that has fewer, or
    if a third one joins them.
    """
    if all(protein.name.startswith("sample-") for protein in proteins):
        return [protein.name.split("-")[2] for protein in proteins]
    words = [_words(protein.sequence) for protein in proteins]
    owners: dict[str, list[int]] = defaultdict(list)
    leader = list(range(len(proteins)))
    for index, own in enumerate(words):
        shared: dict[int, int] = defaultdict(int)
        for word in own:
            for other in owners[word]:
                shared[other] += 1
            owners[word].append(index)
        for other, number in shared.items():
            if number > SHARED_WORDS * min(len(own), len(words[other])):
                leader[_root(leader, index)] = _root(leader, other)
    return [proteins[_root(leader, index)].name for index in range(len(proteins))]


def _words(sequence: str) -> set[str]:
    return {sequence[first : first + WORD] for first in range(len(sequence) - WORD + 1)}


def _root(leader: list[int], index: int) -> int:
    while leader[index] != index:
        index = leader[index]
    return index


# Training


def trained(
    objective: str,
    seed: int,
    minutes: float,
    train: Sequence[Protein],
    valid: Sequence[Protein],
    kept: int | None,
) -> Result:
    """Train a small model, then ask it and a trivial predictor about the held-out proteins.

    With ``kept`` the edges between residues farther apart in the chain are shuffled, in both.
    """
    blueprint = small(objective, seed)
    encoder = blueprint.encoder()
    graph: GraphBuilder = blueprint.graph()
    if kept is not None:
        graph = Shuffled(graph, kept)
    step = TrainStep(encoder, blueprint.task(encoder.output_dim), graph)
    optimizer = torch.optim.Adam(step.parameters(), lr=1e-3)
    order = torch.Generator().manual_seed(seed)
    started, number = time.process_time(), 0
    while time.process_time() - started < 60 * minutes:
        chosen = torch.randperm(len(train), generator=order)[:PROTEINS_PER_BATCH]
        batch = ProteinBatch.from_proteins([train[index] for index in chosen.tolist()])
        output = step(batch, SeededDraws(seed, number, range(len(batch))))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        number += 1
    model = questioned(step.eval(), seed, valid)
    trivial = trivial_task(step, seed, train)
    return Result(model, questioned(TrainStep(encoder, trivial, graph).eval(), seed, valid), number)


def small(objective: str, seed: int) -> Blueprint:
    """A model that learns within minutes on one core."""
    registry = discover()
    tables = {
        "seq": {"name": "onehot"},
        "struct": {"name": "gearnet", "num_layers": 3, "hidden_dim": 128},
        "pretext": {"name": objective},
        "data": {"name": "sample"},
        "train": {"seed": seed},
    }
    return resolve(registry, configure(registry, [tables]))


@torch.no_grad()
def questioned(step: TrainStep, seed: int, proteins: Sequence[Protein]) -> dict[str, float]:
    """Means of the loss and the metrics over held-out proteins, 48 at a time."""
    means, ordered = MetricAverager(), sorted(proteins, key=lambda protein: protein.name)
    torch.manual_seed(seed)
    for first in range(0, len(ordered), 48):
        batch = ProteinBatch.from_proteins(ordered[first : first + 48])
        means.add(step(batch, SeededDraws(seed, HELD_OUT_STEP, range(first, first + len(batch)))))
    values = {name: total / means.counts[name] for name, total in means.sums.items()}
    return {**values, "root_mean_square_error": values["loss"] ** 0.5}


class Shuffled(nn.Module):
    """A graph builder whose edges between distant residues hold between other residues of the protein.

    This part of the graph is attached to the residues in random order: it keeps its shape and loses
    its meaning. Edges between residues at most ``kept`` apart in the chain stay.
    """

    def __init__(self, build: GraphBuilder, kept: int) -> None:
        super().__init__()
        self.build, self.kept, self.num_relations = build, kept, build.num_relations

    def forward(self, batch: ProteinBatch) -> ResidueGraph:
        graph = self.build(batch)
        number = batch.num_residues
        other = (batch.protein_index * number + torch.randperm(number)).argsort()
        distant = (graph.edge_index[0] - graph.edge_index[1]).abs() > self.kept
        edges = torch.where(distant, other[graph.edge_index], graph.edge_index)
        return ResidueGraph.from_edges(edges, graph.relation, graph.num_relations)


# Trivial predictors: the task itself, with heads that always say the same


class Constant(nn.Module):
    """A head that gives one answer whatever it is asked: ``values`` [C], or a number for each question."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, rows: Tensor, index: Tensor | None = None, *_: Tensor) -> Tensor:
        number = len(rows) if index is None else index.shape[1]
        return self.values.expand(number, *self.values.shape)


class Chance(nn.Module):
    """A contrast of which any protein of the group is as near as any other."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.task = task

    def views(self, *arguments: Any) -> tuple[View, ...]:
        views: tuple[View, ...] = self.task.views(*arguments)
        return views

    def loss(self, views: Sequence[View], _: object) -> TaskOutput:
        number = len(views[0].batch)
        return TaskOutput(torch.tensor(float(number)).log(), number, {"retrieval": torch.tensor(1 / number)})


def trivial_task(step: TrainStep, seed: int, train: Sequence[Protein]) -> Any:
    """The step's task, with heads that know the mean of the training answers and nothing else.

    For a contrast it is chance. Of SiamDiff and DiffPreT the sequence part knows the frequency of the
    residue types, and the structure part sees no noise: it answers that no edge has changed its length.
    """
    task: Any = step.task
    if not hasattr(task, "head") and not hasattr(task, "denoiser"):
        return Chance(task)
    answers = mean_answers(step, seed, train)
    if hasattr(task, "denoiser"):
        task.denoiser.pair_score = Constant(torch.zeros(()))
        task.denoiser.residue_type = Constant(answers["residue_type"])
    else:
        task.head = Constant(next(iter(answers.values())))
    return task


@torch.no_grad()
def mean_answers(step: TrainStep, seed: int, train: Sequence[Protein]) -> Mapping[str, Tensor]:
    """Logarithms of the frequencies of classes, or the mean of numbers, over all training proteins."""
    seen: dict[str, list[Tensor]] = defaultdict(list)
    for first in range(0, len(train), 48):
        batch = ProteinBatch.from_proteins(train[first : first + 48])
        for view in step.task.views(batch, step.build_graph, SeededDraws(seed, 0, range(len(batch)))):
            for name in ("residue_type", "distance", "angle_class"):
                if name in view.targets:
                    seen[name].append(view.targets[name])
    return {name: _mean_answer(name, torch.cat(values)) for name, values in seen.items()}


def _mean_answer(name: str, values: Tensor) -> Tensor:
    if values.is_floating_point():
        return values.mean().unsqueeze(0)
    num_classes = len(AMINO_ACIDS) if name == "residue_type" else 8
    known = values[values < num_classes]
    return (known.bincount(minlength=num_classes) + 1).double().log().float()


if __name__ == "__main__":
    main()
