"""Splits depend on each protein alone."""

from __future__ import annotations

import random

import pytest

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.splits import in_fraction

RANDOM = random.Random(0)  # noqa: S311 - test data
SEQUENCES = ["".join(RANDOM.choices(AMINO_ACIDS, k=60)) for _ in range(4000)]


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5])
def test_the_requested_share_is_selected(fraction: float) -> None:
    """Within four standard deviations of a binomial draw."""
    number = sum(in_fraction(sequence, fraction) for sequence in SEQUENCES)
    deviation = (len(SEQUENCES) * fraction * (1 - fraction)) ** 0.5
    assert abs(number - fraction * len(SEQUENCES)) < 4 * deviation


def test_a_larger_share_contains_the_smaller_one() -> None:
    small = {sequence for sequence in SEQUENCES if in_fraction(sequence, 0.1)}
    assert small
    assert all(in_fraction(sequence, 0.2) for sequence in small)


def test_the_side_of_a_protein_never_changes() -> None:
    """Recorded: another hash would move proteins between the splits of runs that go on."""
    sequences = ("MKV", "ACDE", "GGGG", "WYV", "PLLA", "MSTN", "KKR", "HEAL")
    assert [sequence for sequence in sequences if in_fraction(sequence, 0.5)] == ["MKV", "HEAL"]


def test_nothing_and_everything() -> None:
    assert not any(in_fraction(sequence, 0.0) for sequence in SEQUENCES)
    assert all(in_fraction(sequence, 1.0) for sequence in SEQUENCES)
