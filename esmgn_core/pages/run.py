"""The report of a run: a self-contained HTML page without scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esmgn_core.engine.bins import IDENTITY, PLDDT, read_bins, title
from esmgn_core.engine.runs import MACHINE_VALUES, RunSummary
from esmgn_core.engine.selection import Selection
from esmgn_core.errors import shown
from esmgn_core.pages import render
from esmgn_core.pages.chart import TRAIN, VALID, Estimate, Line, Point, interval_chart, line_chart
from esmgn_core.version import __version__

_REFUSED_SHOWN = 50
_SHOWN_ELSEWHERE = {"settings", "data"}
"""Entries of ``environment.json`` that other sections show."""
_BINNED = {IDENTITY: "identity with training proteins", PLDDT: "mean pLDDT"}
_NOT_NOISY = {"lr", "memory_gb"}
"""Curves without noise, which need no trend line."""


def run_page(item: RunSummary) -> str:
    """HTML text of the report of a run."""
    curves = {name: points for name, points in item.curves().items() if not name.startswith("test_")}
    machine = {name: curves[name] for name in MACHINE_VALUES if name in curves}
    learned = {name: points for name, points in curves.items() if name not in machine}
    refused = [line.split("\t") for line in _lines(item.run.refused)[1:] if line]
    log = _lines(item.run.log_file)
    return render(
        "run.html",
        title=item.name,
        about=item.composition,
        facts=_tiles(item, curves),
        scores=_scores(item.results),
        bins=_bins(item),
        learning=_charts(learned, item.best()),
        machine=_charts(machine),
        environment=_environment(item.environment),
        data=_data(item, log),
        refused=refused[:_REFUSED_SHOWN],
        num_refused=len(refused),
        config=[(name, _settings(table)) for name, table in item.config.items()],
        log=log if len(log) <= 200 else [*log[:100], "...", *log[-100:]],
        version=__version__,
    )


def _tiles(item: RunSummary, curves: Mapping[str, Sequence[Point]]) -> list[tuple[str, str, str]]:
    """Name, value and remark of each tile."""
    facts = [("state", item.state, "")]
    if best := item.best():
        facts.append((f"best {_title(best.name)}", f"{best.value:.4f}", f"at step {best.step:,}"))
    if losses := curves.get("loss"):
        step, value = losses[-1]
        facts.append(("last training loss", f"{value:.4f}", f"at step {step:,.0f}"))
    if speeds := sorted(value for _, value in curves.get("residues_per_second", ())):
        facts.append(("residues per second", f"{speeds[len(speeds) // 2]:,.0f}", "median"))
    if memory := [value for _, value in curves.get("memory_gb", ())]:
        facts.append(("memory", f"{max(memory):.1f} GB", "maximum"))
    return facts


def _scores(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of scores: a row for each score, a column for each set of proteins."""
    sets: Mapping[str, Any] = results.get("sets", {})
    if not sets:
        return None
    names = dict.fromkeys(name for result in sets.values() for name in result["scores"])
    return {
        "sets": [(_set_name(name), f"{result['num_predictions']:,}") for name, result in sets.items()],
        "rows": [
            (_title(name), [_score(result["scores"].get(name, {})) for result in sets.values()])
            for name in names
        ],
    }


def _bins(item: RunSummary) -> list[dict[str, Any]]:
    """A chart of the deciding score for each test set and kind of bin."""
    found, metric = read_bins(item.run)
    charts = []
    for name, kinds in found.items():
        for kind, bins in kinds.items():
            rows = [
                Estimate(
                    f"{title(kind, one.low)} ({one.number:,})", value, numbers.get("low"), numbers.get("high")
                )
                for one in bins
                if (numbers := one.scores.get(metric, {})) and (value := numbers.get("value")) is not None
            ]
            if rows:
                caption = f"{_set_name(name)}: {_title(metric)} by {_BINNED[kind]}"
                charts.append({"caption": caption, "legend": [], "svg": interval_chart(caption, rows)})
    return charts


def _set_name(name: str) -> str:
    return "validation" if name == "valid" else name.replace("_", " ")


def _score(numbers: Mapping[str, float | None]) -> tuple[str, str]:
    if numbers.get("value") is None:
        return "not defined", ""
    low, high = numbers.get("low"), numbers.get("high")
    between = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    if (number := numbers.get("without_interval")) is not None:
        between = f"no interval: n = {number:,.0f}"
    return f"{numbers['value']:.4f}", between


def _charts(curves: Mapping[str, Sequence[Point]], best: Selection | None = None) -> list[dict[str, Any]]:
    """A chart for each value that varies, with its values on the validation set if there are any."""
    charts = []
    for name in dict.fromkeys(name.removeprefix("valid_") for name in curves):
        lines = [
            Line(label, curves[key], color, noisy=key == name and name not in _NOT_NOISY)
            for key, label, color in ((name, "training", TRAIN), (f"valid_{name}", "validation", VALID))
            if key in curves
        ]
        if len({value for line in lines for _, value in line.points}) < 2:
            continue
        selects = best and best.name in (name, f"valid_{name}") and math.isfinite(best.value)
        mark = (float(best.step), best.value) if best and selects else None
        charts.append(
            {
                "caption": _title(name),
                "legend": [] if [line.label for line in lines] == ["training"] else lines,
                "svg": line_chart(lines, from_zero=name in MACHINE_VALUES, best=mark),
            }
        )
    return charts


def _title(name: str) -> str:
    words = {
        "lr": "learning rate",
        "memory_gb": "memory, GB",
        "gpu_percent": "GPU utilisation, %",
        "loading_percent": "waiting for data, % of a step",
        "slowest_rank": "slowest process",
        "idle_percent": "waiting for the slowest process, %",
        "f_max": "Fmax",
        "aupr_micro": "AUPR micro",
        "aupr_macro": "AUPR macro",
    }
    name = words.get(name, name)
    if name.startswith("valid_"):
        return f"validation {_title(name.removeprefix('valid_'))}"
    return name.replace("_", " ")


def _environment(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, value in environment.items():
        if name in _SHOWN_ELSEWHERE:
            continue
        if name == "plugins" and isinstance(value, list):
            plugins = [item for item in value if isinstance(item, Mapping) and not item.get("problem")]
            used = [f"{plugin.get('name')} {plugin.get('version')}" for plugin in plugins]
            value = ", ".join(used)
        elif isinstance(value, Mapping):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        if value not in (None, ""):
            rows.append((name.replace("_", " "), str(value)))
    return rows


def _data(item: RunSummary, log: Sequence[str]) -> list[tuple[str, str]]:
    rows = [
        *_settings(item.config.get("data", {})),
        *[("account", line) for line in log if "training proteins" in line][:1],
    ]
    return [*rows, *(("damaged", problem) for problem in item.problems)]


def _settings(table: Any) -> list[tuple[str, str]]:
    values = table.items() if isinstance(table, Mapping) else [("", table)]
    return [(str(name), value if isinstance(value, str) else shown(value)) for name, value in values]


def _lines(path: Path) -> list[str]:
    """Lines of a text file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
    except OSError:
        return []
