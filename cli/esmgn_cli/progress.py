"""Progress display and summary of a run."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import typer
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from esmgn_cli.launch import report_to_launcher
from esmgn_cli.render import block, console, echo, line_width, numbers_table
from esmgn_cli.runs_command import selected, sparkline
from esmgn_core import hookimpl
from esmgn_core.engine.evaluate import Report
from esmgn_core.engine.interruption import exit_status
from esmgn_core.engine.runs import MACHINE_VALUES
from esmgn_core.engine.selection import Selection
from esmgn_core.engine.session import Outcome
from esmgn_core.host.registry import Registry, suggested_composition
from esmgn_core.machine.gpu import has_gpu
from esmgn_core.printable import counted, printable
from esmgn_core.run_folder import RunFolder

_SECONDS_BETWEEN_LINES = 10.0
_ROWS_IN_SUMMARY = 8
_LABELS_SHOWN = 6
_CURVE_POINTS, _CURVE_WIDTH = 64, 16
_NOT_IN_SUMMARY = {"lr", *MACHINE_VALUES} - {"residues_per_second"}
_HIDDEN = {"epoch", "lr", "loading_percent"}
_VALID = "valid_"
_TEXTS = {
    "residues_per_second": "{:,.0f} residues/s",
    "memory_gb": "{:.1f} GB",
    "gpu_percent": "GPU {:.0f} %",
    "slowest_rank": "slowest process {:.0f}",
    "idle_percent": "{:.0f} % idle",
}
"""Formats of values about the machine. Other values are printed with their names."""


class _LossCurve:
    """A curve with a bounded number of points; each is the mean of equally many steps."""

    def __init__(self) -> None:
        self._means: list[float] = []
        self._open: list[float] = []
        self._steps_per_point = 1

    def add(self, value: float) -> None:
        """Add the value of a step; values that are not finite are ignored."""
        if not math.isfinite(value):
            return
        self._open.append(value)
        if len(self._open) == self._steps_per_point:
            self._means.append(fmean(self._open))
            self._open.clear()
        if len(self._means) == _CURVE_POINTS:
            self._means = [fmean(pair) for pair in zip(self._means[::2], self._means[1::2], strict=True)]
            self._steps_per_point *= 2

    def __str__(self) -> str:
        points = self._means or self._open
        return sparkline(points, min(points), max(points), _CURVE_WIDTH) if points else ""


class _Bar(Progress):
    """A progress bar, with the loss curve, the last validation and the machine's load below it.

    Each is on a separate line, so that a narrow terminal does not cut off the validation.
    """

    curve = values = validation = machine = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        lines = [Text.assemble((self.curve, "cyan"), "  ", self.values)] * bool(self.curve)
        lines += [Text(self.validation)] * bool(self.validation)
        lines += [Text(self.machine, style="dim")] * bool(self.curve)
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line


class ProgressDisplay:
    """Observer that draws a progress bar on a terminal and prints plain lines elsewhere."""

    def __init__(self, console: Console, first_line: str = "") -> None:
        self._console = console
        self._first_line = first_line
        self._last_line = float("-inf")
        self._total_steps = 0
        self._losses = _LossCurve()
        self._validation: dict[str, float] = {}
        self._bar = _Bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )

    def begin(self) -> None:
        """Print the first line, once."""
        if self._first_line:
            self._print(self._first_line)
            self._first_line = ""

    @hookimpl
    def esmgn_run_started(self, run: RunFolder, total_steps: int, first_step: int) -> None:
        """Print the run folder and start the bar."""
        report_to_launcher(run=str(run.path.absolute()), started=time.time_ns())
        self.begin()
        self._print(f"run folder {run.path}, {counted(total_steps, 'step')}")
        if run.labels.is_file():
            names = run.recorded_labels()[1]
            more = f" and {len(names) - _LABELS_SHOWN} more" if len(names) > _LABELS_SHOWN else ""
            self._print(f"labels: {', '.join(names[:_LABELS_SHOWN])}{more}")
        self._total_steps = total_steps
        self._task = self._bar.add_task("train", total=total_steps, completed=first_step)
        if self._console.is_terminal:
            self._bar.start()

    @hookimpl
    def esmgn_metrics_logged(self, step: int, values: Mapping[str, float]) -> None:
        """Move the bar, or print a line every 10 seconds."""
        self._validation |= {name: value for name, value in values.items() if name.startswith(_VALID)}
        latest = {name: value for name, value in values.items() if name not in {*_HIDDEN, *self._validation}}
        machine = _joined({name: value for name, value in latest.items() if name in MACHINE_VALUES})
        training = _joined({name: value for name, value in latest.items() if name not in MACHINE_VALUES})
        validated = _joined({name.removeprefix(_VALID): value for name, value in self._validation.items()})
        validation = f"validation  {validated}" * bool(validated)
        self._losses.add(values.get("loss", math.nan))
        self._bar.curve, self._bar.values = str(self._losses), training
        self._bar.validation, self._bar.machine = validation, machine
        self._bar.update(self._task, completed=step)
        due = time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES
        if not self._console.is_terminal and (due or step == self._total_steps):
            self._last_line = time.monotonic()
            parts = (f"step {step}/{self._total_steps}", training, validation, machine)
            self._print("  ".join(filter(None, parts)))

    @hookimpl
    def esmgn_notice(self, text: str) -> None:
        """Print the notice, above the bar if there is one."""
        self.begin()
        self._print(f"note: {text}")

    @hookimpl
    def esmgn_run_finished(self) -> None:
        """Stop the bar."""
        if self._console.is_terminal:
            self._bar.stop()

    def _print(self, text: str) -> None:
        self._console.print(printable(text), soft_wrap=True)


def _joined(values: Mapping[str, float]) -> str:
    return "  ".join(_TEXTS.get(name, f"{name} {{:.4f}}").format(value) for name, value in values.items())


@contextmanager
def progress_shown(registry: Registry, made_up: str = "") -> Iterator[None]:
    """Show the progress of runs inside the block, on stderr.

    Args:
        registry: the display is registered as one of its observers.
        made_up: warning about made-up data, printed first.
    """
    stderr = console(err=True)
    display = ProgressDisplay(stderr, f"data: {made_up}" if made_up else "")
    if stderr.is_terminal and os.environ.get("RANK", "0") == "0":
        display.begin()
        stderr.print("preparing proteins and model")
    registry.manager.register(display)
    try:
        yield
    finally:
        registry.manager.unregister(display)


def finish(outcome: Outcome, *, made_up: bool = False) -> None:
    """Print the summary of a run; exit with the signal's status if a signal stopped it."""
    if outcome.is_main:
        _print_losses(outcome.run.read_metrics(), Selection.recorded(outcome.run.model))
        _print_report(outcome.report)
        lines = _stopped(outcome) if outcome.signal else _finished(outcome, made_up=made_up)
        echo("", *lines)
    if outcome.signal:
        raise typer.Exit(exit_status(outcome.signal))


