from __future__ import annotations

import math

import pytest
import torch

from esmgn_core import Kind
from esmgn_core.batch import CA, ProteinBatch
from esmgn_core.testing import check_component, example_proteins
from esmgn_graphs.radius import RadiusGraph


def at(*places: torch.Tensor) -> ProteinBatch:
    """Proteins with CA atoms at the given places, float32 [n, 3] each."""
    template = example_proteins()[2]
    proteins = []
    for number, place in enumerate(places):
        batch = ProteinBatch.from_proteins([template])
        batch = batch.select(torch.arange(batch.num_residues) < len(place))
        backbone = batch.backbone.clone()
        backbone[:, CA] = place
        proteins.append((number, batch.replace(backbone=backbone)))
    joined = {
        name: torch.cat([getattr(batch, name) for _, batch in proteins])
        for name in ("residue_type", "backbone", "atom_mask", "residue_index", "chain_index")
    }
    ptr = torch.tensor([0, *(len(place) for place in places)]).cumsum(0)
    return ProteinBatch(**joined, ptr=ptr, names=tuple(str(number) for number, _ in proteins))


def by_loops(batch: ProteinBatch, settings: RadiusGraph.Settings) -> list[tuple[int, int]]:
    """Edges as (target, source), written from the rule residue by residue."""
    edges, places = [], batch.ca.tolist()
    for first, end in zip(batch.ptr.tolist(), batch.ptr[1:].tolist(), strict=False):
        for i in range(first, end):
            hits = [j for j in range(first, end) if math.dist(places[i], places[j]) < settings.radius]
            if settings.max_neighbors:
                hits = hits[: settings.max_neighbors + 1]
            found = [j for j in hits if j != i and abs(i - j) >= settings.min_separation]
            edges += [(i, j) for j in sorted(found + [i] * settings.self_loops)]
    return edges


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"radius": 6.5},
        {"max_neighbors": 0},
        {"max_neighbors": 4},
        {"min_separation": 5},
        {"self_loops": True, "min_separation": 2},
    ],
    ids=str,
)
def test_edges_are_those_of_the_rule(changes):
    settings = RadiusGraph.Settings(**changes)
    batch = ProteinBatch.from_proteins(example_proteins())
    graph = RadiusGraph(settings)(batch)
    source, target = graph.edge_index.tolist()
    assert list(zip(target, source, strict=True)) == by_loops(batch, settings)
    assert graph.relation.unique().tolist() == [0]


def test_the_cap_keeps_the_first_in_residue_order():
    """60 residues within 10 angstrom of each other: the first 33 count, the residue itself among them."""
    generator = torch.Generator().manual_seed(0)
    batch = at(5.7 * torch.rand(60, 3, generator=generator))
    source, target = RadiusGraph(RadiusGraph.Settings())(batch).edge_index
    assert int(source.max()) == 32
    assert target.bincount().tolist() == [32] * 33 + [33] * 27
    assert RadiusGraph(RadiusGraph.Settings(max_neighbors=0))(batch).num_edges == 60 * 59


def test_the_radius_is_an_exclusive_bound():
    batch = at(torch.tensor([[0.0, 0, 0], [10.0, 0, 0], [10.0, 9.99, 0]]))
    assert RadiusGraph(RadiusGraph.Settings())(batch).edge_index.tolist() == [[2, 1], [1, 2]]


def test_proteins_in_one_place_are_not_joined():
    place = torch.tensor([[0.0, 0, 0], [3.8, 0, 0]])
    graph = RadiusGraph(RadiusGraph.Settings())(at(place, place))
    assert graph.edge_index.tolist() == [[1, 0, 3, 2], [0, 1, 2, 3]]


def test_a_lone_residue_has_no_edge():
    graph = RadiusGraph(RadiusGraph.Settings())(at(torch.zeros(1, 3)))
    assert graph.edge_index.shape == (2, 0)
    assert graph.edge_index.dtype == torch.int64


@pytest.mark.parametrize("changes", [{"radius": 0}, {"max_neighbors": -1}, {"min_separation": -1}], ids=str)
def test_settings_out_of_bounds_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        RadiusGraph.Settings(**changes)


def test_radius_keeps_the_contract_of_a_graph_builder():
    check_component(Kind.GRAPH, "radius")
