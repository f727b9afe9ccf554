"""Format names, user texts and numbers for terminals, pages and line-based records."""

from __future__ import annotations

import unicodedata


def printable(text: object, *, keep: str = "") -> str:
    r"""Return text with every control and invisible character replaced by its escape.

    These are control characters (line ends, tabs, the escape sequences of terminals, the bell), format
    characters (bidirectional overrides, characters of no width), line and paragraph separators, and the
    bytes of file names that are not UTF-8.

    Args:
        text: the text; other objects are converted with ``str``.
        keep: characters that are not escaped, such as line ends.

    >>> print(printable("a\tb\x1b[31m\u202egnp.pdb"))
    a\tb\x1b[31m\u202egnp.pdb
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        character if character in keep or _is_visible(character) else _escape(character) for character in text
    )


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun, in the plural unless the number is 1.

    >>> counted(1, "protein"), counted(1200, "protein"), counted(2, "entry", "entries")
    ('1 protein', '1,200 proteins', '2 entries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _is_visible(character: str) -> bool:
    # Spaces of other widths are visible, although Python regards them as not printable.
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
