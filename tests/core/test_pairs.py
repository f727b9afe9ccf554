"""The search for close residues finds exactly the pairs of a plain look at all distances."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from esmgn_core import dense, tiles
from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_core.pairs import Pairs, close_pairs, nonzero


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
    """Squared distance of every pair of one protein."""
    ca, owner = batch.ca, batch.protein_index
    squared = (ca[:, None] - ca[None]).square()
    total = (squared[..., 0] + squared[..., 1]) + squared[..., 2]
    rows = (owner[:, None] == owner[None]).nonzero().tolist()
    return {(i, j): float(total[i, j]) for i, j in rows}


def as_dict(pairs: Pairs) -> dict[tuple[int, int], float]:
    ends = zip(pairs.center.tolist(), pairs.neighbor.tolist(), strict=True)
    found = dict(zip(ends, pairs.squared.tolist(), strict=True))
    assert len(found) == len(pairs.center)
    return found


BATCH = batch_of(70, 1, 2, 25, 0, 22)


@pytest.fixture(params=["dense", "dense in small blocks", "tiles", "tiles in small blocks"])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both searches, also with a few rows, or two pairs of tiles, at a time."""
    monkeypatch.setattr(dense, "LONG", 5000 if request.param.startswith("dense") else -1)
    if request.param.endswith("in small blocks"):
        monkeypatch.setattr(dense, "_MAX_DISTANCES", 150)
        monkeypatch.setattr(tiles, "_MAX_DISTANCES", {"cpu": 512})
        monkeypatch.setattr(tiles, "_MAX_BOXES", 3)


@pytest.fixture(params=["in one step", "in two steps"])
def sort(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to sort; very large batches take the second."""
    if request.param == "in two steps":
        monkeypatch.setattr("esmgn_core.pairs._KEY_BITS", 40)


@pytest.mark.usefixtures("search", "sort")
@pytest.mark.parametrize("radius", [0.5, 3.4, 10.0, 1e4])
def test_close_pairs(radius: float) -> None:
    """Strictly closer than the radius, also at 3.4, a distance that occurs; by centre, then distance."""
    found = close_pairs(BATCH, radius)
    expected = {pair: squared for pair, squared in plainly(BATCH).items() if squared < radius**2}
    assert as_dict(found) == expected
    order = [(i, squared, j) for (i, j), squared in as_dict(found).items()]
    assert order == sorted(order)


@pytest.mark.usefixtures("search", "sort")
@pytest.mark.parametrize("radius", [0.5, 6.0, 1e4])
@pytest.mark.parametrize("k", [1, 10, 60])
def test_nearest_pairs(radius: float, k: int) -> None:
    """A residue's pairs begin with the k + 1 nearest, ties to the lower row, within the radius or not."""
    pairs = close_pairs(BATCH, radius, num_nearest=k)
    every = sorted((i, squared, j) for (i, j), squared in plainly(BATCH).items())
    expected: dict[tuple[int, int], float] = {}
    for number, (i, squared, j) in enumerate(every):
        if number <= k or every[number - k - 1][0] != i:
            expected[i, j] = squared
    assert as_dict(pairs.take(nonzero(pairs.rank() <= k))) == expected
    within = pairs.take(nonzero(pairs.within(radius)))
    assert as_dict(within) == as_dict(close_pairs(BATCH, radius))


def test_cap_counts_in_residue_order() -> None:
    """With a cap of 4 a centre keeps its first five in residue order, whatever their distance."""
    pairs = close_pairs(BATCH, 10.0)
    kept = as_dict(pairs.take(nonzero(pairs.within(10.0, max_neighbors=4))))
    by_center: dict[int, list[int]] = {}
    for i, j in sorted(as_dict(pairs)):
        by_center.setdefault(i, []).append(j)
    assert sorted(kept) == [(i, j) for i, row in by_center.items() for j in row[:5]]
    assert len(kept) < len(pairs.center)


@pytest.mark.usefixtures("search")
def test_far_parts_of_a_chain() -> None:
    """Parts on their own in space still find the nearest, however far."""
    steps = torch.arange(90.0)
    ca = torch.stack([3.8 * steps, 500.0 * (steps / 30).floor(), torch.zeros(90)], dim=1)
    batch = ProteinBatch.from_proteins([protein(ca)])
    pairs = close_pairs(batch, 10.0, num_nearest=35)
    assert pairs.center.bincount(minlength=90).min() >= 36
    rank = pairs.rank()
    far = pairs.take(nonzero((pairs.center == 0) & (rank <= 35))).neighbor
    expected = (ca - ca[0]).square().sum(dim=1).argsort()[:36]
    assert far.tolist() == expected.tolist()


@pytest.mark.usefixtures("search")
def test_nearest_at_the_very_radius() -> None:
    """Not within the radius, but of the two nearest."""
    ca = torch.stack([10.0 * torch.arange(40), torch.zeros(40), torch.zeros(40)], dim=1)
    pairs = close_pairs(ProteinBatch.from_proteins([protein(ca)]), 10.0, num_nearest=2)
    nearest = as_dict(pairs.take(nonzero(pairs.rank() <= 2)))
    assert {(i, j) for i, j in nearest if 0 < i < 39} == {
        (i, j) for i in range(1, 39) for j in (i - 1, i, i + 1)
    }


@pytest.mark.usefixtures("search")
def test_no_protein() -> None:
    for batch in (batch_of(0), batch_of(0, 0)):
        assert not as_dict(close_pairs(batch, 10.0, num_nearest=10))
