"""Plain text layout shared by commands. Imports nothing heavy."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from esmgn_core.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_NARROWEST, _WIDEST = 60, 100


def echo(*lines: object, err: bool = False) -> None:
    """Print lines; control characters in them are escaped, except tabs.

    All commands print with this function, :func:`block` or :func:`console`, because names of files, proteins
    and runs may contain line ends, escape sequences of terminals or bidirectional overrides.
    """
    typer.echo("\n".join(printable(line, keep="\t") for line in lines), err=err)


def block(text: str, *, err: bool = False) -> None:
    """Print text of several lines; control characters are escaped, except line ends and tabs."""
    typer.echo(printable(text, keep="\n\t"), err=err, nl=not text.endswith("\n"))


def console(*, err: bool = False, width: int | None = None) -> Console:
    """A console for progress bars that prints names literally: no markup, emoji codes or highlighting."""
    from rich.console import Console

    return Console(stderr=err, width=width, markup=False, emoji=False, highlight=False)


def line_width() -> int:
    """Width of the terminal in columns, limited to between 60 and 100."""
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns))


def table(rows: Sequence[Sequence[str]], *, indent: str = "  ", width: int = _WIDEST) -> str:
    """Lay out left-aligned columns; the last one is wrapped at ``width``.

    >>> print(table([("gearnet", "GNN"), ("gvp", "vectors, like arrows")], width=24))
      gearnet  GNN
      gvp      vectors, like
               arrows
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    *columns, _ = zip(*rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for *cells, last in rows:
        start = indent + "".join(f"{cell:{size}}  " for cell, size in zip(cells, widths, strict=True))
        room = max(width - len(start), _NARROWEST // 4)
        wrapped = textwrap.wrap(last, room, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append((start + wrapped[0]).rstrip())
        lines += [" " * len(start) + line for line in wrapped[1:]]
    return "\n".join(lines)


def numbers_table(rows: Sequence[Sequence[str]], *, width: int = _WIDEST) -> str:
    """Lay out right-aligned columns; if ``width`` is too small, in several parts below one another.

    Every part repeats the first column and the columns without a heading, such as marks. Cells are not
    wrapped.

    >>> print(numbers_table([("step", "loss", "accuracy", ""), ("10", "0.5", "0.25", "best")], width=18))
    step  loss
      10   0.5  best
    <BLANKLINE>
    step  accuracy
      10      0.25  best
    """
    columns = list(zip(*([printable(cell) for cell in row] for row in rows), strict=True))
    sizes = [max(map(len, column)) for column in columns]
    marks = [number for number in range(1, len(columns)) if not columns[number][0]]
    kept = sizes[0] + sum(2 + sizes[number] for number in marks)
    parts: list[list[int]] = []
    room = 0
    for number in (number for number in range(1, len(columns)) if number not in marks):
        if not parts or 2 + sizes[number] > room:
            parts.append([0])
            room = width - kept
        parts[-1].append(number)
        room -= 2 + sizes[number]
    return "\n\n".join(
        "\n".join(
            "  ".join(f"{columns[number][row]:>{sizes[number]}}" for number in [*part, *marks]).rstrip()
            for row in range(len(rows))
        )
        for part in parts or [[0]]
    )
