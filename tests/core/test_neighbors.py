"""The search for neighbors finds exactly the pairs of a plain look at all distances."""

from __future__ import annotations

import functools
import tracemalloc
from typing import Any

import pytest
import torch
from torch import Tensor

from esmgn_core import neighbors
from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_core.neighbors import find_neighbors
from esmgn_core.testing.simulated import simulated_cuda

Pair = tuple[int, int]


def protein(ca: Tensor) -> Protein:
    backbone = torch.full((len(ca), 4, 3), torch.nan)
    backbone[:, CA] = ca
    zeros = torch.zeros(len(ca), dtype=torch.int64)
    return Protein("made", zeros, backbone, ~backbone.isnan().any(-1), zeros, zeros)


def batch_of(*lengths: int, spacing: float = 1.7) -> ProteinBatch:
    """Random walks on a grid far from the origin: many equal distances, some points in common."""
    generator = torch.Generator().manual_seed(0)
    walks = [torch.randint(-2, 3, (n, 3), generator=generator).cumsum(0) * spacing + 300 for n in lengths]
    return ProteinBatch.from_proteins([protein(walk) for walk in walks])


@functools.cache
def plainly(batch: ProteinBatch) -> dict[tuple[int, int], float]:
    """Squared distance of every pair (center, neighbor) of one protein, the center itself included.

    A residue without finite coordinates has no pairs.
    """
    ca, owner = batch.ca, batch.protein_index
    squared = (ca[:, None] - ca[None]).square()
    total = (squared[..., 0] + squared[..., 1]) + squared[..., 2]
    rows = ((owner[:, None] == owner[None]) & total.isfinite()).nonzero().tolist()
    return {(i, j): float(total[i, j]) for i, j in rows}


def expected(batch: ProteinBatch, radius: float, **settings: Any) -> tuple[list[Pair], list[Pair]]:
    """Close and nearest neighbors by the rules of ``find_neighbors``, residue by residue."""
    by_center: dict[int, list[tuple[float, int]]] = {}
    for (i, j), squared in plainly(batch).items():
        by_center.setdefault(i, []).append((squared, j))
    close: list[Pair] = []
    nearest: list[Pair] = []
    for i, others in sorted(by_center.items()):
        hits = sorted(j for squared, j in others if squared < radius**2)
        if cap := settings.get("max_neighbors"):
            hits = hits[: cap + 1]
        ranked = [j for _, j in sorted(others)[: settings.get("num_nearest", -1) + 1]]
        for edges, found in ((close, hits), (nearest, sorted(ranked))):
            edges += [
                (i, j)
                for j in found
                if abs(i - j) >= max(settings.get("min_separation", 0), 1) and plainly(batch)[i, j] > 0
            ]
    return close, nearest


def found(batch: ProteinBatch, radius: float, **settings: Any) -> tuple[list[Pair], list[Pair]]:
    """Close and nearest neighbors as pairs (center, neighbor), in the order of the search."""
    close, nearest = (
        list(zip(edges[1].tolist(), edges[0].tolist(), strict=True))
        for edges in find_neighbors(batch, radius, **settings)
    )
    return close, nearest


BATCH = batch_of(70, 1, 2, 25, 0, 22)


