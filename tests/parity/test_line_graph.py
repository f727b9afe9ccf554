"""The line graph has exactly the edges and angle bins of the original."""

from __future__ import annotations

import pytest
import torch

from esmgn_core.graph import ResidueGraph
from esmgn_gearnet.line_graph import angle_bin, line_graph

from .conftest import Recorded, batch_of, edge_set, graph_of
from .test_graph import draw, helix, protein


def test_line_graph_of_a_helix() -> None:
    """The conformance numbers: 1280 edges, most of them in the first bin."""
    line = line_graph(draw(protein(helix(12))), helix(12), 8)
    assert line.num_edges == 1280
    assert line.relation.bincount(minlength=8).tolist() == [504, 354, 136, 70, 172, 44, 0, 0]


def test_recorded_line_graphs(recorded: Recorded) -> None:
    names = sorted(path.stem for path in (recorded.root / "line_graphs").glob("*.npz"))
    assert names
    for name in names:
        arrays, line = recorded.arrays(f"graphs/{name}"), recorded.arrays(f"line_graphs/{name}")
        graph = graph_of(arrays["edge_list"])
        row = {edge: number for number, edge in enumerate(zip(*columns(graph), strict=True))}
        ours = [row[tuple(edge)] for edge in arrays["edge_list"].tolist()]
        theirs = {
            (ours[before], ours[after], angle)
            for before, after, angle in zip(
                *(line[key].tolist() for key in ("edge_in", "edge_out", "relation")), strict=True
            )
        }
        assert edge_set(line_graph(graph, batch_of(arrays).ca, 8)) == theirs, name


def columns(graph: ResidueGraph) -> tuple[list[int], list[int], list[int]]:
    source, target = graph.edge_index.tolist()
    return source, target, graph.relation.tolist()


def test_plain_definition_on_a_graph_with_repeated_edges() -> None:
    """Every pair of edges that share a residue, found one by one; sorted; blocks change nothing."""
    torch.manual_seed(0)
    graph = ResidueGraph.from_edges(torch.randint(9, (2, 40)), torch.randint(3, (40,)), 3)
    ca = 5 * torch.randn(9, 3)
    expected = []
    for after, (j, i) in enumerate(graph.edge_index.T.tolist()):
        for before, (k, shared) in enumerate(graph.edge_index.T.tolist()):
            if shared == j:
                u, v = ca[i] - ca[j], ca[k] - ca[j]
                angle = torch.atan2(torch.linalg.cross(u, v).norm(), u @ v) / torch.pi
                expected.append((before, after, min(int(5 * angle), 4)))
    line = line_graph(graph, ca, 5)
    assert sorted(expected) == sorted(zip(*columns(line), strict=True))
    resorted = ResidueGraph.from_edges(line.edge_index, line.relation, 5)
    assert torch.equal(line.edge_index, resorted.edge_index)
    assert torch.equal(line.relation, resorted.relation)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_blocks_change_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = draw(protein(helix(20)), protein(helix(1)))
    ca = torch.cat([helix(20), helix(1)])
    whole = line_graph(graph, ca, 8)
    monkeypatch.setattr("esmgn_gearnet.line_graph._MAX_LINE_EDGES_PER_BLOCK", size)
    blocks = line_graph(graph, ca, 8)
    assert torch.equal(whole.edge_index, blocks.edge_index)
    assert torch.equal(whole.relation, blocks.relation)


def test_no_edges() -> None:
    graph = draw(protein(helix(3)))
    empty = graph.keep_edges(torch.zeros(graph.num_edges, dtype=torch.bool))
    assert line_graph(empty, helix(3), 8).num_edges == 0


def test_three_angles_at_once() -> None:
    """Three rows must not be taken for the three components of the vectors."""
    first = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0]])
    second = torch.tensor([[1.0, 0, 0], [0.0, 1, 0], [-1.0, 0, 0]])
    assert angle_bin(first, second, 8).tolist() == [0, 4, 7]


def test_line_graph_of_the_default_graph_is_built_for_a_long_chain() -> None:
    ca = 2 * torch.randn(800, 3, generator=torch.Generator().manual_seed(0)).cumsum(0)
    graph = draw(protein(ca))
    incoming = graph.edge_index[1].bincount(minlength=800)
    outgoing = graph.edge_index[0].bincount(minlength=800)
    assert line_graph(graph, ca, 8).num_edges == int((incoming * outgoing).sum())
