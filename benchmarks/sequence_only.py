"""Baselines of ``learning.py``: predictors that see the sequence and the drawn edges, but no coordinates.

The lookup ``relation`` also sees which relations were removed between two residues. The radius relation
reveals that they are close, which is why this lookup knows more than the sequence.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from esmgn_core.alphabet import AMINO_ACIDS, MASKED
from esmgn_core.graph import ResidueGraph, View

FAR, NEAR = 32, 8
"""Sequence offsets are clamped here; rare offsets are looked up with the smaller bound."""
ENOUGH = 5
"""Fewest training answers of a key. With fewer, the next coarser key is looked up."""
WINDOW = 5
RADIX = 1024

Questions = tuple[View, ResidueGraph]
"""A view, and the graph of its residues before edges were removed."""


class Lookup:
    """A table of summaries of training answers by key, with coarser keys for rare ones.

    Args:
        keys: int64 [S] for each level, from fine to coarse.
        answers: training answers [S].
        summary: median, mean or mode.
    """

    def __init__(
        self, keys: Sequence[Tensor], answers: Tensor, summary: Callable[[Sequence[float]], float]
    ) -> None:
        values = answers.tolist()
        self.overall = summary(values)
        self.levels = [_summaries(level.tolist(), values, summary) for level in keys]

    def __call__(self, keys: Sequence[Tensor]) -> Tensor:
        """Predictions [A]; ``keys`` are int64 [A] for each level."""
        rows = zip(*(level.tolist() for level in keys), strict=True)
        return torch.tensor([self._answer(row) for row in rows])

    def _answer(self, row: Sequence[int]) -> float:
        for key, level in zip(row, self.levels, strict=True):
            if key in level:
                return level[key]
        return self.overall


def _summaries(
    keys: Sequence[int], values: Sequence[float], summary: Callable[[Sequence[float]], float]
) -> dict[int, float]:
    groups: dict[int, list[float]] = defaultdict(list)
    for key, value in zip(keys, values, strict=True):
        groups[key].append(value)
    return {key: summary(group) for key, group in groups.items() if len(group) >= ENOUGH}


class NaiveBayes:
    """Residue types from the types of the neighbours in the sequence, taken as independent.

    Args:
        neighbors: int64 [S, W], the type at each position of the window.
        types: int64 [S], amino acids.
    """

    def __init__(self, neighbors: Tensor, types: Tensor) -> None:
        answer = functional.one_hot(types, len(AMINO_ACIDS)).double()
        self.prior = (answer.sum(dim=0) + 1).log()
        seen = functional.one_hot(neighbors, MASKED + 2).double()
        counts = torch.einsum("swn,sa->wna", seen, answer) + 1
        self.likelihood = (counts / counts.sum(dim=1, keepdim=True)).log()

    def __call__(self, neighbors: Tensor) -> Tensor:
        """The most probable types, int64 [A]."""
        position = torch.arange(neighbors.shape[1])
        return (self.prior + self.likelihood[position, neighbors].sum(dim=1)).argmax(dim=1)


def residue_type_scores(
    train: Sequence[Questions], valid: Sequence[Questions]
) -> dict[str, dict[str, float]]:
    """Accuracy of naive Bayes on a window of the sequence."""
    (seen, types), (given, truth) = _windows(train), _windows(valid)
    accuracy = (NaiveBayes(seen, types)(given) == truth).double().mean()
    return {"sequence": {"accuracy": float(accuracy)}}


def edge_scores(train: Sequence[Questions], valid: Sequence[Questions]) -> dict[str, dict[str, float]]:
    """Measures of lookups by sequence offset, and by offset and relation, of the drawn edges.

    Distances are answered by the median (absolute error) or the mean (squared error), classes by the mode.
    """
    seen, answers = _keyed(train)
    given, truth = _keyed(valid)
    found = {}
    for name in seen:
        if answers.is_floating_point():
            median = Lookup(seen[name], answers, statistics.median)(given[name])
            mean = Lookup(seen[name], answers, statistics.fmean)(given[name])
            found[name] = {
                "mean_absolute_error": float((median - truth).abs().mean()),
                "root_mean_square_error": float((mean - truth).square().mean().sqrt()),
            }
        else:
            mode = Lookup(seen[name], answers, statistics.mode)(given[name])
            found[name] = {"accuracy": float((mode == truth).double().mean())}
    return found


def _keyed(questions: Sequence[Questions]) -> tuple[dict[str, list[Tensor]], Tensor]:
    """Keys of each level by the name of the predictor, and the answers."""
    keyed = [edge_keys(view, graph) for view, graph in questions]
    keys = {
        name: [torch.cat(level) for level in zip(*(k[name] for k in keyed), strict=True)] for name in keyed[0]
    }
    name = "distance" if "distance" in questions[0][0].targets else "angle_class"
    return keys, torch.cat([view.targets[name] for view, _ in questions])


def edge_keys(view: View, graph: ResidueGraph) -> dict[str, list[Tensor]]:
    """Keys int64 [S] of the questions of a view, for each level of each lookup."""
    visited = walk(view.targets)
    offset = visited[1:] - visited[:-1]
    relations = removed_relations(view, graph, visited)
    far, near = offset.clamp(-FAR, FAR), offset.clamp(-NEAR, NEAR)
    plain = [_key(far), _key(near)]
    return {
        "sequence": plain,
        "relation": [_key(torch.cat([far, relations])), _key(torch.cat([near, relations])), *plain],
    }


def walk(targets: Mapping[str, Tensor]) -> Tensor:
    """Residues of consecutive drawn edges, source first, int64 [edges + 1, S]."""
    if "pair" in targets:
        return targets["pair"]
    residues = targets["residues"]
    # The heads of the angle tasks read i, j, k (edges k -> j -> i) or i, j, k, t (edges k -> t -> j -> i).
    return residues[[2, 1, 0] if len(residues) == 3 else [2, 3, 1, 0]]


def removed_relations(view: View, graph: ResidueGraph, visited: Tensor) -> Tensor:
    """The relations removed between the residues of each edge of a walk, as bits, int64 [edges, S]."""
    number = len(view.batch.residue_type)
    pair, kept = _pairs(graph.edge_index, number), _pairs(view.graph.edge_index, number)
    gone = ~torch.isin(
        pair * graph.num_relations + graph.relation, kept * graph.num_relations + view.graph.relation
    )
    pairs, row = pair[gone].unique(return_inverse=True)
    bits = torch.zeros_like(pairs).index_add_(0, row, 1 << graph.relation[gone])
    asked = _pairs(torch.stack([visited[:-1].flatten(), visited[1:].flatten()]), number)
    return bits[torch.searchsorted(pairs, asked)].view(len(visited) - 1, -1)


def _pairs(edge_index: Tensor, number: int) -> Tensor:
    return edge_index[0] * number + edge_index[1]


def _key(rows: Tensor) -> Tensor:
    """One integer for each column of small integers, int64 [C, S] to [S]."""
    key = torch.zeros_like(rows[0])
    for row in rows:
        key = key * RADIX + (row + FAR)
    return key


def _windows(questions: Sequence[Questions]) -> tuple[Tensor, Tensor]:
    parts = [neighbors_of(view) for view, _ in questions]
    return torch.cat([neighbors for neighbors, _ in parts]), torch.cat([types for _, types in parts])


def neighbors_of(view: View) -> tuple[Tensor, Tensor]:
    """Types around the masked amino acids, int64 [M, 2 * WINDOW], and their types [M].

    Positions outside the protein have the type ``MASKED + 1``.
    """
    types = view.targets["residue_type"]
    residue = view.targets["residue"][types < len(AMINO_ACIDS)]
    offset = torch.tensor([*range(-WINDOW, 0), *range(1, WINDOW + 1)])
    place = residue.unsqueeze(1) + offset
    inside = place.clamp(0, view.batch.num_residues - 1)
    protein = view.batch.protein_index
    outside = (inside != place) | (protein[inside] != protein[residue].unsqueeze(1))
    neighbors = view.batch.residue_type.long()[inside].masked_fill(outside, MASKED + 1)
    return neighbors, types[types < len(AMINO_ACIDS)]
