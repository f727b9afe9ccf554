"""Heat map of the scores of all single substitutions of a protein."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmgn_core.errors import RunError
from esmgn_core.inference.embedding import Residue
from esmgn_core.inference.mutate.variants import Variant
from esmgn_core.inference.outputs import check_writable
from esmgn_core.machine.files import written_atomically
from esmgn_core.printable import printable

ORDER = "GAVLIMCFWYPSTNQHKRDE"
"""Amino acids from top to bottom: small and aliphatic, sulfur, aromatic, polar, charged."""
_RESIDUES_PER_LINE = 90


def draw_heatmap(
    scores: Sequence[tuple[Variant, float]],
    path: Path,
    *,
    title: str,
    subtitle: str,
    label: str = "log p(mutant) - log p(wild type)",
    neutral: float = 0.0,
) -> None:
    """Draw the scores of single substitutions, with residues from left to right.

    Blue is below ``neutral``, red above. A dot marks the wild type, grey marks missing scores. Chains are
    named above the residues if there are several. The suffix of ``path`` selects the format: ``.png``,
    ``.svg``, ``.pdf``.

    Raises:
        RunError: the suffix is unknown.
        WriteError: the file cannot be written.
    """
    check_picture_path(path)
    from matplotlib import rc_context
    from matplotlib.colors import CenteredNorm
    from matplotlib.figure import Figure

    residues, grid = _grid(scores)
    lines = [
        slice(first, first + _RESIDUES_PER_LINE) for first in range(0, len(residues), _RESIDUES_PER_LINE)
    ]
    norm = CenteredNorm(neutral, max(float(np.nanpercentile(np.abs(grid - neutral), 98)), 1e-3))
    columns = min(len(residues), _RESIDUES_PER_LINE)
    # Names may contain dollar signs, which matplotlib would parse as formulas.
    with rc_context({"text.parse_math": False}), written_atomically(path) as temporary:
        figure = Figure(
            figsize=(max(1.8 + 0.135 * columns, 5.5), 1.3 + 3.2 * len(lines)), layout="constrained"
        )
        figure.suptitle(printable(title), x=0.02, ha="left", fontsize=12, fontweight="bold")
        axes = figure.subplots(len(lines), 1, squeeze=False)[:, 0]
        for axis, line in zip(axes, lines, strict=True):
            image = _draw_line(axis, residues[line], grid[:, line], norm)
            axis.set_xlim(-0.5, columns - 0.5)
        axes[0].set_title(printable(subtitle), loc="left", fontsize=8, color="0.35")
        bar = figure.colorbar(
            image, ax=list(axes), shrink=0.9, pad=0.01, aspect=30 * len(lines), extend="both"
        )
        bar.set_label(printable(label), fontsize=8)
        bar.ax.tick_params(labelsize=7)
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=200)


def check_picture_path(path: Path) -> None:
    """Refuse an unknown picture format and an unwritable folder, before anything is computed.

    Raises:
        RunError: the suffix is not ``.png``, ``.svg`` or ``.pdf``, or the folder is not writable.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise RunError(f"{path} is not a known picture format (--picture)", "suffixes: .png .svg .pdf")
    check_writable(path, flag="--picture")


def _grid(scores: Sequence[tuple[Variant, float]]) -> tuple[list[Residue], NDArray[np.float64]]:
    """The residues in order, and their scores [20, residues]; NaN for missing scores."""
    single = [(variant[0], score) for variant, score in scores if len(variant) == 1]
    residues = {item.row: item.residue for item, _ in sorted(single, key=lambda pair: pair[0].row)}
    column = {row: number for number, row in enumerate(residues)}
    grid = np.full((len(ORDER), len(residues)), np.nan)
    for item, score in single:
        grid[ORDER.index(item.mutant), column[item.row]] = score
    return list(residues.values()), grid


def _draw_line(axis: Any, residues: Sequence[Residue], grid: NDArray[np.float64], norm: Any) -> Any:
    """Draw one line of the map; return its image."""
    from matplotlib import colormaps

    colors = colormaps["RdBu_r"].with_extremes(bad="0.85")
    image = axis.imshow(grid, cmap=colors, norm=norm, aspect="auto", interpolation="nearest")
    wild = [(x, ORDER.index(item.letter)) for x, item in enumerate(residues) if item.letter in ORDER]
    axis.scatter(*zip(*wild, strict=True), s=4, c="0.15", marker="o", linewidths=0)
    axis.set_yticks(range(len(ORDER)), list(ORDER), fontsize=6, family="monospace")
    ticks = [x for x, item in enumerate(residues) if x == 0 or item.number % 10 == 0]
    axis.set_xticks(ticks, [str(residues[x].number) for x in ticks], fontsize=6)
    _name_chains(axis, residues)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(length=2, width=0.5)
    return image


def _name_chains(axis: Any, residues: Sequence[Residue]) -> None:
    """Write the name of each chain above its residues, and draw a line between chains."""
    names, centers = [], []
    for name, members in groupby(enumerate(residues), key=lambda pair: pair[1].chain):
        columns = [x for x, _ in members]
        names.append(printable(name))
        centers.append((columns[0] + columns[-1]) / 2)
        if columns[0]:
            axis.axvline(columns[0] - 0.5, color="black", linewidth=1)
    above = axis.secondary_xaxis("top")
    above.set_xticks(centers, names, fontsize=7)
    above.tick_params(length=0)
    above.spines["top"].set_visible(False)
