"""The conformance kit catches graph builders that break their contract."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from esmgn_core.graph import ResidueGraph
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import ExampleGraph, check_class

COUNTER = itertools.count()


class Healthy(ExampleGraph):
    """The example's graph, from a builder that must be given settings."""

    class Settings(ComponentSettings):
        """No settings."""


class JoinsProteins(Healthy):
    def forward(self, batch):
        row = torch.arange(batch.num_residues - 1)
        return ResidueGraph.from_edges(torch.stack([row, row + 1]), torch.zeros_like(row), 4)


class LeavesEdgesUnsorted(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index.flip(1), graph.relation.flip(0), 4)


class RepeatsEdges(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph.from_edges(graph.edge_index.repeat(1, 2), graph.relation.repeat(2), 4)


class LeavesRange(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index, graph.relation + 1, 4)


class LeavesBatch(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index + 1, graph.relation, 4)


class DisagreesWithItself(Healthy):
    def __init__(self, settings):
        super().__init__(settings)
        self.num_relations = 7

    def forward(self, batch):
        return replace(super().forward(batch), num_relations=4)


class HasNoRelations(Healthy):
    num_relations = 0


class UsesInt32(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index.int(), graph.relation, 4)


class HasRaggedEdges(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index, graph.relation[1:], 4)


class DrawsNothing(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(torch.zeros_like(graph.relation, dtype=torch.bool))


class ReturnsPair(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return graph.edge_index, graph.relation


class ChangesBatch(Healthy):
    def forward(self, batch):
        batch.backbone.nan_to_num_()
        return super().forward(batch)


class DependsOnTheBatch(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges((graph.relation != 3) | (batch.num_residues < 150))


class Flickers(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(torch.arange(graph.num_edges) % 97 != next(COUNTER) % 97)


class HidesState(Healthy):
    def __init__(self, settings):
        super().__init__(settings)
        self.left_out = 1 + next(COUNTER) % 3

    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(graph.relation != self.left_out)


class LooksAlongOneAxis(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        height = batch.ca[:, 2][graph.edge_index]
        return graph.keep_edges((graph.relation != 3) | (height[0] < height[1]))


class DrawsAnotherPart(Healthy):
    def edges_into(self, batch, residues):
        graph = self(batch)
        return graph.keep_edges(residues[graph.edge_index[0]])


class DependsOnTheOrigin(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        far = batch.ca.norm(dim=1)[graph.edge_index[0]] > 40
        return graph.keep_edges((graph.relation != 3) | far)


def test_a_healthy_graph_builder_passes():
    check_class(Kind.GRAPH, Healthy)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (JoinsProteins, "an edge joins residues of two proteins"),
        (LeavesEdgesUnsorted, "edges are not sorted by target, then relation, then source"),
        (RepeatsEdges, "an edge occurs twice in one relation"),
        (LeavesRange, "a relation is not in the range from 0 to 3"),
        (LeavesBatch, "an edge joins residues that are not in the batch"),
        (DisagreesWithItself, "its graph has num_relations 4, the builder 7"),
        (HasNoRelations, "num_relations is 0, expected a positive integer"),
        (UsesInt32, "edge_index and relation are not int64"),
        (HasRaggedEdges, "are not"),
        (DrawsNothing, "finds no edges"),
        (ReturnsPair, "returns tuple, expected ResidueGraph"),
        (ChangesBatch, r"changes its input in place: batch\.backbone"),
        (DependsOnTheBatch, "packing changes the edges of protein 'two_chains'"),
        (Flickers, "returns different graphs for one batch"),
        (HidesState, "a state is not saved"),
        (DrawsAnotherPart, "edges_into returns other edges"),
        (LooksAlongOneAxis, "turning the proteins changes"),
        (DependsOnTheOrigin, "shifting the proteins changes"),
    ],
)
def test_a_broken_graph_builder_is_caught(component, message):
    with pytest.raises(AssertionError, match=f"^graph builder '{component.__name__}': .*{message}"):
        check_class(Kind.GRAPH, component)
