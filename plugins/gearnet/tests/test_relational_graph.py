"""The relational graph has the same edges, in the same order, however many are searched for at a time."""

from __future__ import annotations

import pytest
import torch

from esmgn_core import neighbors
from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_gearnet.graph import RelationalGraph


def protein(length: int, generator: torch.Generator) -> Protein:
    """A walk on a grid far from the origin, in chains of 30: equal distances, some points in common."""
    steps = torch.randint(-2, 3, (length, 3), generator=generator)
    backbone = torch.full((length, 4, 3), torch.nan)
    backbone[:, CA] = steps.cumsum(0) * 1.7 + 300
    zeros = torch.zeros(length, dtype=torch.int64)
    return Protein("made", zeros, backbone, ~backbone.isnan().any(-1), zeros, torch.arange(length) // 30)


def batch_of(*lengths: int) -> ProteinBatch:
    generator = torch.Generator().manual_seed(0)
    return ProteinBatch.from_proteins([protein(length, generator) for length in lengths])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_radius_neighbors": 0},
        {"max_radius_neighbors": 3, "min_separation": 0},
        {"num_neighbors": 40, "max_offset": 0},
        {"radius": 3.4, "num_neighbors": 1, "max_offset": 5, "min_separation": 1},
        {"radius": 200.0, "max_radius_neighbors": 60},
    ],
)
def test_parts_draw_the_edges_of_the_whole(
    settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(0, 90, 1, 2, 0, 61, 12, 200, 0)
    draw = RelationalGraph(RelationalGraph.Settings.model_validate(settings))
    expected = draw(batch)
    monkeypatch.setattr(neighbors, "_MAX_CENTERS", 50)
    monkeypatch.setattr(neighbors, "_LONG", 100)
    monkeypatch.setattr(neighbors, "_MIN_CENTERS", 20)
    drawn = draw(batch)
    assert torch.equal(drawn.edge_index, expected.edge_index)
    assert torch.equal(drawn.relation, expected.relation)
    assert drawn.num_relations == expected.num_relations == draw.num_relations
    assert set(drawn.relation.tolist()) == set(range(draw.num_relations))


def test_the_edges_into_some_residues_are_those_of_the_whole_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of residues of each protein, at least one protein without any."""
    batch = batch_of(0, 90, 1, 2, 61, 12, 200)
    monkeypatch.setattr(neighbors, "_MAX_CENTERS", 50)
    draw = RelationalGraph(RelationalGraph.Settings())
    place = torch.arange(batch.num_residues) - batch.ptr[batch.protein_index]
    residues = (place >= 20) & (place < 45)
    whole, part = draw(batch), draw.edges_into(batch, residues)
    expected = whole.keep_edges(residues[whole.edge_index[1]])
    assert torch.equal(part.edge_index, expected.edge_index)
    assert torch.equal(part.relation, expected.relation)
    assert part.num_relations == whole.num_relations
    assert set(part.relation.tolist()) == set(range(draw.num_relations))


def test_no_residue() -> None:
    graph = RelationalGraph(RelationalGraph.Settings())(batch_of(0, 0))
    assert graph.num_edges == 0
    assert graph.edge_index.shape == (2, 0)
