"""Held-out splits that do not depend on file order, file names or the rest of the dataset."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "valid"]


def held_out(key: str, fraction: float) -> bool:
    """Whether the protein with this key belongs to the held-out ``fraction`` of a dataset.

    Decided by a hash of the key alone. With the sequence as key, copies of one sequence always
    fall on the same side.

    >>> held_out("MKV", 0.0), held_out("MKV", 1.0)
    (False, True)
    """
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
