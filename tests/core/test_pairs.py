"""The search for close residues finds exactly the pairs of a plain look at all distances."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from esmgn_core import pairs as module
from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_core.pairs import Pairs, close_pairs, nearest_pairs


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


@pytest.mark.parametrize("search", ["_candidates", "_from_blocks"])
@pytest.mark.parametrize("max_pairs", [4_000_000, 500])
@pytest.mark.parametrize("radius", [0.5, 3.4, 10.0, 1e4])
def test_close_pairs(search: str, max_pairs: int, radius: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strictly closer than the radius, also at 3.4, a distance that occurs; in ascending order."""
    monkeypatch.setattr(module, "_candidates", getattr(module, search))
    monkeypatch.setattr("esmgn_core.graph.MAX_PAIRS_PER_BLOCK", max_pairs)
    found = close_pairs(BATCH, radius)
    expected = {pair: squared for pair, squared in plainly(BATCH).items() if squared < radius**2}
    assert as_dict(found) == expected
    assert list(as_dict(found)) == sorted(expected)


@pytest.mark.parametrize("radius", [0.5, 6.0, 1e4])
@pytest.mark.parametrize("k", [1, 10, 60])
@pytest.mark.parametrize("max_pairs", [4_000_000, 500])
def test_nearest_pairs(radius: float, k: int, max_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The k + 1 nearest, ties to the lower row, whether or not they are within the radius."""
    monkeypatch.setattr("esmgn_core.graph.MAX_PAIRS_PER_BLOCK", max_pairs)
    found = as_dict(nearest_pairs(BATCH, k, close_pairs(BATCH, radius)))
    every = sorted((i, squared, j) for (i, j), squared in plainly(BATCH).items())
    expected: dict[tuple[int, int], float] = {}
    for number, (i, squared, j) in enumerate(every):
        if number <= k or every[number - k - 1][0] != i:
            expected[i, j] = squared
    assert found == expected


def test_no_protein() -> None:
    batch = batch_of(0)
    close = close_pairs(batch, 10.0)
    assert not as_dict(close)
    assert not as_dict(nearest_pairs(batch, 10, close))
