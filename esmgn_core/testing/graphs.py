"""Claims about residue graphs and graph builders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.model.contract import graph_problem
from esmgn_core.protocols import DrawsEdgesInto
from esmgn_core.testing.claims import Claims, differences, in_threads, snapshot, state_dict_carries_over
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
    """Check all claims about a graph builder."""
    checks = (
        _valid,
        _inputs_untouched,
        _repeatable,
        _labels_and_names,
        _threads,
        _packing,
        _part,
        _rigid_motion,
        _state_dict,
        _other_device,
    )
    claims.check(checks, GraphSubject(claims, build))


def observed_graph(build: Callable[..., Any]) -> dict[str, object]:
    """The graph of the example batch, from a new builder."""
    torch.manual_seed(17)
    return snapshot(build()(example_batch()))


def check_graph(claims: Claims, graph: object, batch: ProteinBatch, num_relations: int) -> None:
    """A residue graph is valid, and its edges join residues of one protein."""
    problem = graph_problem(graph, batch, num_relations)
    claims.require(not problem, problem)
    assert isinstance(graph, ResidueGraph)  # noqa: S101 - for the type checker; stated above
    if not graph.num_edges:
        return
    source, target = batch.protein_index[graph.edge_index]
    claims.require(bool((source == target).all()), "an edge joins residues of two proteins")
    keys = [(t, r, s) for s, t, r in edge_list(graph)]
    claims.require(keys == sorted(keys), "edges are not sorted by target, then relation, then source")
    claims.require(len(keys) == len(set(keys)), "an edge occurs twice in one relation")


def edge_list(graph: ResidueGraph) -> list[Edge]:
    """Edges as (source, target, relation)."""
    source, target = graph.edge_index.tolist()
    return list(zip(source, target, graph.relation.tolist(), strict=True))


def _valid(subject: GraphSubject) -> None:
    """Edges are valid, sorted and within proteins; relations are in range."""
    builder = subject.build()
    num_relations = builder.num_relations
    subject.claims.require_positive("num_relations", num_relations)
    batch = example_batch()
    graph = builder(batch)
    check_graph(subject.claims, graph, batch, int(num_relations))
    subject.claims.require(graph.num_edges > 0, "finds no edges in the example proteins")


def _inputs_untouched(subject: GraphSubject) -> None:
    """The batch is bit-identical after a call."""
    builder, batch = subject.build(), example_batch()
    subject.claims.unchanged(lambda: builder(batch), batch=batch)


def _repeatable(subject: GraphSubject) -> None:
    """The same batch gives the same graph."""
    builder = subject.build()
    first, second = (snapshot(builder(example_batch())) for _ in range(2))
    subject.claims.require(not differences(first, second), "returns different graphs for one batch")


def _labels_and_names(subject: GraphSubject) -> None:
    """Labels and names do not change the graph."""
    builder, batch = subject.build(), example_batch()
    labels = torch.arange(float(len(batch))).unsqueeze(1)
    names = tuple(f"other {name}" for name in batch.names)
    others = {"labels": batch.replace(labels=labels), "names": batch.replace(names=names)}
    for what, other in others.items():
        changed = differences(snapshot(builder(batch)), snapshot(builder(other)))
        subject.claims.require(not changed, f"reads the {what} of the proteins")


def _threads(subject: GraphSubject) -> None:
    """8 threads can share an instance."""
    builder = subject.build().eval()
    batches = [ProteinBatch.from_proteins([protein]) for protein in example_proteins() * 2]
    same = in_threads(lambda batch: snapshot(builder(batch)), batches)
    subject.claims.require(same, "returns other graphs when 8 threads call it at the same time")


def _packing(subject: GraphSubject) -> None:
    """The edges of a protein do not depend on the other proteins of the batch."""
    builder, proteins = subject.build(), example_proteins()
    alone = [edge_list(builder(ProteinBatch.from_proteins([protein]))) for protein in proteins]
    number = {protein.name: i for i, protein in enumerate(proteins)}
    crowd = [protein for seed in range(7, 11) for protein in example_proteins(seed)]
    for group in (proteins, proteins[:2], proteins[2:], proteins[::-1], [*proteins, *crowd]):
        batch = ProteinBatch.from_proteins(group)
        packed, ptr = edge_list(builder(batch)), batch.ptr.tolist()
        for protein, first, end in zip(group[: len(proteins)], ptr, ptr[1:], strict=False):
            among = [(s - first, t - first, r) for s, t, r in packed if first <= t < end]
            same = among == alone[number[protein.name]]
            subject.claims.require(same, f"packing changes the edges of protein '{protein.name}'")


def _part(subject: GraphSubject) -> None:
    """``edges_into`` returns the edges of the whole graph into these residues."""
    builder, batch = subject.build(), example_batch()
    whole = builder(batch)
    if not isinstance(builder, DrawsEdgesInto):
        return
    residues = torch.arange(batch.num_residues) % 3 == 0
    expected = edge_list(whole.keep_edges(residues[whole.edge_index[1]]))
    subject.claims.require(
        edge_list(builder.edges_into(batch, residues)) == expected,
        "edges_into returns other edges than the whole graph has",
    )


def _rigid_motion(subject: GraphSubject) -> None:
    """Rotation and translation of the proteins change no edges, except for ties of distances."""
    builder, batch = subject.build(), example_batch()
    expected = set(edge_list(builder(batch)))
    for motion, moved in moved_batches(batch).items():
        changed = expected ^ set(edge_list(builder(moved)))
        subject.claims.require(
            len(changed) <= _MAX_TIES,
            f"{motion} the proteins changes {len(changed)} of {len(expected)} edges",
        )


def _state_dict(subject: GraphSubject) -> None:
    """A new instance with the state dict gives the same graph."""
    module = subject.build().eval()
    state_dict_carries_over(subject.claims, module, subject.build, lambda builder: builder(example_batch()))


def _other_device(subject: GraphSubject) -> None:
    """No tensor stays on the CPU if the batch is on a GPU."""
    builder = subject.build()
    keeps_to_its_device(subject.claims, lambda device: moved_to_cuda(builder)(example_batch().to(device)))
