"""``esmgn runs`` and ``esmgn report``: list, compare and report runs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.errors import shown
from esmgn_core.printable import counted

if TYPE_CHECKING:
    from esmgn_core.engine.selection import Selection

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
    first: Annotated[Path, typer.Argument(help="First run folder.")],
    second: Annotated[Path, typer.Argument(help="Second run folder.")],
) -> None:
    """Compare the settings and curves of two runs."""
    from esmgn_core.engine.runs import MACHINE_VALUES, RunSummary, differences

    compared = RunSummary.of(first), RunSummary.of(second)
    for problem in [problem for item in compared for problem in item.problems]:
        echo(f"warning: {problem}", err=True)
    different = differences(*compared)
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
    curves = compared[0].curves(), compared[1].curves()
    left_out = {"lr", *MACHINE_VALUES}
    for name in [name for name in curves[0] if name in curves[1] and name not in left_out]:
        points = [curve[name] for curve in curves]
        values = [value for line in points for _, value in line]
        low, high = min(values), max(values)
        echo("", f"{name}, {low:.4f} to {high:.4f}")
        for label, line in zip("AB", points, strict=True):
            echo(f"  {label} {sparkline([v for _, v in line], low, high)}  last {line[-1][1]:.4f}")


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
