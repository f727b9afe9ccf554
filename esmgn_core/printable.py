"""Names, texts of users and numbers as terminals, pages and line-based records show them."""

from __future__ import annotations

import unicodedata


def printable(text: object, *, keep: str = "") -> str:
    r"""Text in which every character that acts instead of being seen is written as its escape.

    Escaped are control characters (line ends, tabs, the escape sequences of terminals, the bell), format
    characters (bidirectional overrides, characters of no width), line and paragraph separators, and the
    bytes of file names that are not UTF-8.

    Args:
        text: what to show; anything else than text is converted with ``str``.
        keep: characters to leave as they are, such as line ends.

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
    """A number and its noun, which has an s if there is not one of it.

    >>> counted(1, "protein"), counted(1200, "protein"), counted(2, "entry", "entries")
    ('1 protein', '1,200 proteins', '2 entries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _is_visible(character: str) -> bool:
    # Spaces of other widths are no control characters, although Python counts them as not printable.
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
