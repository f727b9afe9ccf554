"""Charts as inline SVG, in the colours of the style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from esmgn_core.pages import Markup, render

Point = tuple[float, float]

TRAIN, VALID, NEUTRAL = "var(--train)", "var(--valid)", "var(--soft)"
"""Colours that follow the light or dark mode of the page."""
PLDDT_COLORS = ((90.0, "#0053d6"), (70.0, "#65cbf3"), (50.0, "#ffdb13"), (0.0, "#ff7d45"))
"""Confidence bands of AlphaFold DB: lowest pLDDT and colour, from high to low."""
_WIDTH, _HEIGHT = 520, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 494, 14, 200
"""Edges of the plot area, from the left and from the top."""
_MAX_POINTS, _TREND_POINTS, _MAX_DOTS = 400, 60, 30


class Line(NamedTuple):
    """A curve over training steps.

    Attributes:
        label: name in the legend.
        points: steps and values.
        color: CSS colour.
        noisy: True to draw a long curve pale, with a trend line.
    """

    label: str
    points: Sequence[Point]
    color: str
    noisy: bool = False


def plddt_color(value: float) -> str | None:
    """The colour of AlphaFold DB for a pLDDT; ``None`` for NaN."""
    return next((color for least, color in PLDDT_COLORS if value >= least), None)


def line_chart(
    lines: Sequence[Line], *, from_zero: bool = False, best: Point | None = None, x_name: str = "step"
) -> Markup:
    """Draw curves over training steps or another number.

    Args:
        lines: at least one, each with at least one point.
        from_zero: start the y axis at zero.
        best: step and value of the selected checkpoint, marked by a circle.
        x_name: name of the x axis.
    """
    points = np.array([*(point for line in lines for point in line.points), *filter(None, [best])])
    x_low, x_high = _span(points[:, 0])
    y_low, y_high = _span([*points[:, 1], 0.0] if from_zero else points[:, 1])
    margin = 0.06 * (y_high - y_low)
    x = _scale(x_low, x_high, _LEFT, _RIGHT)
    y = _scale(y_low - (0 if from_zero else margin), y_high + margin, _BOTTOM, _TOP)
    curves, dots = [], []
    for line in lines:
        shown = _downsample(line.points, _MAX_POINTS)
        if line.noisy and len(shown) > _MAX_DOTS:
            curves.append(("pale", line.color, [(x(step), y(value)) for step, value in shown]))
            shown = _downsample(line.points, _TREND_POINTS)
        places = [(x(step), y(value)) for step, value in shown]
        curves.append(("line", line.color, places))
        if len(places) <= _MAX_DOTS:
            dots += [(line.color, place) for place in places]
    return _svg(
        " and ".join(line.label for line in lines),
        x_ticks=[(x(t), f"{t:,.0f}") for t in _ticks(x_low, x_high, 6) if t == int(t)],
        y_ticks=[(y(t), _number(t)) for t in _ticks(y_low, y_high, 4)],
        x_name=x_name,
        curves=curves,
        dots=dots,
        best=best and {"x": x(best[0]), "y": y(best[1]), "step": best[0], "value": best[1]},
    )


def histogram(
    label: str,
    counts: ArrayLike,
    edges: ArrayLike,
    *,
    log: bool = False,
    color: Callable[[float], str | None] = lambda _: TRAIN,
) -> Markup:
    """Draw a histogram.

    Args:
        label: description of the chart for screen readers.
        counts: [n].
        edges: [n + 1], ascending.
        log: True for a logarithmic x axis.
        color: CSS colour of a bar by its left edge.
    """
    counts, edges = np.asarray(counts), np.asarray(edges, dtype=np.float64)
    low, high = float(edges[0]), float(edges[-1])
    ticks = _ticks(low, high, 6)
    if log:
        ticks = [size * 10.0**power for power in range(9) for size in (1, 2, 5)]
        ticks = [tick for tick in ticks if low <= tick <= high]
    transform = math.log10 if log else float
    x = _scale(transform(low), transform(high), _LEFT, _RIGHT)
    places = [x(transform(edge)) for edge in edges]
    bars = [(places[n], places[n + 1] - places[n], count, color(edges[n])) for n, count in enumerate(counts)]
    return _bars(label, bars, [(x(transform(tick)), _number(tick)) for tick in ticks])


def bar_chart(label: str, rows: Sequence[tuple[str, float, str]]) -> Markup:
    """Draw a bar for each name, value and CSS colour."""
    width = (_RIGHT - _LEFT) / len(rows)
    bars = [
        (_LEFT + (n + 0.1) * width, 0.8 * width, value, color) for n, (_, value, color) in enumerate(rows)
    ]
    return _bars(label, bars, [(_LEFT + (n + 0.5) * width, name) for n, (name, *_) in enumerate(rows)])


class Estimate(NamedTuple):
    """A named value with an interval, ``None`` without one; ``marked`` draws it in the second colour."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    marked: bool = False


