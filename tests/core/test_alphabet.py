"""Residue codes."""

from __future__ import annotations

import pytest

from esmgn_core.alphabet import AMINO_ACIDS, MASKED, NUM_RESIDUE_FEATURES, UNKNOWN, decode, encode


def test_the_codes_are_those_of_the_twenty_amino_acids_in_alphabetical_order() -> None:
    assert list(AMINO_ACIDS) == sorted(set("GALMFWKQESPVICYHRNDT"))
    assert encode(AMINO_ACIDS) == list(range(20))


def test_unknown_and_masked_follow() -> None:
    assert (UNKNOWN, MASKED, NUM_RESIDUE_FEATURES) == (20, 21, 21)


@pytest.mark.parametrize("letter", ["X", "B", "Z", "U", "O", "J", "-", "a", "#"])
def test_every_other_letter_is_unknown(letter: str) -> None:
    assert encode(letter) == [UNKNOWN]


def test_a_sequence_survives_the_round_trip() -> None:
    sequence = "MKVLAXXGW"
    assert decode(encode(sequence)) == sequence
    assert decode([MASKED]) == "#"
