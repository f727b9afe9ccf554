"""Random numbers of a training step: one independent stream for each protein.

A stream depends on the seed, the step and the protein's position in the *global* batch, but not on the
number of processes or micro-batches. A run therefore draws the same numbers on one device and on many, and
after it was resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_NO_PROTEIN = 2**64 - 1
"""Position of the stream that all proteins share."""


class Draws(Protocol):
    """A source of random numbers for the proteins of one batch.

    ``counts``, int64 [B], is the number of values for each protein. Results are on the CPU, packed in the
    order of the proteins. Repeated calls continue each stream.
    """

    def uniform(self, counts: Tensor) -> Tensor:
        """float64 [counts.sum()], uniform on [0, 1)."""

    def normal(self, counts: Tensor) -> Tensor:
        """float64 [counts.sum()], standard normal."""

    def shared(self, count: int) -> Tensor:
        """float64 [count], uniform on [0, 1): the same for all proteins of the step, in every process."""

    def stream(self, name: str) -> Draws:
        """Another source for the same proteins, independent for each name, from its beginning."""


class SeededDraws:
    """Counter-based streams (Philox): key = seed, counter = (name, position, step).

    Args:
        seed: seed of the run, not negative.
        step: optimiser step of the batch.
        positions: position of each of the B proteins in the global batch.
        name: name of the streams, for steps that need several.
    """

    def __init__(self, seed: int, step: int, positions: Sequence[int], name: str = "") -> None:
        self._place = seed, step, positions
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") if name else 0
        *self._streams, self._shared = [
            np.random.Generator(
                np.random.Philox(key=seed, counter=np.array([0, key, position, step], dtype=np.uint64))
            )
            for position in [*positions, _NO_PROTEIN]
        ]

    def shared(self, count: int) -> Tensor:
        """float64 [count], uniform on [0, 1): the same for all proteins of the step, in every process."""
        return torch.from_numpy(self._shared.random(count))

    def stream(self, name: str) -> SeededDraws:
        """The streams of this name for the same proteins."""
        return SeededDraws(*self._place, name)

    def uniform(self, counts: Tensor) -> Tensor:
        """float64 [counts.sum()], uniform on [0, 1)."""
        return self._packed([s.random(n) for s, n in zip(self._streams, counts.tolist(), strict=True)])

    def normal(self, counts: Tensor) -> Tensor:
        """float64 [counts.sum()], standard normal."""
        pairs = zip(self._streams, counts.tolist(), strict=True)
        return self._packed([s.standard_normal(n) for s, n in pairs])

    @staticmethod
    def _packed(parts: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)) if parts else torch.zeros(0, dtype=torch.float64)


def uniform_index(draws: Draws, counts: Tensor, high: Tensor) -> Tensor:
    """Draw integers with replacement: ``counts[b]`` of them, uniform on {0, ..., high[b] - 1}.

    Args:
        draws: source of random numbers.
        counts: int64 [B], number of integers; must be 0 where ``high`` is 0.
        high: int64 [B], exclusive upper bounds.

    Returns:
        int64 [counts.sum()] on the CPU, packed in the order of the proteins.
    """
    bounds = high.cpu().repeat_interleave(counts.cpu())
    index = (draws.uniform(counts) * bounds).to(torch.int64)
    # A product just below the bound may round up to it.
    return torch.minimum(index, bounds - 1)
