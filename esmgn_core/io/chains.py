"""Chains as users name them, against the chains of a protein.

Chain identifiers of a protein are unique: the copies of a chain that occurs several times in a file are
``A-1``, ``A-2`` and so on, and ``A`` is none of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

BLANK = "(blank)"
"""How a blank chain identifier is shown."""


def copies_of(chain: str, chains: Sequence[str]) -> list[str]:
    """The copies of a chain among ``chains``.

    >>> copies_of("A", ["A-1", "A-2", "B"])
    ['A-1', 'A-2']
    """
    return [name for name in chains if re.fullmatch(rf"{re.escape(chain)}-\d+", name)]


def listed(chains: Sequence[str]) -> str:
    """Chain identifiers, each once, for a message."""
    return ", ".join(name or BLANK for name in dict.fromkeys(chains))


def no_chain(text: str, chains: Sequence[str]) -> str:
    """Why ``text`` names no chain, or several, of a protein; for a message that begins with the protein.

    >>> no_chain("1ABC-A", ["A-1", "A-2", "B"])
    'chain A 2 times: name A-1 or A-2'
    >>> no_chain("Z", ["A", "B"])
    'no chain Z, only A, B'
    """
    for name in (text, *_ends(text)):
        if copies := copies_of(name, chains):
            return f"chain {name or BLANK} {len(copies)} times: name {' or '.join(copies)}"
        if (count := chains.count(name)) > 1:
            return f"chain {name or BLANK} {count} times"
    return f"no chain {text or BLANK}, only {listed(chains)}"


def chain_in(text: str, chains: Sequence[str], entry: str = "") -> str | None:
    """The one chain of a protein that ``A``, ``1ABC-A`` or ``1ABC_A`` names; ``None`` if it is not one.

    Args:
        text: what a user wrote.
        chains: of the protein.
        entry: name of the protein's file, which may stand before the chain. Chain identifiers hold hyphens
            too, so that ``1ABC-A-1`` is chain A-1 of 1ABC or chain 1 of 1ABC-A.

    >>> chain_in("1ABC-A-1", ["A-1", "A-2"])
    'A-1'
    """
    ends = [text, *_ends(text)]
    if entry and text.lower().startswith((f"{entry.lower()}-", f"{entry.lower()}_")):
        ends = [text, text[len(entry) + 1 :]]
    found = {end for end in ends if end in chains}
    return found.pop() if len(found) == 1 and sum(chains.count(end) for end in ends) == 1 else None


def _ends(text: str) -> list[str]:
    """What follows each hyphen and underscore."""
    return [text[match.end() :] for match in re.finditer("[-_]", text)]
