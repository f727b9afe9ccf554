"""Find the chain of a protein that a user names.

The chain identifiers of a protein are unique. If a chain occurs several times in a file, its copies are
``A-1``, ``A-2`` and so on; none of them is ``A``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

BLANK = "(blank)"
"""Text for a blank chain identifier in messages."""


def copies_of(chain: str, chains: Sequence[str]) -> list[str]:
    """List the copies of a chain in ``chains``.

    >>> copies_of("A", ["A-1", "A-2", "B"])
    ['A-1', 'A-2']
    """
    return [name for name in chains if re.fullmatch(rf"{re.escape(chain)}-\d+", name)]


def listed(chains: Sequence[str]) -> str:
    """Join chain identifiers for a message, each once."""
    return ", ".join(name or BLANK for name in dict.fromkeys(chains))


def no_chain(text: str, chains: Sequence[str]) -> str:
    """Explain why ``text`` does not name exactly one chain; completes a message such as "it has ...".

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
    """Return the one chain that ``A``, ``1ABC-A`` or ``1ABC_A`` names; ``None`` for no chain or several.

    Args:
        text: the user's text.
        chains: chain identifiers of the protein.
        entry: name of the protein's file, which may precede the chain. It resolves ambiguity: identifiers
            contain hyphens too, so ``1ABC-A-1`` is chain A-1 of 1ABC or chain 1 of 1ABC-A.

    >>> chain_in("1ABC-A-1", ["A-1", "A-2"])
    'A-1'
    """
    ends = [text, *_ends(text)]
    if entry and text.lower().startswith((f"{entry.lower()}-", f"{entry.lower()}_")):
        ends = [text, text[len(entry) + 1 :]]
    found = {end for end in ends if end in chains}
    return found.pop() if len(found) == 1 and sum(chains.count(end) for end in ends) == 1 else None


def _ends(text: str) -> list[str]:
    """Return the text after each hyphen and underscore."""
    return [text[match.end() :] for match in re.finditer("[-_]", text)]