@pytest.fixture(params=["whole proteins", "few centers", "small blocks", "boxes"])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search of short and long proteins, all at a time or a few residues."""
    if request.param == "few centers":
        monkeypatch.setattr(neighbors, "_MAX_CENTERS", 7)
    if request.param in ("small blocks", "boxes"):
        monkeypatch.setattr(neighbors, "_MAX_DISTANCES", 150)
        monkeypatch.setattr(neighbors, "_MIN_CENTERS", 3)
    if request.param == "boxes":
        monkeypatch.setattr(neighbors, "_LONG", 0)


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("radius", [0.5, 3.4, 10.0, 1e4])
def test_close_neighbors(radius: float) -> None:
    """Strictly closer than the radius, also at 3.4, a distance that occurs; by center, then neighbor."""
    assert found(BATCH, radius) == expected(BATCH, radius)


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("radius", [0.5, 6.0, 1e4])
@pytest.mark.parametrize("k", [1, 10, 60])
def test_nearest_neighbors(radius: float, k: int) -> None:
    """The k + 1 nearest, ties to the lower row, within the radius or not."""
    assert found(BATCH, radius, num_nearest=k) == expected(BATCH, radius, num_nearest=k)


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("min_separation", [0, 1, 5])
def test_cap_and_separation(min_separation: int) -> None:
    """The cap counts in residue order, and before near residues are left out."""
    settings = {"num_nearest": 6, "max_neighbors": 4, "min_separation": min_separation}
    assert found(BATCH, 10.0, **settings) == expected(BATCH, 10.0, **settings)
    assert len(found(BATCH, 10.0, **settings)[0]) < len(found(BATCH, 10.0)[0])


@pytest.mark.usefixtures("search")
def test_edges_into_some_residues() -> None:
    into = torch.arange(BATCH.num_residues) % 3 == 0
    settings = {"num_nearest": 6, "max_neighbors": 4}
    close, nearest = found(BATCH, 10.0, **settings, into=into)
    whole = found(BATCH, 10.0, **settings)
    assert (close, nearest) == tuple([pair for pair in edges if into[pair[0]]] for edges in whole)


@pytest.mark.usefixtures("search")
def test_far_parts_of_a_chain() -> None:
    """Parts that are far apart in space still find the nearest, however far."""
    steps = torch.arange(90.0)
    ca = torch.stack([3.8 * steps, 500.0 * (steps / 30).floor(), torch.zeros(90)], dim=1)
    batch = ProteinBatch.from_proteins([protein(ca)])
    nearest = found(batch, 10.0, num_nearest=35)[1]
    assert len(nearest) == 90 * 35
    order = (ca - ca[0]).square().sum(dim=1).argsort()[1:36]
    assert [j for i, j in nearest if i == 0] == sorted(order.tolist())


@pytest.mark.usefixtures("search")
def test_nearest_at_the_very_radius() -> None:
    """Not within the radius, but of the two nearest."""
    ca = torch.stack([10.0 * torch.arange(40), torch.zeros(40), torch.zeros(40)], dim=1)
    close, nearest = found(ProteinBatch.from_proteins([protein(ca)]), 10.0, num_nearest=2)
    assert close == []
    inner = [(i, j) for i, j in nearest if 0 < i < 39]
    assert inner == [(i, j) for i in range(1, 39) for j in (i - 1, i + 1)]


@pytest.mark.usefixtures("search")
@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("lost", [[0], [30], [70], [0, 1, 2, 69, 75], [*range(4, 70)]])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_residue_without_finite_coordinates_has_no_edges_and_changes_no_others(
    lost: list[int], value: float
) -> None:
    backbone = BATCH.backbone.clone()
    backbone[lost, CA, 1] = value
    batch = BATCH.replace(backbone=backbone)
    settings = {"num_nearest": 5, "max_neighbors": 8, "min_separation": 2}
    assert found(batch, 6.0, **settings) == expected(batch, 6.0, **settings)


def test_no_protein() -> None:
    for batch in (batch_of(0), batch_of(0, 0)):
        assert found(batch, 10.0, num_nearest=10) == ([], [])


def test_edges_are_on_the_device_of_the_batch() -> None:
    close, nearest = find_neighbors(BATCH, 10.0, num_nearest=3)
    with simulated_cuda() as device:
        moved = find_neighbors(BATCH.to(device), 10.0, num_nearest=3)
        assert [edges.device for edges in moved] == [device, device]
        assert moved.close.tolist() == close.tolist()
        assert moved.nearest.tolist() == nearest.tolist()


def test_memory_of_a_long_protein_is_bounded() -> None:
    """A chain of 10,000 residues, whose distances alone would take 400 MB."""
    steps = torch.randn(10_000, 3, generator=torch.Generator().manual_seed(0))
    batch = ProteinBatch.from_proteins([protein(2.2 * steps.cumsum(0))])
    tracemalloc.start()
    find_neighbors(batch, 10.0, num_nearest=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
