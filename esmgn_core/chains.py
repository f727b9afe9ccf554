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


def no_chain(chain: str, chains: Sequence[str]) -> str:
    """Why ``chain`` is not one of ``chains``, for a message that begins with the protein.

    >>> no_chain("A", ["A-1", "A-2", "B"])
    'chain A 2 times: name A-1 or A-2'
    >>> no_chain("Z", ["A", "B"])
    'no chain Z, only A, B'
    """
    if copies := copies_of(chain, chains):
        return f"chain {chain or BLANK} {len(copies)} times: name {' or '.join(copies)}"
    return f"no chain {chain or BLANK}, only {listed(chains)}"


def chain_in(text: str, chains: Sequence[str], entry: str = "") -> str | None:
    """The chain of a protein that ``A``, ``1ABC-A`` or ``1ABC_A`` names; ``None`` if there is none.

    Args:
        text: what a user wrote.
        chains: of the protein.
        entry: name of the protein's file, which may stand before the chain. Chain identifiers hold hyphens
            too, so that ``1ABC-A-1`` is chain A-1 of 1ABC or chain 1 of 1ABC-A.

    >>> chain_in("1ABC-A-1", ["A-1", "A-2"])
    'A-1'
    """
    if text in chains:
        return text
    if entry and re.match(rf"{re.escape(entry)}[-_]", text, re.IGNORECASE):
        rest = text[len(entry) + 1 :]
        return rest if rest in chains else None
    ends = [text[match.end() :] for match in re.finditer("[-_]", text)]
    found = [end for end in ends if end in chains]
    return found[0] if len(found) == 1 else None