def interval_chart(label: str, rows: Sequence[Estimate]) -> Markup:
    """Draw each value as a dot with its interval, one below the other."""
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    low, high = _span(ends)
    left = min(300.0, 20 + 7.0 * max(len(row.name) for row in rows))
    x = _scale(low, high, left + 10, _RIGHT)
    bottom = 14 + 24 * len(rows)
    places = [
        (
            *(row.name, 18 + 24 * n, x(row.value)),
            *(None if row.low is None else x(row.low), None if row.high is None else x(row.high)),
            VALID if row.marked else TRAIN,
        )
        for n, row in enumerate(rows)
    ]
    ticks = [(x(tick), _number(tick)) for tick in _ticks(low, high, 4)]
    size = {"width": _WIDTH, "height": bottom + 30, "left": left, "bottom": bottom}
    return Markup(render("intervals.svg", label=label, rows=places, ticks=ticks, **size))


def heat_map(label: str, values: Mapping[tuple[str, str], float], *, lower_is_better: bool = False) -> Markup:
    """Draw values by row and column; the better, the darker."""
    rows, columns = (list(dict.fromkeys(key[place] for key in values)) for place in (0, 1))
    low, high = _span([*values.values()])
    left = min(220.0, 20 + 7.0 * max(map(len, rows)))
    wide, tall = (_RIGHT - left) / len(columns), 34
    shares = {key: (value - low) / (high - low) for key, value in values.items()}
    cells = [
        (
            *(left + columns.index(column) * wide, 26 + rows.index(row) * tall),
            0.08 + 0.8 * (1 - share if lower_is_better else share),
            f"{values[row, column]:.3g}",
        )
        for (row, column), share in shares.items()
    ]
    return Markup(
        render(
            "heat.svg",
            label=label,
            columns=[(left + (n + 0.5) * wide, name) for n, name in enumerate(columns)],
            rows=[(26 + (n + 0.5) * tall, name) for n, name in enumerate(rows)],
            cells=cells,
            width=_WIDTH,
            height=30 + tall * len(rows),
            left=left,
            wide=wide,
            high=tall,
        )
    )


def scatter(label: str, points: Sequence[tuple[str, float, float]], x_name: str) -> Markup:
    """Draw named points; each has its position in the list as its number."""
    x_low, x_high = _span([x for _, x, _ in points])
    y_low, y_high = _span([y for *_, y in points])
    x, y = _scale(x_low, x_high, _LEFT + 10, _RIGHT - 20), _scale(y_low, y_high, _BOTTOM - 8, _TOP + 8)
    return Markup(
        render(
            "scatter.svg",
            label=label,
            x_name=x_name,
            points=[(x(a), y(b), n, f"{n}. {name}") for n, (name, a, b) in enumerate(points, 1)],
            x_ticks=[(x(tick), _number(tick)) for tick in _ticks(x_low, x_high, 6)],
            y_ticks=[(y(tick), _number(tick)) for tick in _ticks(y_low, y_high, 4)],
            width=_WIDTH,
            height=_HEIGHT + 20,
            left=_LEFT,
            right=_RIGHT,
            bottom=_BOTTOM,
        )
    )


def standalone(chart: Markup) -> str:
    """The chart as an SVG file with its style sheet."""
    style = (Path(__file__).with_name("style.css")).read_text(encoding="utf-8")
    # str: a Markup would escape what is inserted.
    opened = str(chart).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return opened.replace(">\n", f">\n<style>\n{style}</style>\n", 1)


def _bars(
    label: str, bars: Iterable[tuple[float, float, float, str | None]], x_ticks: Sequence[Any]
) -> Markup:
    """Draw bars, given by left edge, width, value and colour, on a y axis from zero."""
    bars = list(bars)
    most = max(value for _, _, value, _ in bars) or 1.0
    y = _scale(0.0, most, _BOTTOM, _TOP)
    return _svg(
        label,
        x_ticks=x_ticks,
        y_ticks=[(y(t), _number(t)) for t in _ticks(0.0, most, 4) if t == int(t) or most < 1],
        bars=[(left, width, y(value), color) for left, width, value, color in bars if value],
    )


def _svg(label: str, **values: Any) -> Markup:
    frame = {"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "right": _RIGHT, "bottom": _BOTTOM}
    empty = {"x_name": "", "curves": (), "dots": (), "bars": (), "best": None}
    return Markup(render("chart.svg", label=label, **frame, **{**empty, **values}))


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    return lambda value: first + (value - low) / (high - low) * (last - first)


def _downsample(points: Sequence[Point], most: int) -> list[Point]:
    """Reduce to ``most`` points: the last step and the mean value of equal parts."""
    parts = np.array_split(np.asarray(points, dtype=np.float64), min(len(points), most))
    return [(float(part[-1, 0]), float(part[:, 1].mean())) for part in parts]


def _span(values: Any) -> Point:
    low, high = float(min(values)), float(max(values))
    pad = (abs(low) * 0.1 or 1.0) if low == high else 0.0
    return low - pad, high + pad


def _ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers between ``low`` and ``high``.

    >>> _ticks(0.13, 0.87, 4)
    [0.2, 0.4, 0.6, 0.8]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    # 0.99: rounding errors must not skip to the next size.
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * 0.99)
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
