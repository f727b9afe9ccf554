"""Splits of groups of related proteins, decided by a hash of the group's members."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from esmgn_core.errors import SettingsError

Split = Literal["train", "valid"]
"""Split that a run trains on or validates with; test sets are in ``test_sets`` of a dataset."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Sizes of the validation and the test set, as shares of the groups; the rest is the training set.

    Raises:
        SettingsError: they are more than 1 together.
    """

    valid: float = 0.1
    test: float = 0.0

    def __post_init__(self) -> None:
        if self.valid + self.test > 1:
            raise SettingsError(
                f"the shares of validation {self.valid:g} and test {self.test:g} are more than 1 together"
            )

    def split(self, key: str) -> str:
        """``train``, ``valid`` or ``test``, decided by the key alone."""
        if held_out(f"test {key}", self.test):
            return "test"
        return "valid" if held_out(key, self.valid / max(1 - self.test, 1e-9)) else "train"


def assign(groups: Sequence[int], keys: Sequence[object], shares: Shares) -> list[str]:
    """The split of each protein; proteins of one group are in one split.

    A group is assigned by the smallest of its keys, so that unrelated proteins do not influence it.
    Exceptions: a group of two and more proteins is in the training set if it has more than half of all
    proteins, or more than twice the share of its split; so is the largest group if the training set would
    be empty without it.

    Args:
        groups: equal for related proteins, see :func:`esmgn_core.related.related`.
        keys: of the proteins, equal for identical sequences.
        shares: sizes of the splits.
    """
    smallest: dict[int, str] = {}
    for group, key in zip(groups, map(str, keys), strict=True):
        smallest[group] = min(smallest.get(group, key), key)
    splits = {group: shares.split(key) for group, key in smallest.items()}
    counts = Counter(groups)
    room = {"train": 1.0, "valid": min(0.5, 2 * shares.valid), "test": min(0.5, 2 * shares.test)}
    for group, size in counts.items():
        if size > 1 and size > room[splits[group]] * len(groups):
            splits[group] = "train"
    if counts and "train" not in splits.values():
        splits[max(counts, key=lambda group: (counts[group], smallest[group]))] = "train"
    return [splits[group] for group in groups]


def held_out(key: str, fraction: float) -> bool:
    """True if the protein with this key belongs to the held-out ``fraction`` of a dataset.

    Decided by a hash of the key alone. With the sequence as key, copies of one sequence always
    fall on the same side.

    >>> held_out("MKV", 0.0), held_out("MKV", 1.0)
    (False, True)
    """
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
