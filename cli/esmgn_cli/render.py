"""Plain text layout shared by commands; nothing heavy is imported."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

OF_THE_MACHINE = (
    "residues_per_second",
    "loading_percent",
    "memory_gb",
    "gpu_percent",
    "slowest_rank",
    "idle_percent",
)
"""Names of the logged values that say how a run does, not what it learns."""

_NARROWEST, _WIDEST = 60, 100


def line_width() -> int:
    """Columns to write in: the terminal's, within what reads well."""
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns))


def table(rows: Sequence[Sequence[str]], *, indent: str = "  ", width: int = _WIDEST) -> str:
    """Left-aligned columns; the last one is wrapped at ``width``.

    >>> print(table([("gearnet", "GNN"), ("gvp", "vectors, like arrows")], width=24))
      gearnet  GNN
      gvp      vectors, like
               arrows
    """
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
