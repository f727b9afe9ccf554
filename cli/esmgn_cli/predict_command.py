"""``esmgn predict``: predict labels of structures with a fine-tuned run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esmgn_cli import model_options
from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.errors import RunError
from esmgn_core.printable import counted

if TYPE_CHECKING:
    from esmgn_core.batch import Protein
    from esmgn_core.inference.predict.page import PageEntry
    from esmgn_core.inference.predict.predictor import Prediction, Predictor
    from esmgn_core.io import Refusal


def predict(
    task: Annotated[
        str, typer.Argument(help="Folder of a fine-tuned run, or a task such as ec.", show_default=False)
    ],
    paths: Annotated[list[Path], typer.Argument(help="Structure files and folders.", show_default=False)],
    *,
    count: Annotated[
        int,
        typer.Option(
            "--count", "-k", min=1, help="Show so many labels of each protein, and all predicted ones."
        ),
    ] = 5,
    out: model_options.Table = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="HTML page with 3D structures to write.", show_default=False)
    ] = None,
    device: model_options.Device = "auto",
) -> None:
    """Predict labels of structures with a fine-tuned run.

    Scores are calibrated on the validation set of the run. A label is predicted if its score reaches the
    threshold that maximises Fmax on that set. If the set is too small, there are only scores, and a warning.
    The page colours structures by pLDDT and by the contribution of each residue to the first label.

    Examples: esmgn predict runs/NAME structures/ -o labels.csv --html labels.html; esmgn predict ec
    1abc.pdb.
    """
    from esmgn_core.inference.inputs import find_inputs
    from esmgn_core.inference.model import ModelName, plan_model
    from esmgn_core.inference.predict.page import write_page
    from esmgn_core.inference.predict.predictor import Predictor, check_predicts, find_run, predict_files
    from esmgn_core.inference.tables import write_table
    from esmgn_core.io.folders import passed_over_text
    from esmgn_core.io.notes import group_notes

    _check_files(out, page)
    run = find_run(task)
    check_predicts(run)
    plan = plan_model(ModelName(folder=str(run)))
    skipped = Counter[str]()
    inputs = find_inputs(
        paths,
        sequence_only=plan.sequence_only,
        features=plan.features,
        formats=plan.formats,
        passed_over=skipped,
    )
    if page and (sequences := [item for item in inputs if item.sequence is not None]):
        raise RunError(
            f"{sequences[0].path} holds sequences, and the page of --html draws structures",
            "leave out --html, or give structure files of these proteins (PDB or mmCIF)",
        )
    predictor = Predictor(run, device=device)
    predicted: list[tuple[Protein, list[Prediction]]] = []
    refused: list[Refusal] = []
    with model_options.bar("predicting") as report:
        for number, result in enumerate(predict_files(predictor, inputs, count=count), 1):
            predicted.append(result) if isinstance(result, tuple) else refused.append(result)
            if report:
                report(number, len(inputs))
    rows = [predictor.row(prediction) for _, predictions in predicted for prediction in predictions]
    notes = _notes(predictor)
    file_notes = group_notes((protein.name, protein.notes) for protein, _ in predicted)
    # Files first: `head` closes the output before its end.
    if out:
        write_table(rows, out, about=_about(predictor, run, refused, file_notes))
    if page and predicted:
        shown = [_shown(predictor, *item) for item in predicted]
        write_page(
            shown,
            page,
            title=f"Predictions of {run.name}",
            notes=[*notes, *file_notes],
            warnings=predictor.warnings,
        )
    echo(f"model: {run}", *notes)
    for text in predictor.warnings:
        echo(f"warning: {text}", err=True)
    model_options.show_notes(file_notes)
    _print(rows)
    _print_left_out(refused, passed_over_text(skipped))
    for path in filter(None, (out, page if predicted else None)):
        echo(f"written: {path}")
    if not predicted:
        raise typer.Exit(2)


def _print_left_out(refused: Sequence[Refusal], passed_over: str) -> None:
    for item in refused:
        echo(f"left out: {item.path}: {item.reason}", err=True)
    if passed_over:
        echo(passed_over, err=True)


def _check_files(out: Path | None, page: Path | None) -> None:
    from esmgn_core.inference.outputs import check_writable
    from esmgn_core.inference.predict.page import viewer_files
    from esmgn_core.inference.tables import check_table_path

    if out:
        check_table_path(out)
    if page:
        viewer_files()
        check_writable(page, flag="--html")


def _shown(predictor: Predictor, protein: Protein, predictions: Sequence[Prediction]) -> PageEntry:
    from esmgn_core.inference.predict.page import PageEntry

    first = predictions[0].label
    importance = predictor.importance(protein, predictor.labels.index(first))
    return PageEntry(protein, predictions, importance, first)


def _notes(predictor: Predictor) -> list[str]:
    """How the scores were calibrated, and what the page lacks."""
    calibration = predictor.calibration
    missing = "no importance of residues: the fuser does not read the output of a sequence encoder"
    unexplained = [] if predictor.explains else [missing]
    if not predictor.decides:
        return unexplained
    proteins = counted(calibration.num_proteins, "validation protein")
    fitted = f"{proteins}, temperature {calibration.temperature:.2f}"
    notes = [f"scores calibrated on {fitted}"]
    if calibration.threshold is not None:
        notes.append(
            f"threshold {calibration.threshold:.3f} (Fmax {calibration.f_max:.3f} on these proteins)"
        )
    return notes + unexplained


def _about(
    predictor: Predictor, run: Path, refused: Sequence[Refusal], notes: Sequence[str]
) -> dict[str, Any]:
    from dataclasses import asdict

    from esmgn_core.printable import printable

    left_out = [{"path": printable(item.path), "reason": item.reason} for item in refused]
    about = {
        "run": str(run),
        "calibration": asdict(predictor.calibration),
        "warnings": predictor.warnings,
        "left_out": left_out,
    }
    return about | ({"notes": list(notes)} if notes else {})


def _print(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows, and below them the caveats of single proteins."""
    header = [name for name in (rows[0] if rows else ()) if name not in ("warning", "caveat")]
    if not header:
        return
    shown = [[f"{row[name]:.3f}" if name == "score" else row[name] for name in header] for row in rows]
    block(table([header, *shown], indent="", width=line_width()))
    caveats = dict.fromkeys((row["protein"], row["caveat"]) for row in rows if row["caveat"])
    if caveats:
        block("\n" + table([("protein", "caveat"), *caveats], indent="", width=line_width()))
