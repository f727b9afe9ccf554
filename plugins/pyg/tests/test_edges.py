"""Claims about the way from residue graphs to torch-geometric's edges."""

from __future__ import annotations

import torch

from esmgn_core.graph import ResidueGraph
from esmgn_core.testing import ExampleGraph, example_batch
from esmgn_pyg.edges import EdgeFeatures, distances, edges_within, plain_edges
from esmgn_pyg.settings import DistanceSettings

EDGES = torch.tensor([[0, 1, 0, 2, 0, 1], [1, 0, 1, 2, 2, 0]])
RELATION = torch.tensor([0, 1, 2, 0, 1, 1])


def test_relations_of_a_pair_become_one_edge_that_names_them() -> None:
    pairs, relations = plain_edges(ResidueGraph.from_edges(EDGES, RELATION, 3))
    assert pairs.tolist() == [[1, 0, 0, 2], [0, 1, 2, 2]]
    assert relations.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_a_graph_without_edges_has_none() -> None:
    empty = torch.empty(2, 0, dtype=torch.int64)
    pairs, relations = plain_edges(ResidueGraph(empty, empty[0], 3))
    assert (pairs.shape, relations.shape) == ((2, 0), (0, 3))


def test_pairs_stay_sorted_by_target_then_source() -> None:
    """Triplets of DimeNet rely on it."""
    batch = example_batch()
    (source, target), _ = plain_edges(ExampleGraph()(batch))
    order = target * batch.num_residues + source
    assert (order.diff() > 0).all()


def test_edges_within_a_cutoff_join_two_residues_that_are_close() -> None:
    batch = example_batch()
    graph = ExampleGraph()(batch)
    index, distance = edges_within(batch, graph, 6.0)
    everything, _ = plain_edges(graph)
    length = distances(batch, everything)
    expected = everything[:, (length < 6.0) & (everything[0] != everything[1])]
    assert torch.equal(index, expected)
    assert 0 < len(distance) < len(length)
    assert torch.equal(distance, distances(batch, index))


def test_features_of_an_edge_are_its_relations_and_the_nearest_bases() -> None:
    batch = example_batch()
    settings = DistanceSettings(num_distance_bases=11, max_distance=20.0)
    index, features = EdgeFeatures(settings, 4)(batch, ExampleGraph()(batch))
    nearest = features[:, 4:].argmax(dim=1) * 2.0
    assert ((nearest - distances(batch, index)).abs() <= 1.0 + 1e-4).all()
    assert set(features[:, :4].unique().tolist()) == {0.0, 1.0}
