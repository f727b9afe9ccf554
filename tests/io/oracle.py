"""gemmi as the oracle of the readers that take lines of one form."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.io.files import UnreadableError


def same(one: ResidueArrays, two: ResidueArrays) -> None:
    """Assert that two proteins are equal, coordinates to the last bit but for the sign of zero."""
    assert one.chains == two.chains
    for name in ("residue_type", "backbone", "number", "insertion_code", "chain", "plddt"):
        ours, theirs = getattr(one, name), getattr(two, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert np.array_equal(ours, theirs, equal_nan=name == "backbone"), name


def check_changed_at_random(
    text: bytes,
    letters: bytes,
    count: int,
    read: Callable[[bytes], ResidueArrays | None],
    by_gemmi: Callable[[bytes], ResidueArrays],
) -> None:
    """``text`` with one or two characters changed, ``count`` times, is read as gemmi does or not at all."""
    draw = random.Random(1)  # noqa: S311
    num_read = 0
    for _ in range(count):
        changed = bytearray(text)
        for _ in range(draw.choice((1, 1, 2))):
            changed[draw.randrange(len(changed))] = draw.choice(letters)
        found = read(bytes(changed))
        if found is not None:
            num_read += 1
            try:
                same(found, by_gemmi(bytes(changed)))
            except UnreadableError as error:
                pytest.fail(f"gemmi refuses what was read: {error}")
    assert 0 < num_read < count
