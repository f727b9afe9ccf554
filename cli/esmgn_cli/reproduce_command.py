"""``esmgn reproduce``: repeat a published result and compare it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esmgn_cli import composition
from esmgn_cli.render import echo
from esmgn_cli.study_command import run_command
from esmgn_core.errors import RunError
from esmgn_core.host.registry import discover

_FAILED = 1


def reproduce(
    task: Annotated[str, typer.Argument(help="ec, go_mf, go_bp, go_cc, psr or msp.")],
    *,
    row: Annotated[str, typer.Option(help="Published row, such as GearNet.")] = "ESM-GearNet serial",
    assignments: composition.Assignments = None,
    gpus: composition.Gpus = None,
    folder: Annotated[Path, typer.Option("--folder", help="Folder of the runs.", show_default=True)] = Path(
        "studies/reproduce"
    ),
) -> None:
    """Repeat a published result, and report whether the score is in the expected band.

    Weights and data are downloaded and their checksums verified. The published recipe is for four GPUs; with
    --set, the result is compared too, and the message lists what differs. The command can be stopped at any
    time; the same command continues.
    """
    from esmgn_core.host.configure import parse_assignments
    from esmgn_core.study.folder import StudyFolder
    from esmgn_core.study.reproduce import compare, published_cell
    from esmgn_core.study.results import read_results
    from esmgn_core.study.run import Places, run_cells

    registry, place = discover(), StudyFolder(folder)
    cell, value = published_cell(task, row, parse_assignments(assignments or []), registry)
    echo(f"{row} on {task}: run {cell.id} in {folder}")
    echo(f"expected: {value.metric} {value.value:.3f} ± {value.band:g}")
    echo(f"published: {value.source}", f"log: {place.log(cell)}")
    with place.locked():
        try:
            run_cells([cell], place, run_command(gpus or 1), Places(1), lambda *_: None, retry=True)
        except KeyboardInterrupt:
            echo("stopped; the same command continues", err=True)
            raise typer.Exit(130) from None
    results = read_results([cell], place)
    if not results.cells:
        failure = place.failure(cell)
        reason = failure.read_text(encoding="utf-8").splitlines() if failure.is_file() else []
        raise RunError(
            f"the run has not finished: {place.state(cell)}", *reason[-5:], f"see: {place.log(cell)}"
        )
    verdict = compare(results.cells[0], value, registry)
    echo(f"{'pass' if verdict.passed else 'fail'}: {verdict.text}")
    for difference in verdict.not_comparable:
        echo(f"not comparable: {difference}")
    if not verdict.passed:
        raise typer.Exit(_FAILED)
