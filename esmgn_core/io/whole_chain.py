"""One chain of standard residues, each with N, CA, C and O: what the readers of fixed columns share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, CA, encode
from esmgn_core.io.digits import Fields, Words, thousandths, word
from esmgn_core.io.residues import STANDARD_NAMES, classify
from esmgn_core.io.table import ResidueTable

_STANDARD_WORDS = np.array(sorted(word(name.encode()) for name in STANDARD_NAMES), dtype=np.uint64)

_letters = "".join(classify(int(name).to_bytes(3, "little").decode(), {})[1] for name in _STANDARD_WORDS)
_STANDARD_TYPES = np.array(encode(_letters), dtype=np.uint8)


def first_atoms(number: Words, name: Words) -> NDArray[np.int64] | None:
    """First atom of each residue, told by its number; ``None`` where a name changes inside a residue."""
    is_start = np.ones(len(number), dtype=np.bool_)
    np.not_equal(number[1:], number[:-1], out=is_start[1:])
    starts: NDArray[np.int64] = np.flatnonzero(is_start)
    return None if ((name[1:] != name[:-1]) > is_start[1:]).any() else starts


def backbone_atoms(
    names: Words, starts: NDArray[np.int64], wanted: NDArray[np.unsignedinteger[Any]]
) -> NDArray[np.int64] | None:
    """Rows of the atoms ``wanted`` of each residue, [4, n]; ``None`` if they are not there once, in order."""
    is_wanted = names == wanted[0]
    for name in wanted[1:]:
        is_wanted |= names == name
    rows: NDArray[np.int64] = np.flatnonzero(is_wanted)
    if len(rows) != len(wanted) * len(starts):
        return None
    rows = rows.reshape(-1, len(wanted))
    inside = (rows[:, 0] >= starts).all() and (rows[:-1, -1] < starts[1:]).all()
    return np.ascontiguousarray(rows.T) if inside and (names[rows] == wanted).all() else None


def residue_types(names: Words) -> NDArray[np.uint8] | None:
    """Types of residues with these names of three letters, ``None`` if one is not standard."""
    place = np.minimum(np.searchsorted(_STANDARD_WORDS, names), len(_STANDARD_WORDS) - 1)
    return None if (_STANDARD_WORDS[place] != names).any() else _STANDARD_TYPES[place]


def whole_chain(residue_type: NDArray[np.uint8], fields: Fields, chain: str) -> ResidueTable | None:
    """The residues of the chain; ``None`` if numbers do not ascend or all CA atoms are at one place.

    Args:
        residue_type: uint8 [n].
        fields: x, y and z of the four atoms of each residue, [3, 4, n], then residue numbers and B-factors of
            the CA atoms, [n] each, all end to end; known to be numbers.
        chain: its name.
    """
    length = len(residue_type)
    values = thousandths(fields).reshape(-1, length)
    number, b_factor = values[-2] // 1000, (values[-1] / 1000).astype(np.float32)
    if (number[1:] <= number[:-1]).any():
        return None
    backbone = np.empty((length, len(BACKBONE_ATOMS), 3), dtype=np.float32)
    np.divide(values[:-2].reshape(3, -1, length), np.float32(1000), out=backbone.T, dtype=np.float32)
    if (backbone[1:, CA] == backbone[0, CA]).all():  # gemmi's reader refuses atoms without coordinates
        return None
    return ResidueTable.of_standard_chain(residue_type, number, backbone, b_factor, chain)


def joined(position: Fields, numbers: Words, factors: Fields) -> Fields:
    """Coordinates, residue numbers of four characters and B-factors, [n] both, laid end to end."""
    no_decimals = np.full(len(numbers), word(b".000"), dtype=np.uint32)
    return Fields(
        np.concatenate([position.before.ravel(), numbers, factors.before]),
        np.concatenate([position.after.ravel(), no_decimals, factors.after]),
    )
