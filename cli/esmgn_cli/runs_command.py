"""``esmgn runs`` and ``esmgn report``: list, compare and report runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.errors import SettingsError, shown
from esmgn_core.printable import counted

if TYPE_CHECKING:
    from esmgn_core.engine.runs import RunSummary
    from esmgn_core.engine.selection import Selection
    from esmgn_core.metrics import Interval

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 40


def runs(
    context: typer.Context,
    *,
    folder: Annotated[Path, typer.Option("--in", help="Folder that contains run folders.")] = Path("runs"),
) -> None:
    """List runs, newest first, with the best validation score."""
    if context.invoked_subcommand:
        return
    from esmgn_core.engine.runs import find_runs

    summaries, problems = find_runs(folder)
    for problem in problems:
        echo(f"warning: {problem}", err=True)
    if not summaries:
        echo(f"no runs in the folder {folder}; list another folder: esmgn runs --in FOLDER")
        echo("start one: esmgn run --recipe quickstart")
        return
    rows = [("run", "steps", "best", "state", "parts")]
    for item in summaries:
        best = item.best()
        text = f"{best.name} {best.value:.4f}" if best else "-"
        rows.append((item.name, str(item.steps), text, item.state, item.composition))
    block(table(rows, indent="", width=line_width()))


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, two or more.", show_default=False)],
    *,
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the test proteins.")] = 1000,
) -> None:
    """Compare runs: settings and curves of two, test scores of any number.

    Scores of the same proteins are compared in pairs, on the same resamples. Runs that differ only in their
    seed are one row.
    """
    from esmgn_core.engine.runs import RunSummary

    if len(runs) < 2:
        raise SettingsError("a comparison needs two run folders", "see all: esmgn runs")
    compared = [RunSummary.of(run) for run in runs]
    for problem in [problem for item in compared for problem in item.problems]:
        echo(f"warning: {problem}", err=True)
    if len(compared) == 2:
        _compare_training(compared[0], compared[1])
    scored = [item for item in compared if item.results.get("sets")]
    if not scored and len(compared) == 2:
        return
    if len(scored) < len(compared):
        lacking = next(item for item in compared if not item.results.get("sets"))
        echo("", f"no comparison of scores: {lacking.run.path} has none")
        return
    _compare_scores(compared, resamples)


def _compare_training(first: RunSummary, second: RunSummary) -> None:
    """Print settings that differ, and both curves."""
    from esmgn_core.engine.runs import MACHINE_VALUES, differences

    compared = first, second
    different = differences(first, second)
    for label, item in zip("AB", compared, strict=True):
        echo(f"{label}  {item.run.path}: {counted(item.steps, 'step')}, {item.state}")
        if best := item.best():
            echo(f"   best encoder: {selected(best)}")
    echo("")
    if different:
        rows = [("setting", "A", "B"), *((name, _value(a), _value(b)) for name, a, b in different)]
        block(table(rows, indent="", width=line_width()))
    else:
        echo("no setting differs")
    curves = first.curves(), second.curves()
    left_out = {"lr", *MACHINE_VALUES}
    for name in [name for name in curves[0] if name in curves[1] and name not in left_out]:
        points = [curve[name] for curve in curves]
        values = [value for line in points for _, value in line]
        low, high = min(values), max(values)
        echo("", f"{name}, {low:.4f} to {high:.4f}")
        for label, line in zip("AB", points, strict=True):
            echo(f"  {label} {sparkline([v for _, v in line], low, high)}  last {line[-1][1]:.4f}")


def _compare_scores(compared: Sequence[RunSummary], resamples: int) -> None:
    """Print scores, and differences from the best with intervals and p-values."""
    from esmgn_core.host.registry import discover
    from esmgn_core.study.compare import results_of_runs
    from esmgn_core.study.render import notes
    from esmgn_core.study.table import make_table

    registry = discover()
    found = make_table(results_of_runs(compared, registry), registry, resamples=resamples)
    for column in found.columns:
        rows = [(column.title, "seeds", "score", "95 %", "difference from the best", "95 %", "p")]
        for row in found.rows:
            if (entry := found.entries.get((row, column))) is None:
                continue
            spread = "" if entry.deviation is None else f" ± {entry.deviation:.3f}"
            rows.append(
                (
                    *(row, str(len(entry.values)), f"{entry.mean:.3f}{spread}", _interval(entry.interval)),
                    "best" if entry.best else f"{entry.difference:+.3f}",
                    _interval(entry.difference_interval),
                    "" if entry.p is None else f"{entry.p:.3g}",
                )
            )
        echo("")
        block(table(rows, indent="", width=line_width()))
    for note in notes(found):
        echo(note)


def _interval(found: Interval | None) -> str:
    return "" if found is None else f"{found.low:.3f} to {found.high:.3f}"


def bins(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    *,
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the test proteins.")] = 1000,
) -> None:
    """Score test proteins by identity with training proteins and by pLDDT.

    Reads the data of the run again, and writes bins.json into its folder, which reports show.
    """
    from esmgn_core.engine.bins import FILE, bins_of_run, read_bins, title
    from esmgn_core.host.registry import discover
    from esmgn_core.run_folder import RunFolder

    folder = RunFolder(run)
    found, notes = bins_of_run(folder, discover(), resamples=resamples)
    metric = read_bins(folder)[1]
    for name, kinds in found.items():
        for kind, items in kinds.items():
            rows = [(f"{name}, {kind}", "predictions", metric, "95 %")]
            for item in items:
                numbers = item.scores.get(metric, {})
                value = numbers.get("value")
                between = f"{numbers['low']:.3f} to {numbers['high']:.3f}" if "low" in numbers else ""
                score = "-" if value is None else f"{value:.3f}"
                rows.append((title(kind, item.low), f"{item.number:,}", score, between))
            block(table(rows, indent="", width=line_width()))
            echo("")
    for note in notes:
        echo(f"note: {note}")
    echo(f"written: {run / FILE}")


def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Page to write. Default: report.html in the run folder."),
    ] = None,
) -> None:
    """Write an HTML page about a run, with its curves.

    The page opens without a network.
    """
    from esmgn_core.engine.runs import RunSummary
    from esmgn_core.machine.files import write_atomically
    from esmgn_core.pages.run import run_page

    path = out or run / "report.html"
    summary = RunSummary.of(run)
    for problem in summary.problems:
        echo(f"warning: {problem}", err=True)
    write_atomically(path, run_page(summary))
    echo(path)


def sparkline(values: list[float], low: float, high: float, width: int = _CURVE_WIDTH) -> str:
    """Draw values as a line of bars, each the mean of neighbouring values.

    >>> sparkline([0.0, 1.0, 2.0, 3.0], 0.0, 3.0)
    '▁▃▆█'
    """
    count = min(width, len(values))
    cuts = [round(number * len(values) / count) for number in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    scale = (len(_BARS) - 1) / ((high - low) or 1.0)
    return "".join(_BARS[min(len(_BARS) - 1, max(0, round((mean - low) * scale)))] for mean in means)


def selected(best: Selection) -> str:
    """Text for the value that selected an encoder, and its step.

    >>> from esmgn_core.engine.selection import Selection
    >>> selected(Selection(120, "valid_f_max", 0.7))
    'valid_f_max 0.7000 at step 120'
    """
    return f"{best.name} {best.value:.4f} at step {best.step}"


def _value(value: object) -> str:
    return "-" if value is None else shown(value)
