"""Curves of a report as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from esmgn_core.pages import Markup

Points = Sequence[tuple[float, float]]

TRAIN, VALID = "var(--train)", "var(--valid)"
"""Colours, as the style of the page defines them."""
_WIDTH, _HEIGHT = 520, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 30
_MOST_POINTS = 400
_SMOOTHING = 0.9
_FEW = 30


class Line(NamedTuple):
    """A curve over steps.

    Attributes:
        label: what it shows.
        points: steps and values.
        color: of the line.
        noisy: a long one is drawn pale, with its running mean above it.
    """

    label: str
    points: Points
    color: str
    noisy: bool = False


def chart(
    lines: Sequence[Line], *, from_zero: bool = False, best: tuple[float, float] | None = None
) -> Markup:
    """Lines over steps, as SVG.

    Args:
        lines: what to draw.
        from_zero: for an axis that begins at zero.
        best: step and value of the best encoder, which is marked by a circle.
    """
    points = [*(point for line in lines for point in line.points), *filter(None, [best])]
    x_low, x_high = _span([x for x, _ in points])
    y_low, y_high = _span([*(y for _, y in points), *[0.0] * from_zero], margin=0.06)
    y_low = max(y_low, 0.0) if from_zero else y_low

    def place(point: tuple[float, float]) -> str:
        x = _LEFT + (point[0] - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (point[1] - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)
        return f"{x:.1f},{y:.1f}"

    parts = [*_grid(x_low, x_high, y_low, y_high, place)]
    for line in lines:
        thin = _thinned(line.points)
        if line.noisy and len(thin) > _FEW:
            parts.append(_path(map(place, thin), line.color, "pale"))
            thin = _smoothed(thin)
        parts.append(_path(map(place, thin), line.color, "line"))
        if len(thin) <= _FEW:
            parts += [_dot(place(point), line.color) for point in thin]
    if best:
        x, _, y = place(best).partition(",")
        title = f"best: {best[1]:.4f} at step {best[0]:,.0f}"
        parts.append(f'<circle cx="{x}" cy="{y}" r="5" class="best"><title>{title}</title></circle>')
    # Everything but the label is a number or a constant of this module.
    label = Markup.escape(" and ".join(line.label for line in lines))
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return Markup(svg)


def _grid(x_low: float, x_high: float, y_low: float, y_high: float, place: Any) -> Iterator[str]:
    for tick in _ticks(y_low, y_high, 4):
        y = place((x_low, tick)).partition(",")[2]
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" class="grid"/>'
        yield f'<text x="{_LEFT - 8}" y="{y}" dy="0.32em" text-anchor="end">{_number(tick)}</text>'
    yield f'<text x="{_LEFT - 8}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="end">step</text>'
    for tick in _ticks(x_low, x_high, 6):
        if tick == int(tick):
            x = place((tick, y_low)).partition(",")[0]
            yield f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:,.0f}</text>'


def _path(places: Any, color: str, kind: str) -> str:
    return f'<polyline points="{" ".join(places)}" class="{kind}" style="stroke:{color}"/>'


def _dot(place: str, color: str) -> str:
    x, _, y = place.partition(",")
    return f'<circle cx="{x}" cy="{y}" r="2.6" style="fill:{color}"/>'


def _thinned(line: Points) -> list[tuple[float, float]]:
    """At most so many points, each the mean of its neighbours."""
    count = min(len(line), _MOST_POINTS)
    cuts = [round(number * len(line) / count) for number in range(count + 1)]
    groups = [line[a:b] for a, b in pairwise(cuts)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _smoothed(line: Points) -> list[tuple[float, float]]:
    smooth, total, weight = [], 0.0, 0.0
    for x, y in line:
        total, weight = _SMOOTHING * total + y, _SMOOTHING * weight + 1
        smooth.append((x, total / weight))
    return smooth


def _span(values: Sequence[float], margin: float = 0.0) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        pad = abs(low) * 0.1 or 1.0
        return low - pad, high + pad
    return low - margin * (high - low), high + margin * (high - low)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between ``low`` and ``high``, about ``count`` of them.

    >>> _ticks(0.13, 0.87, 4)
    [0.2, 0.4, 0.6, 0.8]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * 0.99)
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
