"""The report of a study: tables and charts on one page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from esmgn_core.engine.bins import EDGES, IDENTITY, read_bins
from esmgn_core.pages import Markup, render
from esmgn_core.pages.chart import Estimate, Line, heat_map, interval_chart, line_chart, scatter
from esmgn_core.printable import counted
from esmgn_core.study.plan import ROW, Study
from esmgn_core.study.render import cell_rows, notes
from esmgn_core.study.results import VALID, CellResult, Results, lower_is_better
from esmgn_core.study.table import Column, Table
from esmgn_core.version import __version__

_COLORS = (
    *("#2f6fde", "#e07b29", "#2a9d5c", "#b5489a", "#8a6d3b"),
    *("#159aa8", "#c0392b", "#6b5bd2", "#7f8c2d", "#667085"),
)
_MOST_LINES = len(_COLORS)


class Chart(NamedTuple):
    """One chart of a study.

    Attributes:
        name: name for a file.
        caption: heading.
        svg: the drawing.
        legend: its lines, by label and colour.
    """

    name: str
    caption: str
    svg: Markup
    legend: Sequence[Line] = ()


def study_charts(results: Results, table: Table) -> dict[str, list[Chart]]:
    """All charts that the results allow, by heading."""
    sections = {
        "Rows with 95 % intervals": [_intervals(column, table) for column in table.columns],
        "Encoder by fusion": [chart for column in table.columns if (chart := _heat(column, table, results))],
        "Scores by identity with training proteins and by pLDDT": [
            chart for column in table.columns for kind in EDGES if (chart := _by_bin(kind, column, results))
        ],
        "Learning curves": [chart for column in table.columns if (chart := _curves(column, results))],
        "Score against compute": [
            chart for column in table.columns if (chart := _compute(column, table, results))
        ],
    }
    return {heading: charts for heading, charts in sections.items() if charts}


def study_page(study: Study, results: Results, table: Table) -> str:
    """HTML text of the report of a study."""
    lines = cell_rows(table)
    best = {key for key, entry in table.entries.items() if entry.best}
    return render(
        "study.html",
        title=study.name,
        about=study.summary,
        facts=[
            ("finished", counted(len(results.cells), "cell"), f"{len(results.missing)} not"),
            ("tests", str(table.num_tests), "in pairs, corrected by Holm's method"),
        ],
        warnings=[f"{counted(table.num_missing, 'cell')} not done"] if table.num_missing else [],
        heading=lines[0],
        rows=[
            (
                row,
                [(text, (row, column) in best) for text, column in zip(line[1:], table.columns, strict=True)],
            )
            for row, line in zip(table.rows, lines[1:], strict=True)
        ],
        notes=notes(table),
        sections=[
            (
                heading,
                [{"caption": chart.caption, "svg": chart.svg, "legend": chart.legend} for chart in charts],
            )
            for heading, charts in study_charts(results, table).items()
        ],
        numbered=[(str(number), row or "-") for number, row in enumerate(table.rows, 1)],
        version=__version__,
    )


def _named(kind: str, column: Column, svg: Markup, legend: Sequence[Line] = ()) -> Chart:
    name = "-".join([kind, column.stage, *column.labels, column.set, column.metric])
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    return Chart(safe, column.title, svg, legend)


def _intervals(column: Column, table: Table) -> Chart:
    rows = []
    for row in table.rows:
        if entry := table.entries.get((row, column)):
            low, high = entry.interval or (None, None)
            rows.append(Estimate(row or "-", entry.mean, low, high, entry.best))
    rows.sort(key=lambda row: row.value, reverse=not lower_is_better(column.metric))
    return _named("intervals", column, interval_chart(column.title, rows))


def _heat(column: Column, table: Table, results: Results) -> Chart | None:
    """Mean score by encoder and fuser, if there are several of both."""
    values: dict[tuple[str, str], list[float]] = {}
    for row, cells in _cells(column, results).items():
        config = cells[0].cell.config
        names = [part.name for part in (config.seq, config.struct) if part]
        entry = table.entries[row, column]
        values.setdefault((" + ".join(names), config.fuse.name), []).append(entry.mean)
    if min(len({key[place] for key in values}) for place in (0, 1)) < 2:
        return None
    means = {key: float(np.mean(found)) for key, found in values.items()}
    drawn = heat_map(column.title, means, lower_is_better=lower_is_better(column.metric))
    return _named("heat", column, drawn)


def _curves(column: Column, results: Results) -> Chart | None:
    """Validation score against steps, the mean over seeds, of the first rows."""
    name = f"{VALID}_{column.metric}"
    lines = []
    for (row, cells), color in zip(_cells(column, results).items(), _COLORS, strict=False):
        points: dict[float, list[float]] = {}
        for result in cells:
            for step, value in result.summary.curves().get(name, ()):
                points.setdefault(step, []).append(value)
        if len(points) > 1:
            lines.append(
                Line(
                    row or "-",
                    [(step, float(np.mean(found))) for step, found in sorted(points.items())],
                    color,
                )
            )
    return _named("curves", column, line_chart(lines), lines) if lines else None


def _by_bin(kind: str, column: Column, results: Results) -> Chart | None:
    """Mean score over seeds by bin, for rows whose runs all have ``bins.json``."""
    lines = []
    for (row, cells), color in zip(_cells(column, results).items(), _COLORS, strict=False):
        found = [read_bins(result.summary.run)[0].get(column.set, {}).get(kind) for result in cells]
        points: dict[float, list[float]] = {}
        for item in (item for bins in found if bins for item in bins):
            value = item.scores.get(column.metric, {}).get("value")
            if value is not None and math.isfinite(item.low):
                points.setdefault(item.low, []).append(value)
        if all(found) and points:
            drawn = [(low, float(np.mean(values))) for low, values in sorted(points.items())]
            lines.append(Line(row or "-", drawn, color))
    if not lines:
        return None
    name = "identity, % (lower bound)" if kind == IDENTITY else "mean pLDDT (lower bound)"
    return _named(kind, column, line_chart(lines, x_name=name), lines)


def _compute(column: Column, table: Table, results: Results) -> Chart | None:
    """Score against minutes of training, the mean over seeds."""
    points = []
    for row in table.rows:
        cells = _cells(column, results).get(row, [])
        minutes = [used / 60 for result in cells if math.isfinite(used := result.seconds)]
        if minutes:
            points.append((row or "-", float(np.mean(minutes)), table.entries[row, column].mean))
    if len(points) < 2:
        return None
    return _named("compute", column, scatter(column.title, points, "minutes of a run"))


def _cells(column: Column, results: Results) -> dict[str, list[CellResult]]:
    """Results with this column, by row."""
    found: dict[str, list[CellResult]] = {}
    for result in results.cells:
        same = (result.cell.stage, result.other_labels) == (column.stage, column.labels)
        if same and column.metric in result.scores.get(column.set, {}):
            found.setdefault(result.cell.labels.get(ROW, ""), []).append(result)
    return found
