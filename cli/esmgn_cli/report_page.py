"""One self-contained HTML page about a run: no script, no network, curves as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import esmgn_core
from esmgn_core.engine.run_summary import RunSummary
from esmgn_core.errors import shown

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 520, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 30
_MOST_POINTS = 400
_SMOOTHING = 0.9
_COLORS = ("var(--train)", "var(--valid)")


def report_page(item: RunSummary) -> str:
    """The page."""
    curves = item.curves()
    sections = [
        ("Curves", _charts(curves)),
        ("Where it ran", _environment(item.environment)),
        ("Data", _data(item)),
        ("Configuration", _config(item.config)),
        ("Log", f"<pre>{escape(_log(item))}</pre>"),
    ]
    body = "".join(f"<section><h2>{title}</h2>{text}</section>" for title, text in sections if text)
    return _PAGE.format(
        title=escape(item.name),
        style=_STYLE,
        parts=escape(item.composition),
        tiles=_tiles(item, curves),
        body=body,
        version=escape(esmgn_core.__version__),
    )


def _tiles(item: RunSummary, curves: Mapping[str, Points]) -> str:
    facts = [("state", item.state), ("steps", f"{item.steps:,}")]
    for name in ("valid_loss", "loss"):
        if name in curves:
            step, value = min(curves[name], key=lambda point: point[1])
            facts.append((f"lowest {_spoken(name)}", f"{value:.4f} <small>at step {step:,.0f}</small>"))
    if speeds := sorted(value for _, value in curves.get("residues_per_second", ())):
        facts.append(("residues per second", f"{speeds[len(speeds) // 2]:,.0f} <small>median</small>"))
    if memory := [value for _, value in curves.get("memory_gb", ())]:
        facts.append(("memory", f"{max(memory):.1f} GB <small>at most</small>"))
    return "".join(f"<div class=tile><span>{name}</span><b>{value}</b></div>" for name, value in facts)


def _charts(curves: Mapping[str, Points]) -> str:
    names = [name for name in curves if not name.startswith("valid_")]
    names += [
        name for name in curves if name.startswith("valid_") and name.removeprefix("valid_") not in curves
    ]
    charts = []
    for name in names:
        lines = [("training", curves[name])]
        if f"valid_{name}" in curves:
            lines.append(("held out", curves[f"valid_{name}"]))
        charts.append(
            f"<figure><figcaption>{escape(_spoken(name))}{_legend(lines)}</figcaption>{chart(lines)}</figure>"
        )
    return f"<div class=charts>{''.join(charts)}</div>"


def _legend(lines: Sequence[tuple[str, Points]]) -> str:
    if len(lines) < 2:
        return ""
    keys = (
        f'<i style="background:{color}"></i>{label}'
        for (label, _), color in zip(lines, _COLORS, strict=False)
    )
    return f"<span class=legend>{' '.join(keys)}</span>"


def chart(lines: Sequence[tuple[str, Points]]) -> str:
    """Lines over steps, as SVG; a long one is drawn pale with its running mean above it."""
    points = [point for _, line in lines for point in line]
    (x_low, x_high), (y_low, y_high) = (
        _span([x for x, _ in points]),
        _span([y for _, y in points], margin=0.06),
    )

    def place(point: tuple[float, float]) -> str:
        x = _LEFT + (point[0] - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (point[1] - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)
        return f"{x:.1f},{y:.1f}"

    parts = [*_grid(x_low, x_high, y_low, y_high, place)]
    for (label, line), color in zip(lines, _COLORS, strict=False):
        thin = _thinned(line)
        noisy = label == "training" and len(thin) > 30
        if noisy:
            parts.append(_path(map(place, thin), color, "pale"))
            thin = _smoothed(thin)
        parts.append(_path(map(place, thin), color, "line"))
        if len(thin) <= 30:
            parts += [_dot(place(point), color) for point in thin]
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'


def _grid(x_low: float, x_high: float, y_low: float, y_high: float, place: Any) -> Iterator[str]:
    for tick in _ticks(y_low, y_high, 4):
        y = place((x_low, tick)).partition(",")[2]
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" class="grid"/>'
        yield f'<text x="{_LEFT - 8}" y="{y}" dy="0.32em" text-anchor="end">{_number(tick)}</text>'
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


def _spoken(name: str) -> str:
    words = {"lr": "learning rate", "memory_gb": "memory, GB", "gpu_percent": "GPU in use, percent"}
    words |= {
        "loading_percent": "waiting for data, percent of a step",
        "slowest_rank": "slowest process",
        "idle_percent": "waiting for the slowest process, percent",
    }
    name = words.get(name, name)
    return name.replace("valid_", "held-out ").replace("_", " ")


def _environment(environment: Mapping[str, Any]) -> str:
    rows = []
    for name, value in environment.items():
        if name == "plugins":
            used = [f"{plugin['name']} {plugin['version']}" for plugin in value if not plugin.get("problem")]
            value = ", ".join(used)
        elif isinstance(value, Mapping):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        if value not in (None, ""):
            rows.append((name.replace("_", " "), str(value)))
    return _rows(rows)


def _data(item: RunSummary) -> str:
    data = item.config.get("data", {})
    rows = [(str(name), value if isinstance(value, str) else shown(value)) for name, value in data.items()]
    rows += [("account", line) for line in _log(item).splitlines() if "training proteins" in line][:1]
    try:
        refused = item.run.refused.read_text(encoding="utf-8").splitlines()[1:]
    except OSError:
        refused = []
    text = _rows(rows)
    if refused:
        cells = ("".join(f"<td>{escape(cell)}</td>" for cell in line.split("\t")) for line in refused[:50])
        first = "".join(f"<tr>{row}</tr>" for row in cells)
        text += f"<details><summary>{len(refused)} left out</summary><table>{first}</table></details>"
    return text


def _config(config: Mapping[str, Any]) -> str:
    tables = []
    for name, table in config.items():
        rows = [(str(key), shown(value)) for key, value in table.items()]
        tables.append(f"<div><h3>{escape(name)}</h3>{_rows(rows)}</div>")
    return f"<div class=columns>{''.join(tables)}</div>"


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _log(item: RunSummary) -> str:
    try:
        lines = item.run.log_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return "\n".join(lines if len(lines) <= 200 else [*lines[:100], "...", *lines[-100:]])


_STYLE = """
:root { --ink: #1c2430; --soft: #667085; --rule: #e4e7ec; --paper: #ffffff; --ground: #f6f7f9;
  --train: #2f6fde; --valid: #e07b29; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --rule: #2c3441;
  --paper: #171c24; --ground: #10141a; --train: #6ea0ff; --valid: #f2a05a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 48px; }
h1 { font-size: 26px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 17px; margin: 0 0 14px; }
h3 { font-size: 13px; margin: 0 0 4px; color: var(--soft); font-weight: 600; }
p.parts { color: var(--soft); margin: 2px 0 20px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 24px; }
.tile { background: var(--paper); border: 1px solid var(--rule); border-radius: 10px; padding: 10px 16px; }
.tile span { display: block; font-size: 12px; color: var(--soft); }
.tile b { font-size: 19px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile small { font-size: 12px; font-weight: 400; color: var(--soft); }
section { background: var(--paper); border: 1px solid var(--rule); border-radius: 12px; padding: 20px 22px;
  margin-bottom: 20px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); gap: 22px; }
figure { margin: 0; }
figcaption { font-size: 13px; font-weight: 600; margin-bottom: 2px; display: flex;
  justify-content: space-between; }
.legend { font-weight: 400; color: var(--soft); }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin: 0 5px 3px 12px; }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line, .pale { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.pale { stroke-width: 1; opacity: 0.3; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: left; vertical-align: top; padding: 3px 14px 3px 0; border-top: 1px solid var(--rule);
  overflow-wrap: anywhere; }
tr:first-child th, tr:first-child td { border-top: 0; }
th { font-weight: 500; color: var(--soft); white-space: nowrap; width: 1%; }
.columns { columns: 2 420px; column-gap: 36px; }
.columns div { break-inside: avoid; margin-bottom: 18px; }
pre { font-size: 12px; line-height: 1.45; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--soft); margin-top: 10px; }
footer { color: var(--soft); font-size: 12px; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class=parts>{parts}</p>
<div class=tiles>{tiles}</div>
{body}
<footer>esmgn {version}</footer>
</main>
</body>
</html>
"""
