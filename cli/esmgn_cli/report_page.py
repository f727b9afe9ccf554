"""One self-contained HTML page about a run: no script, no network, curves as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import esmgn_core
from esmgn_cli.render import OF_THE_MACHINE
from esmgn_cli.report_chart import TRAIN, VALID, Line, Points, chart
from esmgn_core.engine.run_summary import RunSummary
from esmgn_core.errors import shown

_EXACT = {"lr", "memory_gb"}
"""Curves without noise."""


def report_page(item: RunSummary) -> str:
    """The page."""
    curves = {name: points for name, points in item.curves().items() if not name.startswith("test_")}
    machine = {name: curves[name] for name in OF_THE_MACHINE if name in curves}
    learned = {name: points for name, points in curves.items() if name not in machine}
    sections = [
        ("Scores", _scores(item.results)),
        ("Learning", _charts(learned)),
        ("Speed and memory", _charts(machine)),
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
    facts = [("state", item.state)]
    if (metric := item.results.get("metric", "")) and f"valid_{metric}" in curves:
        step, value = max(curves[f"valid_{metric}"], key=lambda point: point[1])
        facts.append((f"best held-out {_spoken(metric)}", f"{value:.4f} <small>at step {step:,.0f}</small>"))
    for name in ("valid_loss", "loss"):
        if name in curves:
            step, value = min(curves[name], key=lambda point: point[1])
            facts.append((f"lowest {_spoken(name)}", f"{value:.4f} <small>at step {step:,.0f}</small>"))
    if speeds := sorted(value for _, value in curves.get("residues_per_second", ())):
        facts.append(("residues per second", f"{speeds[len(speeds) // 2]:,.0f} <small>median</small>"))
    if memory := [value for _, value in curves.get("memory_gb", ())]:
        facts.append(("memory", f"{max(memory):.1f} GB <small>at most</small>"))
    return "".join(f"<div class=tile><span>{name}</span><b>{value}</b></div>" for name, value in facts)


def _scores(results: Mapping[str, Any]) -> str:
    """A row for each score, a column for each set of proteins."""
    sets: Mapping[str, Any] = results.get("sets", {})
    if not sets:
        return ""
    heads = "".join(
        f"<th>{escape(_set_name(name))} <small>{found['num_predictions']:,} predictions</small></th>"
        for name, found in sets.items()
    )
    names = dict.fromkeys(name for found in sets.values() for name in found["scores"])
    rows = "".join(
        f"<tr><th>{escape(_spoken(name))}</th>"
        + "".join(f"<td>{_score(found['scores'].get(name, {}))}</td>" for found in sets.values())
        + "</tr>"
        for name in names
    )
    return f"<table class=scores><tr><th></th>{heads}</tr>{rows}</table>"


def _set_name(name: str) -> str:
    return "held out" if name == "valid" else name.replace("_", " ")


def _score(numbers: Mapping[str, float | None]) -> str:
    if numbers.get("value") is None:
        return "not defined"
    low, high = numbers.get("low"), numbers.get("high")
    between = "" if low is None or high is None else f" <small>{low:.3f} to {high:.3f}</small>"
    return f"{numbers['value']:.4f}{between}"


def _charts(curves: Mapping[str, Points]) -> str:
    """A chart for each value that changes, with its held-out values if there are any."""
    charts = []
    for name in dict.fromkeys(name.removeprefix("valid_") for name in curves):
        lines = [
            Line(label, curves[key], color, noisy=key == name and name not in _EXACT)
            for key, label, color in ((name, "training", TRAIN), (f"valid_{name}", "held out", VALID))
            if key in curves
        ]
        if len({value for line in lines for _, value in line.points}) < 2:
            continue
        caption = f"{escape(_spoken(name))}{_legend(lines)}"
        drawn = chart(lines, from_zero=name in OF_THE_MACHINE)
        charts.append(f"<figure><figcaption>{caption}</figcaption>{drawn}</figure>")
    return f"<div class=charts>{''.join(charts)}</div>" if charts else ""


def _legend(lines: Sequence[Line]) -> str:
    """What the colours mean, where they are not those of training alone."""
    if [line.label for line in lines] == ["training"]:
        return ""
    keys = (f'<i style="background:{line.color}"></i>{line.label}' for line in lines)
    return f"<span class=legend>{' '.join(keys)}</span>"


def _spoken(name: str) -> str:
    words = {"lr": "learning rate", "memory_gb": "memory, GB", "gpu_percent": "GPU in use, percent"}
    words |= {
        "loading_percent": "waiting for data, percent of a step",
        "slowest_rank": "slowest process",
        "idle_percent": "waiting for the slowest process, percent",
        "f_max": "Fmax",
        "aupr_micro": "AUPR micro",
        "aupr_macro": "AUPR macro",
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
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); gap: 22px; }
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
table.scores { width: auto; }
.scores td, .scores th { padding: 5px 28px 5px 0; font-variant-numeric: tabular-nums; width: auto; }
.scores small { color: var(--soft); font-weight: 400; }
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
