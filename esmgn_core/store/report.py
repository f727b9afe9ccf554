"""What is in a store, as numbers and as a page with pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from esmgn_core.alphabet import AMINO_ACIDS, EIGHT_TO_THREE, SECONDARY_STATES
from esmgn_core.io.annotate import areas
from esmgn_core.io.notes import group_notes
from esmgn_core.io.surface import UNKNOWN_STATE
from esmgn_core.machine.files import write_atomically
from esmgn_core.pages import Markup, render
from esmgn_core.printable import printable
from esmgn_core.store.index import row_account
from esmgn_core.store.reader import Store

_INK, _FILL, _SOFT = "#24333f", "#3a7ca5", "#c8d5de"
_PLDDT_BANDS = ((50, "#ef8354"), (70, "#f4c95d"), (90, "#6fb1d6"), (101, "#1f5f99"))
"""Upper ends and colours of the bands AlphaFold DB uses."""
_STATE_COLOURS = ("#b5485d", "#d9a441", "#7f98a8")
"""Of helix, strand and coil."""

_REASONS = 12


def totals(store: Store) -> list[tuple[str, int]]:
    """What happened to all residues and files, as label and number; numbers that are zero are left out."""
    counts: Counter[str] = Counter()
    for text in store.index(["account"]).column("account").to_pylist():
        _count(row_account(text), counts)
    lines = [
        ("proteins", len(store)),
        ("residues", int(store.lengths.sum())),
        ("files refused", len(store.index(["name"], refused=True))),
        *counts.items(),
    ]
    return [(label, number) for label, number in lines if number]


def _count(account: dict[str, Any], counts: Counter[str]) -> None:
    """Add what one account says, in the order in which the totals are shown."""
    chains = account["chains"]
    counts["chains"] += len(chains)
    counts["chains with a declared sequence"] += sum("declared" in chain for chain in chains)
    missing = [stretch for chain in chains for stretch in chain.get("missing", ())]
    counts["declared residues without coordinates"] += sum(last - first + 1 for first, last in missing)
    counts["residues that differ from the declared"] += sum(len(c.get("mismatched", ())) for c in chains)
    counts["residues not declared"] += sum(chain.get("undeclared", 0) for chain in chains)
    counts["breaks in the numbering"] += sum(len(chain.get("breaks", ())) for chain in chains)
    counts["residues with an insertion code"] += account.get("insertion_codes", 0)
    counts["residues with alternate locations"] += account.get("alternates", 0)
    counts["residues dropped for want of a CA atom"] += account.get("without_ca", 0)
    counts["kinds of modified residues read as their parent"] += len(account.get("modified", ()))
    counts["residues read as X"] += sum(account.get("unknown", {}).values())
    counts["files with several models, the first read"] += "models" in account
    for kind, number in account.get("left_out", {}).items():
        counts[f"left out: {kind}"] += number


def annotation_totals(store: Store) -> list[tuple[str, int]]:
    """Residues in helices, strands and coil, and of unknown state or exposure; empty without columns."""
    lines: list[tuple[str, int]] = []
    if "secondary_structure" in store.layout.annotations:
        states = _state_counts(store)
        for number, label in enumerate(("helix (H, G, I)", "strand (E, B)", "coil (T, S, -)")):
            of_three = [
                count for count, three in zip(states, EIGHT_TO_THREE, strict=False) if three == number
            ]
            lines.append((f"residues in {label}", sum(of_three)))
        lines.append(("residues of unknown secondary structure", states[-1]))
    if "exposure" in store.layout.annotations:
        unknown = sum(int(np.isnan(areas(piece)).sum()) for piece in store.annotation("exposure"))
        lines.append(("residues of unknown exposure", unknown))
    return lines


def _state_counts(store: Store) -> list[int]:
    """Residues in each state of DSSP, and of unknown state."""
    pieces = [
        np.bincount(piece, minlength=UNKNOWN_STATE + 1) for piece in store.annotation("secondary_structure")
    ]
    return [int(count) for count in sum(pieces, np.zeros(UNKNOWN_STATE + 1, dtype=np.int64))]


def reasons(store: Store) -> list[tuple[str, int]]:
    """Reasons of refusals, the most frequent first; numbers in a reason do not tell it from another."""
    column = store.index(["reason"], refused=True).column("reason").to_pylist()
    kinds = Counter("".join("#" if c.isdigit() else c for c in reason) for reason in column)
    example = {"".join("#" if c.isdigit() else c for c in reason): reason for reason in reversed(column)}
    return [(example[kind], number) for kind, number in kinds.most_common()]


def notes(store: Store) -> list[str]:
    """What was dropped, divided or guessed in the files of a store, a line for each kind of note."""
    return group_notes(store.notes())


def write_report(store: Store, path: Path) -> None:
    """Write one HTML page that needs no other file.

    Raises:
        DataError: it cannot be written.
    """
    tiles = [
        ("proteins", f"{len(store):,}"),
        ("residues", f"{int(store.lengths.sum()):,}"),
        ("files refused", f"{len(store.index(['name'], refused=True)):,}"),
        ("bytes per residue", f"{store.num_bytes[0] / max(1, int(store.lengths.sum())):.1f}"),
    ]
    counted = {label for label, _ in tiles}
    page = render(
        "store.html",
        title=store.path.name,
        path=store.path,
        tiles=tiles,
        plots=_plots(store),
        content=[row for row in totals(store) if row[0] not in counted],
        refused=reasons(store),
        notes=notes(store),
    )
    write_atomically(path, page)


def _plots(store: Store) -> list[Markup]:
    import matplotlib as mpl

    mpl.use("Agg", force=False)
    index = store.index(["mean_plddt", "resolution", "num_chains"])
    plddt, resolution = (index.column(name).to_numpy().astype(float) for name in ("mean_plddt", "resolution"))
    counts = np.zeros(len(AMINO_ACIDS) + 1, dtype=np.int64)
    for types in store.residue_types():
        counts += np.bincount(types, minlength=len(counts))[: len(counts)]
    drawn = [_figure("Length, residues", lambda axes: _lengths(axes, store.lengths)) if len(store) else None]
    if np.isfinite(plddt).any():
        drawn.append(_figure("Mean pLDDT of predicted structures", lambda axes: _plddts(axes, plddt)))
    if np.isfinite(resolution).any():
        drawn.append(_figure("Resolution, angstrom", lambda axes: _histogram(axes, resolution, 24)))
    drawn.append(_figure("Composition, % of residues", lambda axes: _composition(axes, counts)))
    if "secondary_structure" in store.layout.annotations:
        drawn.append(
            _figure("Secondary structure, % of residues", lambda axes: _states(axes, _state_counts(store)))
        )
    if "exposure" in store.layout.annotations:
        drawn.append(_figure("Exposure of residues, square angstrom", lambda axes: _exposures(axes, store)))
    if refused := reasons(store)[:_REASONS]:
        drawn.append(_figure("Reasons for refusal", lambda axes: _bars(axes, refused)))
    return [svg for svg in drawn if svg is not None]


def _figure(title: str, draw: Callable[[Any], None]) -> Markup:
    """One picture as SVG, text kept as text."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 10,
        "svg.hashsalt": "esmgn",
    }
    with rc_context(style):
        figure = Figure(figsize=(5.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(title, loc="left", fontsize=11, color=_INK)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(_SOFT)
        axes.tick_params(color=_SOFT, labelcolor=_INK)
        stream = StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    return Markup(svg[svg.index("<svg") :])


def _lengths(axes: Any, lengths: Any) -> None:
    low, high = max(1, int(lengths.min())), int(lengths.max()) + 1
    edges = np.unique(np.round(np.geomspace(low, max(high, low + 1), 33)))
    axes.hist(lengths, bins=edges, color=_FILL)
    axes.set_xscale("log")
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    median = float(np.median(lengths))
    axes.axvline(median, color=_INK, linewidth=1, linestyle=":")
    axes.annotate(f"median {median:,.0f}", (median, 0.97), xycoords=("data", "axes fraction"), va="top",
                  xytext=(-4, 0), ha="right", textcoords="offset points", color=_INK)  # fmt: skip
    axes.set_ylabel("proteins", color=_INK)


def _plddts(axes: Any, plddt: Any) -> None:
    values = plddt[np.isfinite(plddt)]
    _, edges, bars = axes.hist(values, bins=np.arange(0, 101, 2.5))
    for edge, bar in zip(edges, bars, strict=False):
        bar.set_facecolor(next(colour for end, colour in _PLDDT_BANDS if edge < end))
    axes.set_xlim(max(0.0, float(values.min()) - 5), 100)
    axes.set_ylabel("proteins", color=_INK)


def _histogram(axes: Any, values: Any, bins: int) -> None:
    axes.hist(values[np.isfinite(values)], bins=bins, color=_FILL)
    axes.set_ylabel("proteins", color=_INK)


def _composition(axes: Any, counts: Any) -> None:
    letters = [*AMINO_ACIDS, "X"]
    share = 100 * counts / max(1, counts.sum())
    order = np.argsort(-share, kind="stable")
    axes.bar([letters[row] for row in order], share[order], color=_FILL)
    axes.margins(x=0.01)


def _states(axes: Any, counts: Sequence[int]) -> None:
    labels = [*SECONDARY_STATES, "unknown"]
    colours = [_STATE_COLOURS[state] for state in EIGHT_TO_THREE] + [_SOFT]
    axes.bar(labels, 100 * np.array(counts) / max(1, sum(counts)), color=colours)
    axes.margins(x=0.01)


def _exposures(axes: Any, store: Store) -> None:
    edges = np.arange(0, 310, 10)
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    for piece in store.annotation("exposure"):
        counts += np.histogram(areas(piece), edges)[0]
    axes.stairs(counts, edges, fill=True, color=_FILL)
    axes.set_ylabel("residues", color=_INK)


def _bars(axes: Any, rows: Sequence[tuple[str, int]]) -> None:
    names = [printable(label) for label, _ in rows]
    labels = [name if len(name) < 46 else name[:44] + "..." for name in names]
    numbers = [number for _, number in rows]
    places = np.arange(len(rows))
    axes.barh(places, numbers, color=_FILL)
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
