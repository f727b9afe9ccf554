"""Pairs and triples of edges: as many as the original lists, each as likely, without listing them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Literal

import pytest
import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.graph import ResidueGraph
from esmgn_gearnet.graph import RelationalGraph
from esmgn_pretext.angle import Angle
from esmgn_pretext.dihedral import Dihedral
from esmgn_pretext.edges import draw_from_each
from esmgn_pretext.walks import Walks

from .conftest import Recorded, graph_of
from .test_graph import helix, protein

NumEdges = Literal[2, 3]


def listed(graph: ResidueGraph, num_edges: NumEdges) -> list[tuple[int, ...]]:
    """The plain definition: every chain of edges, one by one, in which no step turns back."""
    edges = graph.edge_index.T.tolist()
    follows: dict[int, list[int]] = {}
    for row, (source, _) in enumerate(edges):
        follows.setdefault(source, []).append(row)
    pairs: list[tuple[int, ...]] = [
        (one, two) for one, (k, j) in enumerate(edges) for two in follows.get(j, []) if edges[two][1] != k
    ]
    if num_edges == 2:
        return pairs
    return [
        (one, two, three)
        for one, two in pairs
        for three in follows.get(edges[two][1], [])
        if edges[three][1] != edges[two][0]
    ]


def all_walks(graph: ResidueGraph, num_edges: NumEdges) -> Tensor:
    """Edges of every walk by its number."""
    walks = Walks(graph, num_edges)
    count = int(walks.ptr(torch.tensor([0, int(graph.edge_index.max()) + 1]))[1])
    return walks.edges(torch.arange(count))


def test_walks_of_a_helix_are_those_of_the_conformance_numbers() -> None:
    """1,118 pairs, 224 with a self-loop; 10,058 triples; both histograms of classes."""
    batch = ProteinBatch.from_proteins([protein(helix(12))])
    graph = RelationalGraph(RelationalGraph.Settings())(batch)
    pairs, triples = all_walks(graph, 2), all_walks(graph, 3)
    assert (pairs.shape[1], triples.shape[1]) == (1118, 10058)
    source, target = graph.edge_index
    assert int((source == target)[pairs].any(dim=0).sum()) == 224
    classes = {
        task: task(task.Settings(), encoder_dim=4).view_without(batch, graph, walks).targets["angle_class"]
        for task, walks in ((Angle, pairs), (Dihedral, triples))
    }
    assert classes[Angle].bincount(minlength=8).tolist() == [342, 354, 136, 70, 172, 44, 0, 0]
    assert classes[Dihedral].bincount(minlength=8).tolist() == [5346, 1134, 932, 810, 586, 448, 422, 380]


@pytest.mark.parametrize("num_edges", [2, 3])
def test_every_number_is_another_walk_and_none_is_missing(num_edges: NumEdges, recorded: Recorded) -> None:
    names = sorted(path.stem for path in (recorded.root / "line_graphs").glob("*.npz"))
    for name in names[: 3 if num_edges == 2 else 2]:
        graph = graph_of(recorded.arrays(f"graphs/{name}")["edge_list"])
        found = list(map(tuple, all_walks(graph, num_edges).T.tolist()))
        assert sorted(found) == sorted(listed(graph, num_edges)), name


@pytest.mark.parametrize("num_edges", [2, 3])
def test_parallel_edges_and_self_loops_of_any_graph(num_edges: NumEdges) -> None:
    torch.manual_seed(0)
    for _ in range(5):
        graph = ResidueGraph.from_edges(torch.randint(5, (2, 24)), torch.randint(3, (24,)), 3)
        found = list(map(tuple, all_walks(graph, num_edges).T.tolist()))
        assert sorted(found) == sorted(listed(graph, num_edges))


def chi_square(drawn: Mapping[tuple[int, ...], float], listed_walks: list[tuple[int, ...]]) -> float:
    """The statistic of uniform draws, in standard deviations above what they would give on average."""
    mean = sum(drawn[walk] for walk in listed_walks) / len(listed_walks)
    statistic = sum((drawn[walk] - mean) ** 2 / mean for walk in listed_walks)
    freedom = len(listed_walks) - 1
    return (statistic - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize("num_edges", [2, 3])
def test_draws_are_uniform_over_the_listed_walks(num_edges: NumEdges) -> None:
    """Chi-square against the enumeration, two proteins in one batch; fair draws stay below 4.5."""
    batch = ProteinBatch.from_proteins([protein(helix(7)), protein(helix(5))])
    graph = RelationalGraph(RelationalGraph.Settings())(batch)
    walks = Walks(graph, num_edges)
    number = draw_from_each(SeededDraws(0, 0, [0, 1]), walks.ptr(batch.ptr), 200_000)
    drawn = Counter(map(tuple, walks.edges(number).T.tolist()))
    expected = listed(graph, num_edges)
    assert drawn.keys() == set(expected)
    for first, end in itertools.pairwise(batch.ptr.tolist()):
        own = [walk for walk in expected if first <= int(graph.edge_index[0, walk[0]]) < end]
        assert sum(drawn[walk] for walk in own) == 200_000
        assert chi_square(drawn, own) < 4.5
        skewed = {walk: drawn[walk] * (1.08 if walk[0] % 2 else 0.92) for walk in own}
        assert chi_square(skewed, own) > 4.5


def test_choosing_the_last_edge_first_would_not_be_uniform() -> None:
    """The shortcut that forgets to weigh edges by what comes before them."""
    graph = RelationalGraph(RelationalGraph.Settings())(ProteinBatch.from_proteins([protein(helix(7))]))
    own = listed(graph, 2)
    before = Counter(walk[1] for walk in own)
    assert chi_square({walk: 200_000 / len(before) / before[walk[1]] for walk in own}, own) > 100
