"""Plain text layout shared by commands; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, indent: str = "  ") -> str:
    """Left-aligned columns; the last one is not padded.

    >>> print(table([("gearnet", "GNN"), ("gvp", "vectors")]))
      gearnet  GNN
      gvp      vectors
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths[:-1], strict=False)), row[-1]])
        for row in rows
    )
    return "\n".join((indent + line).rstrip() for line in lines)


def short(value: object) -> str:
    """A setting's value as it would stand in a run file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(short, value))}]"
    return str(value)
