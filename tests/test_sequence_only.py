"""The baselines of the study of tasks: lookups by sequence offset and relation, and naive Bayes."""

from __future__ import annotations

import importlib
import statistics
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS, MASKED
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.graph import ResidueGraph, View


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("learning")


@pytest.fixture
def baselines(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("sequence_only")


def test_rare_keys_are_answered_by_the_next_coarser_level(baselines: ModuleType) -> None:
    """Key 1 has five answers, 2 and 3 too few; of the coarse keys, 0 has seven answers and 5 three."""
    answers = torch.tensor([1.0, 2, 3, 4, 10, 20, 30, 100, 100, 100])
    keys = [torch.tensor([1, 1, 1, 1, 1, 2, 2, 3, 3, 3]), torch.tensor([0, 0, 0, 0, 0, 0, 0, 5, 5, 5])]
    asked = [torch.tensor([1, 2, 3, 9]), torch.tensor([0, 0, 5, 9])]
    assert baselines.Lookup(keys, answers, statistics.median)(asked).tolist() == [3, 4, 15, 15]
    assert baselines.Lookup(keys, answers, statistics.fmean)(asked).tolist() == [4, 10, 37, 37]
    assert baselines.Lookup(keys, answers, statistics.mode)(asked).tolist() == [1, 1, 100, 100]


def test_distances_that_depend_on_the_relation(baselines: ModuleType) -> None:
    """Ten pairs of neighbours: 2 angstrom apart in relation 0, 6 in relation 1."""
    batch = ProteinBatch.from_proteins([protein("A" * 11)])
    first = torch.arange(10)
    pair = torch.stack([first, first + 1])
    graph = ResidueGraph.from_edges(pair, first % 2, 2)
    targets = {"pair": pair, "distance": 2.0 + 4 * (first % 2)}
    view = View(batch, graph.keep_edges(torch.zeros(10, dtype=torch.bool)), targets)
    found = baselines.edge_scores([(view, graph)], [(view, graph)])
    assert found["sequence"] == {"mean_absolute_error": 2, "root_mean_square_error": 2}
    assert found["relation"] == {"mean_absolute_error": 0, "root_mean_square_error": 0}


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("objective", ["distance", "angle", "dihedral"])
def test_every_edge_of_a_walk_has_its_removed_relations(
    learning: ModuleType, baselines: ModuleType, proteins: list[Protein], objective: str, *, hidden: bool
) -> None:
    view, graph = question(learning, objective, proteins, hidden=hidden)
    visited = baselines.walk(view.targets)
    removed = edges_of(graph) - edges_of(view.graph)
    bits: dict[tuple[int, int], int] = {}
    for source, target, relation in removed:
        bits[source, target] = bits.get((source, target), 0) | 1 << relation
    found = baselines.removed_relations(view, graph, visited)
    for source, target, value in zip(visited[:-1], visited[1:], found, strict=True):
        assert [bits[pair] for pair in zip(source.tolist(), target.tolist(), strict=True)] == value.tolist()


def test_naive_bayes_weighs_the_prior_and_the_neighbor(baselines: ModuleType) -> None:
    """With counts raised by 1: 3 * 3/25 against 3 * 2/25 after type 0, 3 * 1/25 against 3 * 2/25 after 1."""
    model = baselines.NaiveBayes(torch.tensor([[0], [0], [0], [1]]), torch.tensor([5, 5, 6, 6]))
    assert model(torch.tensor([[0], [1]])).tolist() == [5, 6]


def test_windows_end_at_the_ends_of_a_protein(baselines: ModuleType) -> None:
    batch = ProteinBatch.from_proteins([protein("AAAA"), protein("CDEF"), protein("AAAA")])
    targets = {"residue": torch.tensor([5, 6]), "residue_type": torch.tensor([AMINO_ACIDS.index("D"), 20])}
    batch = batch.replace(residue_type=batch.residue_type.index_fill(0, targets["residue"], MASKED))
    graph = ResidueGraph.from_edges(
        torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 1
    )
    neighbors, types = baselines.neighbors_of(View(batch, graph, targets))
    end, c, f = MASKED + 1, AMINO_ACIDS.index("C"), AMINO_ACIDS.index("F")
    assert neighbors.tolist() == [[end, end, end, end, c, MASKED, f, end, end, end]]
    assert types.tolist() == [AMINO_ACIDS.index("D")]


def test_a_model_is_better_only_if_the_interval_excludes_the_strongest_baseline(learning: ModuleType) -> None:
    """Gains of 0.1, 0.2 and 0.3: 0.2 +- 4.303 * 0.1 / sqrt(3)."""
    baselines = {"weak": [9.0, 9.0, 9.0], "strong": [1.1, 1.2, 1.3]}
    verdict = learning.verdict
    assert verdict([1, 1, 1], baselines, more_is_better=False) == ("+0.200 (-0.048 to +0.448)", "no")
    assert verdict([0.6, 0.7, 0.8], baselines, more_is_better=False)[1] == "yes"
    assert verdict([1.6, 1.7, 1.8], baselines, more_is_better=False)[1] == "worse"
    assert verdict([9.6, 9.7, 9.5], baselines, more_is_better=True)[1] == "yes"
    assert verdict([0.1], {"strong": [1.1]}, more_is_better=False) == ("+1.000", "unknown")


def test_shuffled_edges_keep_the_questions_and_the_edges_of_the_chain(
    learning: ModuleType, proteins: list[Protein]
) -> None:
    view, _ = question(learning, "distance", proteins)
    other, _ = question(learning, "distance", proteins, shuffle=2)
    assert torch.equal(view.targets["pair"], other.targets["pair"])
    assert torch.equal(view.targets["distance"], other.targets["distance"])
    assert torch.equal(view.graph.relation.bincount(), other.graph.relation.bincount())
    protein_of = view.batch.protein_index[other.graph.edge_index]
    assert torch.equal(protein_of[0], protein_of[1])
    near, distant = (
        [edge for edge in edges_of(view.graph) if (abs(edge[0] - edge[1]) > 2) is far]
        for far in (False, True)
    )
    assert set(near) <= edges_of(other.graph)
    assert len(set(distant) & edges_of(other.graph)) < len(distant) / 2


def protein(sequence: str) -> Protein:
    """A protein without coordinates that mean anything."""
    number = len(sequence)
    return Protein(
        name=sequence,
        residue_type=torch.tensor([AMINO_ACIDS.index(letter) for letter in sequence]),
        backbone=torch.zeros(number, 4, 3),
        atom_mask=torch.ones(number, 4, dtype=torch.bool),
        residue_index=torch.arange(number),
        chain_index=torch.zeros(number, dtype=torch.int64),
    )


def question(
    learning: ModuleType,
    objective: str,
    proteins: list[Protein],
    *,
    hidden: bool = False,
    shuffle: int | None = None,
) -> tuple[View, ResidueGraph]:
    """A view of the untrained study, and its graph before edges were removed."""
    step, _ = learning.trained(objective, 0, 0.0, proteins, hidden=hidden, shuffle=shuffle)
    batch = ProteinBatch.from_proteins(proteins)
    drawn = iter([(batch, SeededDraws(0, 0, range(len(batch))))])
    view, graph = next(learning.views_of(step, drawn, objective))
    return view, graph


def edges_of(graph: ResidueGraph) -> set[tuple[int, int, int]]:
    """Source, target and relation of each edge."""
    rows: Tensor = torch.cat([graph.edge_index, graph.relation.unsqueeze(0)])
    return {(source, target, relation) for source, target, relation in rows.T.tolist()}