def _stopped(outcome: Outcome) -> Iterator[str]:
    yield f"stopped and saved at step {outcome.progress.step} of {outcome.num_steps}"
    yield f"resume it: {_program()} run --resume {shlex.quote(str(outcome.run.path))}"


def _finished(outcome: Outcome, *, made_up: bool) -> Iterator[str]:
    run = outcome.run
    yield f"finished {counted(outcome.progress.step, 'step')}; run folder: {run.path}"
    if best := Selection.recorded(run.model):
        yield f"best encoder ({selected(best)}): {run.model}"
    if outcome.report:
        yield f"scores with intervals: {run.results}; predictions: {run.predictions}"
    if run.refused.exists():
        num_refused = len(run.refused.read_text(encoding="utf-8").splitlines()) - 1
        yield f"{counted(num_refused, 'structure file')} left out, with reasons: {run.refused}"
    source = run.started_from()
    init = f" --init {shlex.quote(source['path'])}" if source else ""
    yield f"repeat it: {_program()} run {shlex.quote(str(run.config))}{init}"
    if made_up:
        yield ""
        yield "these proteins are made up; to train on your structures, with published weights:"
        yield f"  {_program()} run {_composition()} --data FOLDER_OF_PDB_FILES"


def _composition() -> str:
    """Flags for a model with published weights that this machine can train."""
    frozen = "" if has_gpu() else " --set optim.seq_lr_scale=0"
    return suggested_composition() + frozen


def _program() -> str:
    """Command that calls this program: its name, or its path if the shell does not find it by name."""
    called = Path(sys.argv[0])
    if called.name != "esmgn" or shutil.which("esmgn"):
        return "esmgn"
    return shlex.quote(str(called))


def _print_losses(lines: list[dict[str, float]], best: Selection | None = None) -> None:
    """Print a table of a few rows: means over the steps since the previous row, and the last validation.

    One row ends at the step of the best encoder, and shows the value that selected it.
    """
    lines = [line for line in lines if "loss" in line]
    if not lines:
        return
    names = list(dict.fromkeys(name for line in lines for name in line if _is_shown(name)))
    num_rows = min(len(lines), _ROWS_IN_SUMMARY)
    borders = {round(row * len(lines) / num_rows) for row in range(num_rows + 1)}
    borders |= {number for number, line in enumerate(lines, 1) if best and line["step"] == best.step}
    rows = [
        [name.replace("residues_per_second", "residues/s").replace(_VALID, "validation ") for name in names]
    ]
    marks = [""]
    for first, last in pairwise(sorted(borders)):
        rows.append([_cell(name, lines[first:last]) for name in names])
        marks.append("best" * bool(best and lines[last - 1]["step"] == best.step))
    if any(marks):
        rows = [[*row, mark] for row, mark in zip(rows, marks, strict=True)]
    block(numbers_table(rows, width=line_width()))


def _is_shown(name: str) -> bool:
    return name not in _NOT_IN_SUMMARY and not name.startswith("test")


def _print_report(report: Report) -> None:
    """Print a table of scores with their intervals, for each test set."""
    if not report:
        return
    names = list(next(iter(report.values())))
    size = max(map(len, names))
    rows = [("".ljust(size), *report)]
    rows += [
        (f"{name:{size}}", *(_score(scores.get(name, {})) for scores in report.values())) for name in names
    ]
    block("\n" + numbers_table(rows, width=line_width()))


def _score(numbers: Mapping[str, float]) -> str:
    if "value" not in numbers:
        return ""
    between = f" ({numbers['low']:.3f} to {numbers['high']:.3f})" if "low" in numbers else ""
    if "without_interval" in numbers:
        between = f" (no interval: n = {numbers['without_interval']:.0f})"
    return f"{numbers['value']:.4f}{between}"


def _cell(name: str, lines: list[dict[str, float]]) -> str:
    values = [line[name] for line in lines if name in line]
    if not values:
        return ""
    if name in {"step", "epoch"}:
        return f"{values[-1]:.0f}"
    value = values[-1] if name.startswith(_VALID) else fmean(values)
    return f"{value:.0f}" if name == "residues_per_second" else f"{value:.4f}"
