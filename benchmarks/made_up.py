"""Made-up proteins and alternating CPU timings for the benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from esmgn_core.batch import CA, Protein, ProteinBatch

_STEP = 3.8
_TRIALS = 12


def chain(length: int, seed: int) -> Tensor:
    """CA atoms [n, 3] of a random walk as dense as a globular protein.

    Steps of 3.8 A inside a sphere of the size a protein of this length has; of some trial steps the
    one farthest from the chain so far is taken.
    """
    generator = np.random.default_rng(seed)
    sphere = 3.0 * length**0.38
    points = np.zeros((length, 3))
    for number in range(1, length):
        steps = generator.normal(size=(_TRIALS, 3))
        trial = points[number - 1] + _STEP * steps / np.linalg.norm(steps, axis=1, keepdims=True)
        clearance = ((trial[:, None] - points[None, :number]) ** 2).sum(-1)[:, : max(1, number - 1)].min(1)
        clearance[(trial**2).sum(1) > sphere**2] = -1
        points[number] = trial[clearance.argmax()]
    return torch.from_numpy(points).float()


def protein(ca: Tensor) -> Protein:
    backbone = torch.full((len(ca), 4, 3), torch.nan)
    backbone[:, CA] = ca
    number = torch.arange(len(ca))
    return Protein(
        "made-up", number * 7 % 20, backbone, ~backbone.isnan().any(-1), number, torch.zeros_like(number)
    )


def chains(count: int, seed: int = 0) -> ProteinBatch:
    """Full chains: log-normal lengths, mean about 280, 50 to 1000 residues."""
    lengths = np.random.default_rng(seed).lognormal(5.5, 0.5, count).clip(50, 1000).astype(int)
    return ProteinBatch.from_proteins([protein(chain(int(n), seed + i)) for i, n in enumerate(lengths)])


def crops(count: int, length: int, seed: int = 0) -> ProteinBatch:
    """Crops of ``length`` consecutive residues from chains of 300."""
    generator = np.random.default_rng(seed)
    whole = [chain(max(300, length), seed + i) for i in range(6)]
    starts = generator.integers(len(whole[0]) - length + 1, size=count).tolist()
    return ProteinBatch.from_proteins(
        [protein(whole[i % 6][start : start + length]) for i, start in enumerate(starts)]
    )


def seconds(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU time of each candidate; they take turns, so that noise hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            start = time.process_time()
            run()
            if number:
                taken[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in taken.items()}
