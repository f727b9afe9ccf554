"""Train small models on each pretext task and compare them with predictors that see no structure.

python benchmarks/learning.py [--data sample|FOLDER ...] [--objective NAME ...] [--seeds 0 1 2] [--minutes 15]

Every model is GearNet on one-hot residue types, trained for the given minutes of processor time of one core.
The validation set has a fifth of the clusters: folds of made-up proteins, or chains with shared 5-mers.
Baselines predict the same validation targets: averages of the training targets (trivial), lookups by
sequence and by sequence and relation (sequence_only.py), and the model trained on shuffled edges.
The table is Markdown. Values are means over seeds, with the standard deviation in brackets. A model is
better if the 95 % t interval over seeds of its gain on the strongest baseline is above 0.
--minutes 0 measures the baselines alone, beside an untrained model.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from scipy import stats
from sequence_only import Questions, edge_scores, residue_type_scores
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
MORE_IS_BETTER = ("accuracy", "retrieval")
EDGE_TASKS = ("distance", "angle", "dihedral")
SHUFFLES = {"all edges shuffled": -1, "spatial edges shuffled": 2}
"""Edges between residues farther apart in the chain are shuffled."""
SHUFFLED = {
    "residue_type": ("all edges shuffled", "spatial edges shuffled"),
    **dict.fromkeys(EDGE_TASKS, ("spatial edges shuffled",)),
}
"""Shuffles on which the model of an objective is trained too. Without the edges of the chain, a model of an
edge task cannot know offsets, so that it would only repeat the trivial predictor."""
BASELINES = ("trivial", "sequence", "relation", *SHUFFLES)
PASSES = 4
"""How often the lookups draw from the training set."""
VALIDATION_STEP = 2**62
PROTEINS_PER_BATCH = 16
SHARED_WORDS = 0.06
WORD = 5


class Result(NamedTuple):
    """What a trained model and the baselines reach on the validation set."""

    model: dict[str, float]
    baselines: dict[str, dict[str, float]]
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
    print(f"| objective | measure | model | {' | '.join(BASELINES)} | gain (95 %) | better | steps |")
    print("|" + "---|" * (len(BASELINES) + 6))
    for objective in arguments.objective or MEASURES:
        for hidden in (False, True) if objective in EDGE_TASKS else (False,):
            results = [
                compared(objective, seed, arguments.minutes, train, valid, hidden=hidden)
                for seed in arguments.seeds
            ]
            name = f"`{objective}`, `hide_pairs`" if hidden else f"`{objective}`"
            for measure in MEASURES[objective]:
                print(line(name, measure, results), flush=True)


def line(name: str, measure: str, results: Sequence[Result]) -> str:
    """A row of the table."""
    model = [result.model[measure] for result in results]
    baselines = {
        baseline: [result.baselines[baseline][measure] for result in results]
        for baseline in BASELINES
        if baseline in results[0].baselines
    }
    columns = [
        text(model),
        *(text(baselines[baseline]) if baseline in baselines else "-" for baseline in BASELINES),
        *verdict(model, baselines, more_is_better=measure in MORE_IS_BETTER),
        f"{statistics.mean(result.steps for result in results):.0f}",
    ]
    return f"| {name} | {measure.replace('_', ' ')} | {' | '.join(columns)} |"


def verdict(
    model: Sequence[float], baselines: Mapping[str, Sequence[float]], *, more_is_better: bool
) -> tuple[str, str]:
    """The gain on the strongest baseline with its interval, and yes, no, worse or unknown.

    Values are paired by seed, since a seed asks all predictors the same questions.
    """
    sign = 1 if more_is_better else -1
    strongest = max(baselines.values(), key=lambda values: sign * statistics.mean(values))
    gains = [sign * (own - other) for own, other in zip(model, strongest, strict=True)]
    gain = statistics.mean(gains)
    if len(gains) < 2:
        return f"{gain:+.3f}", "unknown"
    half = statistics.stdev(gains) / len(gains) ** 0.5 * float(stats.t.ppf(0.975, len(gains) - 1))
    answer = "yes" if gain - half > 0 else "worse" if gain + half < 0 else "no"
    return f"{gain:+.3f} ({gain - half:+.3f} to {gain + half:+.3f})", answer


def text(values: Sequence[float]) -> str:
    spread = f" ({statistics.stdev(values):.3f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


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


def split(proteins: Sequence[Protein], share: float = 0.2) -> tuple[list[Protein], list[Protein]]:
    """Training and held-out proteins, at least ``share`` of all; a cluster is never divided."""
    groups: dict[str, list[Protein]] = defaultdict(list)
    for protein, cluster in zip(proteins, clusters(proteins), strict=True):
        groups[cluster].append(protein)
    order = sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest())
    held: list[Protein] = []
    while len(held) < len(proteins) * share:
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
                one, two = sorted((_root(leader, index), _root(leader, other)))
                leader[two] = one  # the first protein names the cluster, in whatever order pairs are found
    return [proteins[_root(leader, index)].name for index in range(len(proteins))]


def _words(sequence: str) -> set[str]:
    return {sequence[first : first + WORD] for first in range(len(sequence) - WORD + 1)}


def _root(leader: list[int], index: int) -> int:
    while leader[index] != index:
        index = leader[index]
    return index


# Training


def compared(
    objective: str,
    seed: int,
    minutes: float,
    train: Sequence[Protein],
    valid: Sequence[Protein],
    *,
    hidden: bool,
) -> Result:
    """Train a small model and evaluate it and the baselines on the validation set."""
    step, number = trained(objective, seed, minutes, train, hidden=hidden)
    model = questioned(step, seed, valid)
    baselines = sequence_scores(objective, step, seed, train, valid)
    # A model that cannot see the pair has nothing to copy, so that shuffled edges show nothing more.
    for shuffle in () if hidden else SHUFFLED.get(objective, ()):
        other, _ = trained(objective, seed, minutes, train, shuffle=SHUFFLES[shuffle])
        baselines[shuffle] = questioned(other, seed, valid)
    step.task = trivial_task(step, seed, train)
    baselines["trivial"] = questioned(step.eval(), seed, valid)
    return Result(model, baselines, number)


def trained(
    objective: str,
    seed: int,
    minutes: float,
    train: Sequence[Protein],
    *,
    hidden: bool = False,
    shuffle: int | None = None,
) -> tuple[TrainStep, int]:
    """A model and its number of steps; with ``shuffle``, its edges between distant residues are shuffled."""
    blueprint = small(objective, seed, hidden=hidden)
    encoder = blueprint.encoder()
    graph: GraphBuilder = blueprint.graph()
    task: Any = blueprint.task(encoder.output_dim)
    step = TrainStep(encoder, task if shuffle is None else Shuffled(task, shuffle), graph)
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
    return step.eval(), number


def small(objective: str, seed: int, *, hidden: bool) -> Blueprint:
    """A model that learns within minutes on one core."""
    registry = discover()
    tables = {
        "seq": {"name": "onehot"},
        "struct": {"name": "gearnet", "num_layers": 3, "hidden_dim": 128},
        "pretext": {"name": objective, **({"hide_pairs": True} if hidden else {})},
        "data": {"name": "sample"},
        "train": {"seed": seed},
    }
    return resolve(registry, configure(registry, [tables]))


@torch.no_grad()
def questioned(step: TrainStep, seed: int, proteins: Sequence[Protein]) -> dict[str, float]:
    """Means of the loss and the metrics over the validation set."""
    means = MetricAverager()
    torch.manual_seed(seed)
    for batch, draws in validation_batches(seed, proteins):
        means.add(step(batch, draws))
    values = {name: total / means.counts[name] for name, total in means.sums.items()}
    return {**values, "root_mean_square_error": values["loss"] ** 0.5}


def validation_batches(seed: int, proteins: Sequence[Protein]) -> Iterator[tuple[ProteinBatch, SeededDraws]]:
    """The validation set, 48 proteins at a time, with the draws of its questions."""
    return batches(seed, VALIDATION_STEP, sorted(proteins, key=lambda protein: protein.name))


def batches(
    seed: int, number: int, proteins: Sequence[Protein]
) -> Iterator[tuple[ProteinBatch, SeededDraws]]:
    """Batches of 48 proteins with the draws of a step."""
    for first in range(0, len(proteins), 48):
        batch = ProteinBatch.from_proteins(proteins[first : first + 48])
        yield batch, SeededDraws(seed, number, range(first, first + len(batch)))


def sequence_scores(
    objective: str, step: TrainStep, seed: int, train: Sequence[Protein], valid: Sequence[Protein]
) -> dict[str, dict[str, float]]:
    """Measures of the predictors that see no structure, on the questions of ``questioned``."""
    if objective not in SHUFFLED:
        return {}
    seen = [
        question
        for number in range(PASSES)
        for question in views_of(step, batches(seed, number, train), objective)
    ]
    given = list(views_of(step, validation_batches(seed, valid), objective))
    return residue_type_scores(seen, given) if objective == "residue_type" else edge_scores(seen, given)


@torch.no_grad()
def views_of(
    step: TrainStep, drawn: Iterator[tuple[ProteinBatch, SeededDraws]], objective: str
) -> Iterator[Questions]:
    """Views of the task, each with the graph of its residues before the task removed edges."""
    for batch, draws in drawn:
        for view in step.task.views(batch, step.build_graph, draws):
            yield view, step.build_graph(view.batch) if objective in EDGE_TASKS else view.graph


class Shuffled(nn.Module):
    """A task whose encoder sees edges between distant residues at other residues of the protein.

    The questions are those of the task. The other edges of its views are attached to the residues in random
    order: they keep their shape and relations and lose their meaning. Edges between residues at most
    ``kept`` apart in the chain stay.
    """

    def __init__(self, task: Any, kept: int) -> None:
        super().__init__()
        self.task, self.kept = task, kept

    def views(self, *arguments: Any) -> tuple[View, ...]:
        return tuple(replace(view, graph=self._shuffled(view)) for view in self.task.views(*arguments))

    def loss(self, *arguments: Any) -> TaskOutput:
        output: TaskOutput = self.task.loss(*arguments)
        return output

    def _shuffled(self, view: View) -> ResidueGraph:
        graph, number = view.graph, view.batch.num_residues
        other = (view.batch.protein_index * number + torch.randperm(number)).argsort()
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
