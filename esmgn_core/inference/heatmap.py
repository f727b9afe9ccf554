"""A picture of the scores of all substitutions of a protein."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmgn_core.errors import RunError
from esmgn_core.inference.embedding import Residue
from esmgn_core.inference.outputs import check_writable
from esmgn_core.inference.variants import Variant
from esmgn_core.machine.files import written_atomically
from esmgn_core.printable import printable

ORDER = "GAVLIMCFWYPSTNQHKRDE"
"""Amino acids from top to bottom: small and aliphatic, sulphur, aromatic, polar, charged."""
_PER_LINE = 90


def draw_heatmap(
    scores: Sequence[tuple[Variant, float]],
    path: Path,
    *,
    title: str,
    subtitle: str,
    label: str = "log p(mutant) - log p(wild type)",
    neutral: float = 0.0,
) -> None:
    """Draw scores of single substitutions, residues from left to right.

    Blue is below ``neutral``, red above. A dot marks the wild type, grey what was not scored. The ending
    of ``path`` names the format: ``.png``, ``.svg``, ``.pdf``.

    Raises:
        RunError: the ending is another.
        WriteError: the file cannot be written.
    """
    check_picture_path(path)
    from matplotlib import rc_context

    # Names may hold dollar signs, which matplotlib would read as formulas.
    with rc_context({"text.parse_math": False}), written_atomically(path) as temporary:
        figure = _figure(scores, printable(title), printable(subtitle), printable(label), neutral)
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=200)


def _figure(
    scores: Sequence[tuple[Variant, float]], title: str, subtitle: str, label: str, neutral: float
) -> Any:
    from matplotlib.colors import CenteredNorm
    from matplotlib.figure import Figure

    residues, grid = _grid(scores)
    lines = [
        range(first, min(first + _PER_LINE, len(residues))) for first in range(0, len(residues), _PER_LINE)
    ]
    spread = max(float(np.nanpercentile(np.abs(grid - neutral), 98)), 1e-3)
    colors = CenteredNorm(neutral, spread)
    width = 1.8 + 0.135 * min(len(residues), _PER_LINE)
    figure = Figure(figsize=(max(width, 5.5), 1.3 + 3.2 * len(lines)), layout="constrained")
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes = figure.subplots(len(lines), 1, squeeze=False)[:, 0]
    images = [_draw_line(axis, line, residues, grid, colors) for line, axis in zip(lines, axes, strict=True)]
    axes[0].set_title(subtitle, loc="left", fontsize=8, color="0.35")
    bar = figure.colorbar(
        images[0], ax=list(axes), shrink=0.9, pad=0.01, aspect=30 * len(lines), extend="both"
    )
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def check_picture_path(path: Path) -> None:
    """Refuse a file that names no picture format or cannot be written, before anything is computed.

    Raises:
        RunError: the ending is none of ``.png``, ``.svg``, ``.pdf``, or the folder cannot be written to.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise RunError(f"the ending of {path} names no picture format (--picture)", "endings: .png .svg .pdf")
    check_writable(path, flag="--picture")


def _grid(scores: Sequence[tuple[Variant, float]]) -> tuple[list[Residue], NDArray[np.float64]]:
    """Residues in order, and scores [20, residues]; NaN where there is none."""
    single = [(variant[0], score) for variant, score in scores if len(variant) == 1]
    residues = {item.row: item.residue for item, _ in sorted(single, key=lambda pair: pair[0].row)}
    column = {row: number for number, row in enumerate(residues)}
    grid = np.full((len(ORDER), len(residues)), np.nan)
    for item, score in single:
        grid[ORDER.index(item.mutant), column[item.row]] = score
    return list(residues.values()), grid


def _draw_line(
    axis: Any, line: range, residues: Sequence[Residue], grid: NDArray[np.float64], norm: Any
) -> Any:
    from matplotlib import colormaps

    part = grid[:, line.start : line.stop]
    colors = colormaps["RdBu_r"].with_extremes(bad="0.85")
    image = axis.imshow(part, cmap=colors, norm=norm, aspect="auto", interpolation="nearest")
    shown = residues[line.start : line.stop]
    wild = [(number, ORDER.index(item.letter)) for number, item in enumerate(shown) if item.letter in ORDER]
    axis.scatter(*zip(*wild, strict=True), s=4, c="0.15", marker="o", linewidths=0)
    axis.set_yticks(range(len(ORDER)), list(ORDER), fontsize=6, family="monospace")
    ticks = [number for number, item in enumerate(shown) if number == 0 or item.number % 10 == 0]
    labels = [
        f"{printable(shown[t].chain)}:{shown[t].number}"
        if t == 0 and shown[t].chain
        else str(shown[t].number)
        for t in ticks
    ]
    axis.set_xticks(ticks, labels, fontsize=6)
    axis.set_xlim(-0.5, min(_PER_LINE, max(len(residues), 1)) - 0.5)
    for number in range(1, len(shown)):
        if shown[number].chain != shown[number - 1].chain:
            axis.axvline(number - 0.5, color="black", linewidth=1)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(length=2, width=0.5)
    return image
