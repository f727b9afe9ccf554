"""Assign groups of related proteins to splits by a hash of their members."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from esmgn_core.errors import SettingsError

Split = Literal["train", "valid"]
"""Name of the training or validation set; test sets are in ``test_sets`` of a dataset."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Sizes of the validation and the test set, as shares of the groups; the rest is the training set.

    Raises:
        SettingsError: their sum is above 1.
    """

    valid: float = 0.1
    test: float = 0.0

    def __post_init__(self) -> None:
        if self.valid + self.test > 1:
            raise SettingsError(
                f"the shares of the validation set {self.valid:g} and the test set {self.test:g} exceed 1"
            )

    def split(self, key: str) -> str:
        """Return ``train``, ``valid`` or ``test``, which depends only on the key."""
        if in_fraction(f"test {key}", self.test):
            return "test"
        return "valid" if in_fraction(key, self.valid / max(1 - self.test, 1e-9)) else "train"


def assign(groups: Sequence[int], keys: Sequence[object], shares: Shares) -> list[str]:
    """Assign each protein to a split; proteins of one group are in one split.

    A group is assigned by the smallest of its keys, so that unrelated proteins do not influence it. There are
    two exceptions:

    - A group of two or more proteins is in the training set if it has more than half of all proteins, or more
      than twice the share of its split.
    - The largest group is in the training set if that would be empty otherwise.

    Args:
        groups: equal for related proteins, see :func:`esmgn_core.related.related`.
        keys: keys of the proteins, equal for identical sequences.
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


def in_fraction(key: str, fraction: float) -> bool:
    """True for a given ``fraction`` of keys, chosen by a hash of the key.

    With the sequence as key, copies of one sequence are always in the same split.

    >>> in_fraction("MKV", 0.0), in_fraction("MKV", 1.0)
    (False, True)
    """
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
