"""The report of a store: an HTML page with the distributions of its proteins."""

from __future__ import annotations

from typing import Any

import numpy as np

from esmgn_core.alphabet import AMINO_ACIDS, EIGHT_TO_THREE, SECONDARY_STATES
from esmgn_core.io.annotate import areas
from esmgn_core.pages import render
from esmgn_core.pages.chart import NEUTRAL, TRAIN, bar_chart, histogram, plddt_color
from esmgn_core.store.reader import Store
from esmgn_core.store.report import notes, reasons, state_counts, totals
from esmgn_core.version import __version__

_STATE_COLORS = ("#b5485d", "#d9a441", "#7f98a8")
"""Helix, strand and coil."""


def store_page(store: Store) -> str:
    """HTML text of the report of a store."""
    content = dict(totals(store))
    facts = [(name, f"{content.pop(name, 0):,}", "") for name in ("proteins", "residues", "files refused")]
    per_residue = store.num_bytes[0] / max(1, int(store.lengths.sum()))
    return render(
        "store.html",
        title=store.path.name,
        path=store.path,
        facts=[*facts, ("bytes per residue", f"{per_residue:.1f}", "")],
        charts=_charts(store),
        content=content.items(),
        refused=reasons(store),
        notes=notes(store),
        version=__version__,
    )


def _charts(store: Store) -> list[dict[str, Any]]:
    """Caption and chart of each distribution."""
    index = store.index(["mean_plddt", "resolution"])
    plddt, resolution = (index.column(name).to_numpy().astype(float) for name in index.column_names)
    plddt, resolution = plddt[np.isfinite(plddt)], resolution[np.isfinite(resolution)]
    charts = {}
    if len(store):
        low, high = max(1, int(store.lengths.min())), int(store.lengths.max()) + 1
        edges = np.unique(np.round(np.geomspace(low, max(high, low + 1), 33)))
        caption = f"Length, residues (median {np.median(store.lengths):,.0f})"
        charts[caption] = histogram(caption, np.histogram(store.lengths, edges)[0], edges, log=True)
    if len(plddt):
        first = 2.5 * max(0.0, plddt.min() // 2.5 - 2)
        edges = np.arange(first, 101, 2.5)
        caption = "Mean pLDDT of predicted structures"
        charts[caption] = histogram(caption, np.histogram(plddt, edges)[0], edges, color=plddt_color)
    if len(resolution):
        caption = "Resolution, angstrom"
        charts[caption] = histogram(caption, *np.histogram(resolution, 24))
    counts = sum(
        (np.bincount(types, minlength=21)[:21] for types in store.residue_types()), np.zeros(21, np.int64)
    )
    share = 100 * counts / max(1, counts.sum())
    residues = zip([*AMINO_ACIDS, "X"], share.tolist(), strict=True)
    caption = "Composition, % of residues"
    charts[caption] = bar_chart(
        caption, [(name, value, TRAIN) for name, value in sorted(residues, key=lambda row: -row[1])]
    )
    if "secondary_structure" in store.layout.annotations:
        caption = "Secondary structure, % of residues"
        states = state_counts(store)
        colors = [*(_STATE_COLORS[three] for three in EIGHT_TO_THREE), NEUTRAL]
        names = [*SECONDARY_STATES, "unknown"]
        rows = zip(names, (100 * count / max(1, sum(states)) for count in states), colors, strict=True)
        charts[caption] = bar_chart(caption, list(rows))
    if "exposure" in store.layout.annotations:
        edges = np.arange(0.0, 310.0, 10.0)
        counts_by_shard = (np.histogram(areas(values), edges)[0] for values in store.annotation("exposure"))
        caption = "Exposure of residues, square angstrom"
        charts[caption] = histogram(caption, sum(counts_by_shard, np.zeros(len(edges) - 1, np.int64)), edges)
    return [{"caption": caption, "legend": (), "svg": svg} for caption, svg in charts.items()]
