"""Residue graphs as data."""

from __future__ import annotations

import torch

from esmgn_core.graph import ResidueGraph

EDGES = torch.tensor([[0, 2, 1, 0, 3], [1, 1, 1, 0, 2]])
RELATION = torch.tensor([1, 0, 0, 0, 1])


def triples(graph: ResidueGraph) -> list[tuple[int, int, int]]:
    return list(zip(*graph.edge_index.tolist(), graph.relation.tolist(), strict=True))


def graph() -> ResidueGraph:
    return ResidueGraph.from_edges(EDGES, RELATION, 2)


def test_edges_are_sorted_by_target_relation_and_source() -> None:
    assert triples(graph()) == [(0, 0, 0), (1, 1, 0), (2, 1, 0), (0, 1, 1), (3, 2, 1)]


def test_relations_in_any_order_are_joined() -> None:
    parts = [EDGES[:, number == RELATION] for number in range(3)]
    joined = ResidueGraph.from_relations(parts)
    assert triples(joined) == triples(graph())
    assert joined.num_relations == 3


def test_edges_of_each_protein_are_neighbours() -> None:
    assert graph().edge_ptr(torch.tensor([0, 1, 4])).tolist() == [0, 1, 5]


def test_keeping_edges() -> None:
    kept = graph().keep_edges(torch.tensor([True, False, True, False, True]))
    assert triples(kept) == [(0, 0, 0), (2, 1, 0), (3, 2, 1)]


def test_selecting_residues_renumbers_and_drops_edges_that_leave() -> None:
    selected = graph().select(torch.tensor([False, True, True, True]))
    assert triples(selected) == [(0, 0, 0), (1, 0, 0), (2, 1, 1)]


def test_a_graph_without_edges() -> None:
    empty = ResidueGraph.from_edges(
        torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 7
    )
    assert empty.num_edges == 0
    assert empty.edge_ptr(torch.tensor([0, 0, 0])).tolist() == [0, 0, 0]
