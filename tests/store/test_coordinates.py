"""Coordinates of three decimals survive the 16-bit form bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from esmgn_core.store.coordinates import BLOCK, decode, encode


def round_trip(position, lengths):
    lengths = np.array(lengths)
    fixed = encode(position, lengths)
    rows = np.concatenate([np.arange(n) // BLOCK for n in lengths])
    count = np.concatenate([np.bincount(rows_of) for rows_of in np.split(rows, np.cumsum(lengths)[:-1])])
    decoded, present = decode(fixed.offset, fixed.origin, count)
    assert np.array_equal(present, ~np.isnan(position).any(-1))
    decoded.reshape(-1, 3)[fixed.escape_atom] = fixed.escape_position
    return fixed, decoded


def trace(length, step, seed=0):
    steps = np.random.default_rng(seed).normal(size=(length * 4, 3))
    steps *= step / np.linalg.norm(steps, axis=1, keepdims=True)
    return np.cumsum(steps, axis=0).round(3).astype(np.float32).reshape(length, 4, 3)


@pytest.mark.parametrize("lengths", [[1], [24], [25], [3, 100, 24, 7]])
def test_a_chain_comes_back_bit_for_bit(lengths):
    position = trace(sum(lengths), step=1.4) + np.float32(1234.567).round(3)
    position = position.astype(np.float64).round(3).astype(np.float32)
    fixed, decoded = round_trip(position, lengths)
    assert np.array_equal(decoded, position)
    assert len(fixed.escape_atom) == 0


def test_missing_atoms_stay_missing():
    position = trace(40, step=1.4)
    position[3, 0] = position[39, 3] = np.nan
    position[24:, 2] = np.nan
    _, decoded = round_trip(position, [40])
    assert np.array_equal(decoded, position, equal_nan=True)


def test_atoms_far_from_their_block_escape():
    position = trace(30, step=1.4)
    position[10:13] += np.float32(500)
    position = position.astype(np.float64).round(3).astype(np.float32)
    fixed, decoded = round_trip(position, [30])
    assert np.array_equal(decoded, position)
    assert sorted({atom // 4 for atom in fixed.escape_atom.tolist()}) == [10, 11, 12]


def test_far_from_the_origin_the_nearest_float_comes_out():
    position = trace(30, step=1.4) + np.float32(20_000)
    _, decoded = round_trip(position, [30])
    assert np.abs(decoded - position).max() <= np.float32(0.002)


def test_coordinates_beyond_all_bounds_escape_too():
    position = trace(5, step=1.4)
    position[2] = 3e6
    _, decoded = round_trip(position, [5])
    assert np.array_equal(decoded, position)


def test_further_decimals_are_rounded():
    position = np.full((1, 4, 3), 1.23456, dtype=np.float32)
    _, decoded = round_trip(position, [1])
    assert np.array_equal(decoded, np.full((1, 4, 3), 1.235, dtype=np.float32))


def test_a_missing_atom_beside_one_that_escapes_and_one_beyond_all_bounds():
    position = trace(60, step=1.4)
    position[25, 2] = np.nan
    position[26, 3] = 200.0
    position[50, 0] = np.finfo(np.float32).max
    fixed, decoded = round_trip(position, [60])
    assert np.array_equal(decoded, position, equal_nan=True)
    assert fixed.escape_atom.tolist() == [26 * 4 + 3, 50 * 4]
