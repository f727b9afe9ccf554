"""Graph builders with a planted fault, and unusual valid ones."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import torch

from esmgn_core.graph import ResidueGraph
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import ExampleGraph

from . import fault, valid

COUNTER = itertools.count()


@valid(Kind.GRAPH)
class Healthy(ExampleGraph):
    """The example's graph, from a builder that must be given settings."""

    class Settings(ComponentSettings):
        """No settings."""


@fault(Kind.GRAPH, "an edge joins residues of two proteins")
class JoinsProteins(Healthy):
    def forward(self, batch):
        row = torch.arange(batch.num_residues - 1)
        return ResidueGraph.from_edges(torch.stack([row, row + 1]), torch.zeros_like(row), 4)


@fault(Kind.GRAPH, "edges are not sorted by target, then relation, then source")
class LeavesEdgesUnsorted(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index.flip(1), graph.relation.flip(0), 4)


@fault(Kind.GRAPH, "an edge occurs twice in one relation")
class RepeatsEdges(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph.from_edges(graph.edge_index.repeat(1, 2), graph.relation.repeat(2), 4)


@fault(Kind.GRAPH, "a relation is not in the range from 0 to 3")
class LeavesRange(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index, graph.relation + 1, 4)


@fault(Kind.GRAPH, "an edge joins residues that are not in the batch")
class LeavesBatch(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index + 1, graph.relation, 4)


@fault(Kind.GRAPH, "its graph has num_relations 4, the builder 7")
class DisagreesWithItself(Healthy):
    def __init__(self, settings):
        super().__init__(settings)
        self.num_relations = 7

    def forward(self, batch):
        return replace(super().forward(batch), num_relations=4)


@fault(Kind.GRAPH, "num_relations is 0, expected a positive integer")
class HasNoRelations(Healthy):
    num_relations = 0


@fault(Kind.GRAPH, "edge_index and relation are not int64")
class UsesInt32(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index.int(), graph.relation, 4)


@fault(Kind.GRAPH, "are not")
class HasRaggedEdges(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index, graph.relation[1:], 4)


@fault(Kind.GRAPH, "finds no edges")
class DrawsNothing(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(torch.zeros_like(graph.relation, dtype=torch.bool))


@fault(Kind.GRAPH, "returns tuple, expected ResidueGraph")
class ReturnsPair(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return graph.edge_index, graph.relation


@fault(Kind.GRAPH, r"changes its input in place: batch\.backbone")
class ChangesBatch(Healthy):
    def forward(self, batch):
        batch.backbone.nan_to_num_()
        return super().forward(batch)


@fault(Kind.GRAPH, "packing changes the edges of protein 'two_chains'")
class DependsOnTheBatch(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges((graph.relation != 3) | (batch.num_residues < 150))


@fault(Kind.GRAPH, "returns different graphs for one batch")
class Flickers(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(torch.arange(graph.num_edges) % 97 != next(COUNTER) % 97)


@fault(Kind.GRAPH, "a state is not saved")
class HidesState(Healthy):
    def __init__(self, settings):
        super().__init__(settings)
        self.left_out = 1 + next(COUNTER) % 3

    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(graph.relation != self.left_out)


@fault(Kind.GRAPH, "turning the proteins changes")
class LooksAlongOneAxis(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        height = batch.ca[:, 2][graph.edge_index]
        return graph.keep_edges((graph.relation != 3) | (height[0] < height[1]))


@fault(Kind.GRAPH, "edges_into returns other edges")
class DrawsAnotherPart(Healthy):
    def edges_into(self, batch, residues):
        graph = self(batch)
        return graph.keep_edges(residues[graph.edge_index[0]])


@fault(Kind.GRAPH, "shifting the proteins changes")
class DependsOnTheOrigin(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        far = batch.ca.norm(dim=1)[graph.edge_index[0]] > 40
        return graph.keep_edges((graph.relation != 3) | far)


@fault(Kind.GRAPH, "packing changes the edges of protein")
class LimitsTheEdgesOfABatch(Healthy):
    """Keeps the first 700 edges of a batch."""

    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(torch.arange(graph.num_edges) < 700)


@fault(Kind.GRAPH, "packing changes the edges of protein")
class DropsTheLastEdge(Healthy):
    """Forgets the last edge of a batch of several proteins."""

    def forward(self, batch):
        graph = super().forward(batch)
        last = graph.num_edges - (len(batch) > 1)
        return graph.keep_edges(torch.arange(graph.num_edges) < last)


@fault(Kind.GRAPH, "packing changes the edges of protein")
class ThinsCrowdedBatches(Healthy):
    """Drops the edges of one relation in batches of more than 500 residues."""

    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges((graph.relation != 3) | (batch.num_residues <= 500))


@fault(Kind.GRAPH, "packing changes the edges of protein")
class SkipsSmallProteins(Healthy):
    """Drops self-loops of proteins shorter than the mean of the batch."""

    def forward(self, batch):
        graph = super().forward(batch)
        small = (batch.lengths < batch.lengths.float().mean())[batch.protein_index]
        return graph.keep_edges((graph.relation != 0) | ~small[graph.edge_index[1]])


@fault(Kind.GRAPH, "edge_index of a batch on cuda:0 is on cpu")
class ReturnsToTheCPU(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index.cpu(), graph.relation.cpu(), 4)


@fault(Kind.GRAPH, "relation of a batch on cuda:0 is on cpu")
class MakesRelationsOnTheCPU(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return ResidueGraph(graph.edge_index, torch.tensor(graph.relation.tolist()), 4)


@fault(Kind.GRAPH, "reads the labels of the proteins")
class ReadsLabels(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return graph if batch.labels is None else graph.keep_edges(graph.relation > 0)


@fault(Kind.GRAPH, "reads the names of the proteins")
class RecognisesNames(Healthy):
    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(graph.relation > ("other" in batch.names[0]))


@fault(Kind.GRAPH, "8 threads")
class SharesAnAttribute(Healthy):
    def forward(self, batch):
        self.batch = batch
        time.sleep(1e-3)  # another thread runs in between
        graph = super().forward(batch)
        return graph.keep_edges(graph.relation >= (self.batch is not batch))


@fault(Kind.GRAPH, "num_relations is 4.0, expected a positive integer")
class CountsRelationsAsFloat(Healthy):
    num_relations: Any = 4.0


@fault(Kind.GRAPH, "shape|NaN|packing|was checked for")
class FailsForSingleResidues(Healthy):
    def forward(self, batch):
        if batch.num_residues == 1:
            raise ValueError("no neighbours")
        return super().forward(batch)


@valid(Kind.GRAPH)
class HasOneRelation(Healthy):
    """All edges of the example graph, without relations."""

    num_relations = 1

    def forward(self, batch):
        edges = super().forward(batch).edge_index.unique(dim=1)
        return ResidueGraph.from_edges(edges, torch.zeros_like(edges[0]), 1)


@valid(Kind.GRAPH)
class HasNoSelfLoops(Healthy):
    """Leaves a single residue without edges."""

    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(graph.edge_index[0] != graph.edge_index[1])


@valid(Kind.GRAPH)
class HasUnusedRelations(Healthy):
    """Declares more relations than any example has."""

    num_relations = 40

    def forward(self, batch):
        return replace(super().forward(batch), num_relations=40)


@valid(Kind.GRAPH)
class IsDirected(Healthy):
    """Joins each residue to the next one only."""

    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(graph.relation == 1)


@valid(Kind.GRAPH)
class HasALearnedBuffer(Healthy):
    def __init__(self, settings):
        super().__init__(settings)
        self.register_buffer("threshold", torch.rand(()))


@valid(Kind.GRAPH)
class ReadsResidueTypes(Healthy):
    """Makes no edges into glycine."""

    def forward(self, batch):
        graph = super().forward(batch)
        return graph.keep_edges(batch.residue_type[graph.edge_index[1]] != 7)


class Radius(Healthy):
    class Settings(ComponentSettings):
        radius: float = 8.0
        """Largest distance of an edge."""


@fault(Kind.GRAPH, "never reads its setting 'radius'")
class IgnoresItsRadius(Radius):
    pass


@valid(Kind.GRAPH)
class ReadsItsRadius(Radius):
    def forward(self, batch):
        graph = super().forward(batch)
        source, target = batch.ca[graph.edge_index]
        return graph.keep_edges((source - target).norm(dim=1) <= self.settings.radius)
