"""``esmgn study``: run a grid of components, settings and seeds, and compare the results."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli.completion import study_names
from esmgn_cli.render import block, echo, line_width, numbers_table, table
from esmgn_core.errors import RunError, SettingsError, did_you_mean
from esmgn_core.host.registry import discover
from esmgn_core.printable import counted

if TYPE_CHECKING:
    from esmgn_core.study.folder import State, StudyFolder
    from esmgn_core.study.plan import Cell
    from esmgn_core.study.results import Results
    from esmgn_core.study.table import Table

_FAILED, _REQUEUE = 1, 75

File = Annotated[Path, typer.Argument(metavar="STUDY.toml", help="Study file.")]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Folder of the study's runs. Default: studies/NAME.", show_default=False),
]

Metric = Annotated[
    str | None,
    typer.Option(help="Score to compare. Default: the one that selects encoders.", show_default=False),
]


def new(
    name: Annotated[str, typer.Argument(help="A shipped study, such as smoke.", autocompletion=study_names)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write. Default: NAME.toml.", show_default=False),
    ] = None,
) -> None:
    """Write a study file from a shipped study, to be edited and run.

    Example: esmgn study new smoke; esmgn study run smoke.toml.
    """
    from esmgn_core.machine.files import write_atomically
    from esmgn_core.study.shipped import shipped_studies

    studies = shipped_studies()
    if name not in studies:
        raise SettingsError(
            f"no shipped study is called '{name}'",
            *did_you_mean(name, studies),
            f"available: {', '.join(studies)}",
        )
    path = out or Path(f"{name}.toml")
    if path.exists():
        raise SettingsError(f"{path} exists", "name another file: --out FILE")
    write_atomically(path, studies[name].read_text(encoding="utf-8"))
    echo(f"written: {path}", f"see its cells: esmgn study status {path}", f"run it: esmgn study run {path}")


def run(
    file: File,
    *,
    folder: Folder = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    gpus: Annotated[
        str | None,
        typer.Option(help="GPUs to divide among the jobs, such as 0,1,2,3.", show_default=False),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="processes of this machine, ray, or slurm: write job arrays.")
    ] = "processes",
    gpus_per_run: Annotated[
        int | None, typer.Option(min=1, help="GPUs of each run, of ray and slurm.", show_default=False)
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed cells again.")] = False,
    cell: Annotated[
        str | None,
        typer.Option(help="Run only the cell with this id, as a cluster does.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Estimate hours by a measured probe, and disk space; do not train."),
    ] = False,
) -> None:
    """Run the cells of a study that are not done.

    A failed cell is recorded, and the others go on. The command can be stopped or killed at any time; the
    same command continues.
    """
    from esmgn_core.errors import check_choice
    from esmgn_core.study.launchers import EXECUTORS, local_process, ray_launcher, write_slurm_jobs
    from esmgn_core.study.run import Places, run_cells

    check_choice("executor", executor, EXECUTORS, "--executor")
    cells, place = _opened(file, folder)
    if cell is not None:
        cells = [_cell(cells, cell)]
    if dry_run:
        _dry_run(cells, place, jobs)
        return
    devices = _numbers(gpus)
    if devices and len(devices) % jobs:
        raise SettingsError(
            f"{len(devices)} GPUs cannot be divided among {jobs} jobs", "change --jobs or --gpus"
        )
    each = gpus_per_run or len(devices) // jobs
    if executor == "slurm":
        todo = [item for item in cells if place.state(item) != "done"]
        job = [sys.executable, "-m", "esmgn_cli", "study", "run", str(file.absolute())]
        job += ["--folder", str(place.path.absolute()), *(["--gpus-per-run", str(each)] if each > 1 else [])]
        script = write_slurm_jobs(todo, place, [*job, "--cell"], jobs=jobs, gpus=each)
        echo(f"{counted(len(todo), 'cell')} to run; submit them: bash {script}")
        return
    starts = ray_launcher(jobs, each) if executor == "ray" else nullcontext(local_process)
    # Jobs of a cluster run single cells at the same time: each run has a lock.
    with nullcontext() if cell else place.locked(), starts as launch:
        try:
            places, report = Places(jobs, devices), _reporter(cells, place)
            run_cells(cells, place, run_command(each), places, report, retry=retry, launch=launch)
        except KeyboardInterrupt:
            echo(f"stopped; continue: esmgn study run {file}", err=True)
            raise typer.Exit(_REQUEUE if cell else 130) from None
    states = _print_states(cells, place)
    echo(f"results: esmgn study table {file}")
    if states["failed"]:
        raise typer.Exit(_FAILED)


def status(file: File, *, folder: Folder = None) -> None:
    """List the cells of a study with their states."""
    cells, place = _opened(file, folder)
    rows = [("id", "stage", "state", "cell")]
    rows += [(cell.id, cell.stage, place.state(cell), ", ".join(cell.labels.values())) for cell in cells]
    block(table(rows, indent="", width=line_width()))
    echo("")
    _print_states(cells, place)


def tabulate(
    file: File,
    *,
    folder: Folder = None,
    metric: Metric = None,
    style: Annotated[str, typer.Option("--format", help="text, markdown, latex or csv.")] = "text",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write instead of printing.", show_default=False),
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples; 0: no intervals.")] = 1000,
) -> None:
    """Compare the rows of a study: mean, deviation, intervals, paired tests, published values.

    The numbers are read from the run folders.
    """
    from esmgn_core.errors import check_choice
    from esmgn_core.machine.files import write_atomically
    from esmgn_core.study import render

    check_choice("format", style, render.FORMATS, "--format")
    cells, place = _opened(file, folder)
    _, found = _results(cells, place, file, metric, resamples=resamples)
    written = {"markdown": render.as_markdown, "latex": render.as_latex, "csv": render.as_csv}
    if style in written:
        text = written[style](found)
    else:
        lines = [
            numbers_table(render.cell_rows(found, bold="{} best"), width=line_width()),
            "",
            *render.notes(found),
        ]
        text = "\n".join(lines) + "\n"
    if out is None:
        block(text)
    else:
        write_atomically(out, text)
        echo(f"written: {out}")


def plot(
    file: File,
    *,
    folder: Folder = None,
    metric: Metric = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder of the plots. Default: plots of the study.", show_default=False
        ),
    ] = None,
) -> None:
    """Draw the results of a study: one SVG file for each chart."""
    from esmgn_core.machine.files import write_atomically
    from esmgn_core.pages.chart import standalone
    from esmgn_core.pages.study import study_charts

    cells, place = _opened(file, folder)
    results, found = _results(cells, place, file, metric, resamples=1000)
    target = out or place.path / "plots"
    target.mkdir(parents=True, exist_ok=True)
    for charts in study_charts(results, found).values():
        for chart in charts:
            write_atomically(target / f"{chart.name}.svg", standalone(chart.svg))
            echo(f"written: {target / f'{chart.name}.svg'}")


def report(
    file: File,
    *,
    folder: Folder = None,
    metric: Metric = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Page to write. Default: report.html of the study.", show_default=False
        ),
    ] = None,
) -> None:
    """Write an HTML page with the tables and charts of a study.

    The page opens without a network.
    """
    from esmgn_core.machine.files import write_atomically
    from esmgn_core.pages.study import study_page
    from esmgn_core.study.plan import Study

    cells, place = _opened(file, folder)
    results, found = _results(cells, place, file, metric, resamples=1000)
    path = out or place.path / "report.html"
    write_atomically(path, study_page(Study.read(file), results, found))
    echo(f"written: {path}")


def _results(
    cells: Sequence[Cell], place: StudyFolder, file: Path, metric: str | None, *, resamples: int
) -> tuple[Results, Table]:
    """The finished cells and their table.

    Raises:
        RunError: no cell is finished, or none has the score.
    """
    from esmgn_core.study.results import read_results
    from esmgn_core.study.table import make_table

    results = read_results(cells, place)
    found = make_table(results, discover(), metric=metric, resamples=resamples)
    if not found.entries:
        wanted = f" with the score '{metric}'" if metric else ""
        raise RunError(f"the study has no finished cell{wanted}", f"see: esmgn study status {file}")
    return results, found


def _opened(file: Path, folder: Path | None) -> tuple[list[Cell], StudyFolder]:
    """The cells of a study and its folder."""
    from esmgn_core.study.folder import StudyFolder
    from esmgn_core.study.plan import Study

    study = Study.read(file)
    return study.cells(discover()), StudyFolder(folder or Path("studies") / study.name)


def _cell(cells: Sequence[Cell], name: str) -> Cell:
    for cell in cells:
        if cell.id == name:
            return cell
    raise SettingsError(f"the study has no cell '{name}' (--cell)", "see: esmgn study status STUDY.toml")


def run_command(gpus: int) -> Callable[[Sequence[str]], list[str]]:
    """The command line of ``esmgn run`` on this number of GPUs, for its other arguments."""
    launch = ["--gpus", str(gpus)] if gpus > 1 else []
    return lambda arguments: [sys.executable, "-m", "esmgn_cli", "run", *arguments, *launch]


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise SettingsError(f"cannot read --gpus '{text}'", "expected numbers, such as 0,1,2,3") from None


def _reporter(cells: Sequence[Cell], place: StudyFolder) -> Callable[[Cell, State, float], None]:
    number = {cell.id: position for position, cell in enumerate(cells, 1)}

    def report(cell: Cell, state: State, seconds: float) -> None:
        if state == "running":
            return
        echo(f"{number[cell.id]}/{len(cells)} {state}  {cell}  {seconds:.0f} s")
        if state == "failed":
            echo(f"  see {place.failure(cell)}", err=True)

    return report


def _print_states(cells: Sequence[Cell], place: StudyFolder) -> Mapping[str, int]:
    states = Counter[str](place.state(cell) for cell in cells)
    echo(f"{counted(len(cells), 'cell')}: {', '.join(f'{states[name]} {name}' for name in states)}")
    return states


def _dry_run(cells: Sequence[Cell], place: StudyFolder, jobs: int) -> None:
    from esmgn_core.study.cost import measured

    todo = [cell for cell in cells if place.state(cell) not in ("done", "running")]
    _print_states(cells, place)
    if not todo:
        return
    costs = measured(discover(), todo)
    rows = [("stage", "cell", "steps", "minutes", "MB")]
    for cell in todo:
        cost = costs[cell.id]
        numbers = str(cost.steps), f"{cost.seconds / 60:.1f}", f"{cost.megabytes:.1f}"
        rows.append((cell.stage, ", ".join(cell.labels.values()), *numbers))
    block(table(rows, indent="", width=line_width()))
    hours = sum(cost.seconds for cost in costs.values()) / 3600
    echo(
        "",
        f"training: {hours:.2f} hours one after another, at best {hours / jobs:.2f} with --jobs {jobs}",
        "measured on this machine with one run at a time, without validation, tests and starts",
        f"disk: {sum(cost.megabytes for cost in costs.values()) / 1000:.2f} GB",
    )


COMMANDS: dict[str, Callable[..., None]] = {
    "new": new,
    "run": run,
    "status": status,
    "table": tabulate,
    "plot": plot,
    "report": report,
}
