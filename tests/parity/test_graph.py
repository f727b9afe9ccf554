"""The relational graph has exactly the edges the original drew."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_gearnet.graph import RelationalGraph

from .conftest import Recorded, batch_of, edge_set

RADIUS = 5


def helix(num_residues: int, *, shift: float = 0.0) -> torch.Tensor:
    """CA atoms of the helix the conformance vectors are defined on, [n, 3] in angstrom."""
    number = torch.arange(num_residues, dtype=torch.float64)
    angle = number * math.radians(100)
    return torch.stack([2.3 * angle.cos() + shift, 2.3 * angle.sin(), 1.5 * number], dim=1).float()


def protein(ca: torch.Tensor, chain_index: torch.Tensor | None = None) -> Protein:
    backbone = torch.full((len(ca), 4, 3), torch.nan)
    backbone[:, CA] = ca
    zeros = torch.zeros(len(ca), dtype=torch.int64)
    return Protein(
        "made",
        zeros,
        backbone,
        ~backbone.isnan().any(-1),
        zeros,
        zeros if chain_index is None else chain_index,
    )


def draw(*proteins: Protein, **settings: int) -> ResidueGraph:
    return RelationalGraph(RelationalGraph.Settings(**settings))(ProteinBatch.from_proteins(proteins))


@pytest.mark.parametrize(
    ("num_residues", "counts"),
    [
        (1, [0, 0, 1, 0, 0, 0, 0]),
        (2, [0, 1, 2, 1, 0, 0, 0]),
        (3, [1, 2, 3, 2, 1, 0, 0]),
        (6, [4, 5, 6, 5, 4, 2, 2]),
        (12, [10, 11, 12, 11, 10, 26, 44]),
        (20, [18, 19, 20, 19, 18, 58, 60]),
    ],
)
def test_edges_of_a_helix(num_residues: int, counts: list[int]) -> None:
    graph = draw(protein(helix(num_residues)))
    assert graph.relation.bincount(minlength=7).tolist() == counts


def test_two_chains_share_no_sequential_edge() -> None:
    ca = torch.cat([helix(6), helix(6, shift=9.0)])
    graph = draw(protein(ca, torch.tensor([0] * 6 + [1] * 6)))
    assert graph.relation.bincount(minlength=7).tolist() == [8, 10, 12, 10, 8, 36, 52]


def test_proteins_of_a_batch_are_drawn_as_if_alone() -> None:
    alone = [draw(protein(helix(n))) for n in (12, 1, 20, 6)]
    together = draw(*(protein(helix(n)) for n in (12, 1, 20, 6)))
    expected, first = set(), 0
    for graph, n in zip(alone, (12, 1, 20, 6), strict=True):
        expected |= {(s + first, t + first, r) for s, t, r in edge_set(graph)}
        first += n
    assert edge_set(together) == expected


def test_radius_cap_counts_hits_in_residue_order() -> None:
    """With every pair in reach, a centre keeps the first 33 hits, itself included if it is early."""
    generator = torch.Generator().manual_seed(0)
    graph = draw(protein(6 * torch.rand(60, 3, generator=generator)), min_separation=0)
    source, target = graph.edge_index[:, graph.relation == RADIUS]
    assert int(source.max()) == 32
    assert target.bincount().tolist() == [32] * 33 + [33] * 27


def test_cap_of_zero_keeps_every_neighbour() -> None:
    ca = 6 * torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    graph = draw(protein(ca), min_separation=0, max_radius_neighbors=0)
    assert int((graph.relation == RADIUS).sum()) == 60 * 59


def test_residues_at_one_point_get_no_edge_and_ties_go_to_the_lower_position() -> None:
    ca = torch.zeros(30, 3)
    ca[15:] = torch.tensor([4.0, 0.0, 0.0])
    graph = draw(protein(ca), min_separation=1)
    spatial = graph.keep_edges(graph.relation >= RADIUS)
    distance = (ca[spatial.edge_index[0]] - ca[spatial.edge_index[1]]).norm(dim=1)
    assert bool((distance == 4.0).all())


@pytest.mark.parametrize("length", [700, 35])
def test_blocks_do_not_change_the_edges_of_a_long_protein(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = torch.randn(length, 3, generator=torch.Generator().manual_seed(1)).cumsum(0)
    whole = draw(protein(walk), protein(helix(12)))
    monkeypatch.setattr("esmgn_core.neighbors._MAX_CENTERS", 200)
    monkeypatch.setattr("esmgn_core.neighbors._MAX_DISTANCES", 512)
    monkeypatch.setattr("esmgn_core.neighbors._MIN_CENTERS", 16)
    assert edge_set(draw(protein(walk), protein(helix(12)))) == edge_set(whole)
    monkeypatch.setattr("esmgn_core.neighbors._LONG", 0)
    assert edge_set(draw(protein(walk), protein(helix(12)))) == edge_set(whole)


def test_recorded_graphs(recorded: Recorded) -> None:
    """Equal as sets; where more than 32 neighbours are in reach the original's choice is arbitrary."""
    names = sorted(path.stem for path in (recorded.root / "graphs").glob("*.npz"))
    assert names
    for name in names:
        arrays = recorded.arrays(f"graphs/{name}")
        batch = batch_of(arrays)
        ours = edge_set(RelationalGraph(RelationalGraph.Settings())(batch))
        theirs = {tuple(edge) for edge in arrays["edge_list"].tolist()}
        crowded = set(np.flatnonzero(arrays["radius_count"] > 32).tolist())

        def settled(
            edges: set[tuple[int, int, int]], left_out: set[int] = crowded
        ) -> set[tuple[int, int, int]]:
            return {edge for edge in edges if edge[2] != RADIUS or edge[1] not in left_out}

        assert settled(ours) == settled(theirs), name
        uncapped = {tuple(edge) for edge in arrays["spatial_edges_uncapped"].tolist()}
        lifted = RelationalGraph(RelationalGraph.Settings(max_radius_neighbors=0))(batch)
        assert {edge[:2] for edge in edge_set(lifted) if edge[2] == RADIUS} == uncapped, name
        assert {edge[:2] for edge in ours if edge[2] == RADIUS} <= uncapped, name
