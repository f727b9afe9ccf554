"""Claims about residue graphs and the builders that draw them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.protocols import DrawsEdgesInto
from esmgn_core.testing.claims import Claims, differences, snapshot, state_dict_carries_over
from esmgn_core.testing.examples import example_batch, example_proteins
from esmgn_core.testing.simulated import keeps_to_its_device, moved_to_cuda
from esmgn_core.testing.structure import moved_batches

_MAX_TIES = 4

Edge = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class GraphSubject:
    """A graph builder under test."""

    claims: Claims
    build: Callable[[], Any]


def check_graph_builder(claims: Claims, _component: type, build: Callable[..., Any]) -> None:
    """State all claims about a graph builder."""
    checks = (
        _valid,
        _inputs_untouched,
        _repeatable,
        _packing,
        _part,
        _rigid_motion,
        _state_dict,
        _other_device,
    )
    claims.check(checks, GraphSubject(claims, build))


def check_graph(claims: Claims, graph: object, batch: ProteinBatch, num_relations: int) -> None:
    """A residue graph is well formed and joins residues of one protein only."""
    claims.hold(isinstance(graph, ResidueGraph), f"gives {type(graph).__name__}, expected ResidueGraph")
    assert isinstance(graph, ResidueGraph)  # noqa: S101 - for the type checker; stated above
    edges, relation = graph.edge_index, graph.relation
    claims.hold(
        edges.shape == (2, *relation.shape) and relation.dim() == 1,
        f"edge_index {tuple(edges.shape)} and relation {tuple(relation.shape)} are not [2, E] and [E]",
    )
    dtypes = {edges.dtype, relation.dtype}
    claims.hold(dtypes == {torch.int64}, "edge_index and relation are not int64")
    claims.hold(
        graph.num_relations == num_relations,
        f"its graph has num_relations {graph.num_relations}, the builder {num_relations}",
    )
    if not graph.num_edges:
        return
    inside = 0 <= int(edges.min()) <= int(edges.max()) < batch.num_residues
    claims.hold(inside, "an edge joins residues that are not in the batch")
    in_range = 0 <= int(relation.min()) <= int(relation.max()) < num_relations
    claims.hold(in_range, f"a relation is not in the range from 0 to {num_relations - 1}")
    source, target = batch.protein_index[edges]
    claims.hold(bool((source == target).all()), "an edge joins residues of two proteins")
    keys = [(t, r, s) for s, t, r in edge_list(graph)]
    claims.hold(keys == sorted(keys), "edges are not sorted by target, then relation, then source")
    claims.hold(len(keys) == len(set(keys)), "an edge occurs twice in one relation")


def edge_list(graph: ResidueGraph) -> list[Edge]:
    """Edges as (source, target, relation)."""
    source, target = graph.edge_index.tolist()
    return list(zip(source, target, graph.relation.tolist(), strict=True))


def _valid(subject: GraphSubject) -> None:
    """Edges are well formed, sorted, and inside proteins; relations are in range."""
    builder = subject.build()
    num_relations = builder.num_relations
    subject.claims.count("num_relations", num_relations)
    batch = example_batch()
    graph = builder(batch)
    check_graph(subject.claims, graph, batch, int(num_relations))
    subject.claims.hold(graph.num_edges > 0, "draws no edge at all in the example proteins")


def _inputs_untouched(subject: GraphSubject) -> None:
    """The batch is bit-identical after a call."""
    builder, batch = subject.build(), example_batch()
    subject.claims.untouched(lambda: builder(batch), batch=batch)


def _repeatable(subject: GraphSubject) -> None:
    """One batch has one graph."""
    builder = subject.build()
    first, second = (snapshot(builder(example_batch())) for _ in range(2))
    subject.claims.hold(not differences(first, second), "draws two graphs for one batch")


def _packing(subject: GraphSubject) -> None:
    """A protein has the same edges alone and among others."""
    builder, batch = subject.build(), example_batch()
    packed = edge_list(builder(batch))
    for protein, first, end in zip(
        example_proteins(), batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True
    ):
        alone = edge_list(builder(ProteinBatch.from_proteins([protein])))
        among = {(s - first, t - first, r) for s, t, r in packed if first <= t < end}
        subject.claims.hold(
            len(among ^ set(alone)) <= _MAX_TIES, f"packing changes the edges of protein '{protein.name}'"
        )


def _part(subject: GraphSubject) -> None:
    """Where the builder can draw only the edges into some residues, they are those of the whole graph."""
    builder, batch = subject.build(), example_batch()
    whole = builder(batch)
    if not isinstance(builder, DrawsEdgesInto):
        return
    residues = torch.arange(batch.num_residues) % 3 == 0
    expected = edge_list(whole.keep_edges(residues[whole.edge_index[1]]))
    subject.claims.hold(
        edge_list(builder.edges_into(batch, residues)) == expected,
        "edges_into draws other edges into some residues than the whole graph has",
    )


def _rigid_motion(subject: GraphSubject) -> None:
    """Turning and shifting the proteins changes no edge, but for ties of distances."""
    builder, batch = subject.build(), example_batch()
    expected = set(edge_list(builder(batch)))
    for motion, moved in moved_batches(batch).items():
        changed = expected ^ set(edge_list(builder(moved)))
        subject.claims.hold(
            len(changed) <= _MAX_TIES,
            f"{motion} the proteins changes {len(changed)} of {len(expected)} edges",
        )


def _state_dict(subject: GraphSubject) -> None:
    """A state dict carries everything to a new instance."""
    module = subject.build().eval()
    state_dict_carries_over(subject.claims, module, subject.build, lambda builder: builder(example_batch()))


def _other_device(subject: GraphSubject) -> None:
    """Nothing is left on the CPU when the batch is on a GPU."""
    builder = subject.build()
    keeps_to_its_device(subject.claims, lambda device: moved_to_cuda(builder)(example_batch().to(device)))
