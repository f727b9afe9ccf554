"""The study of what the tasks learn never holds out a relative of what it trains on."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

from esmgn_core.alphabet import AMINO_ACIDS


class Chain(NamedTuple):
    """What is asked of a protein."""

    name: str
    sequence: str


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("learning")


@pytest.fixture
def parts() -> list[str]:
    """Sequences that have nothing in common, of 60 residues."""
    generator = np.random.default_rng(0)
    return ["".join(generator.choice(list(AMINO_ACIDS), 60)) for _ in range(12)]


def test_chains_that_share_words_are_of_one_cluster(learning: ModuleType, parts: list[str]) -> None:
    """A and C share nothing but what each shares with B, which comes last."""
    a, b, c, d, *_ = parts
    chains = [Chain("A", a + b), Chain("D", d), Chain("C", c), Chain("B", b + c)]
    found = dict(zip("ADCB", learning.clusters(chains), strict=True))
    # The first protein gives the name, in whatever order Python visits the words.
    assert found == {"A": "A", "D": "D", "C": "A", "B": "A"}
    found = dict(zip("ADC", learning.clusters(chains[:3]), strict=True))
    assert len(set(found.values())) == 3


def test_a_split_divides_no_cluster(learning: ModuleType, parts: list[str]) -> None:
    chains = [Chain(f"{number}{copy}", part) for number, part in enumerate(parts) for copy in "abc"]
    train, valid = learning.split(chains)
    assert len(train) + len(valid) == len(chains)
    assert len(valid) >= len(chains) / 5
    assert not {chain.sequence for chain in train} & {chain.sequence for chain in valid}
