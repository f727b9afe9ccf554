"""``esmgn evaluate``: compare the scores of a model with measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esmgn_cli import model_options
from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.errors import RunError, SettingsError

if TYPE_CHECKING:
    from esmgn_core.inference.mutate.fitness import Correlation


def proteingym(
    folder: Annotated[Path, typer.Argument(help="Folder of mutational scans.", show_default=False)],
    *,
    reference: Annotated[
        Path | None, typer.Option(help="ProteinGym's DMS_substitutions.csv.", show_default=False)
    ] = None,
    model: model_options.Folder = None,
    seq: model_options.Seq = None,
    struct: model_options.Struct = None,
    fuse: model_options.Fuse = None,
    graph: model_options.Graph = None,
    changes: model_options.Changes = None,
    out: model_options.Table = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the scores of all variants; what it has is not scored again.", show_default=False
        ),
    ] = None,
    max_residues: model_options.MaxResidues = 4096,
    device: model_options.Device = "auto",
) -> None:
    """Correlate masked-marginal scores with mutational scans.

    Reads each table below FOLDER with the columns mutant and DMS_score, or hgvs_pro and score, and the
    structure and sequence beside it. Tables of whole sequences (mutated_sequence) are scored by
    pseudo-likelihood. Prints Spearman's correlation, and with ProteinGym's reference file the average of its
    leaderboard. Rows that are not substitutions (wild type, stop codons, deletions) are left out and counted.
    """
    from esmgn_core.inference.mutate.assays import find_assays, reference_of
    from esmgn_core.inference.mutate.benchmark import ScoreFolder
    from esmgn_core.inference.mutate.fitness import Correlation, correlate, rank_correlation
    from esmgn_core.inference.mutate.scorer import load_scorer
    from esmgn_core.inference.tables import check_table_path, write_table
    from esmgn_core.io.notes import group_notes

    if out:
        check_table_path(out)
    assays = find_assays(folder, reference)
    name = model_options.model_name(model, seq=seq, struct=struct, fuse=fuse, graph=graph, changes=changes)
    scorer = load_scorer(name, device=device)
    folder_of_model = scorer.model.folder
    about = {
        "scored_by": scorer.described,
        "model": name.record(),
        "model_sha256": folder_of_model.sha256() if folder_of_model else "",
        "random_weights": [*scorer.random_parts],
    }
    saved = ScoreFolder(scores, about) if scores else None
    results = []
    for assay in assays:
        if saved and (known := saved.read(assay.name)):
            value, problem = rank_correlation(known)
            notes = ("scored by an earlier run of this command",)
            results.append(Correlation(assay.name, len(known.variants), value, {}, problem, notes))
            continue
        with model_options.bar(assay.name) as report:
            results.append(correlate(scorer, assay, max_residues=max_residues, progress=report))
        if saved and (computed := results[-1].scored):
            saved.write(assay.name, computed)
    rows = [_row(item, scorer.random_parts) for item in results]
    model_options.warn_of_random(scorer.random_parts)
    model_options.show_notes(group_notes((item.name, item.notes) for item in results))
    echo(f"scored by: {scorer.described}")
    block(_text(results))
    if found := reference or reference_of(folder):
        _print_average({item.name: item.spearman for item in results}, found)
    if out:
        write_table(
            rows, out, about={"scored_by": scorer.described, "random_weights": list(scorer.random_parts)}
        )
        echo(f"written: {out}")
    if all(item.problem for item in results):
        raise typer.Exit(1)


def ensemble(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of --scores, two or more.", show_default=False)
    ],
    *,
    reference: Annotated[
        Path | None, typer.Option(help="ProteinGym's DMS_substitutions.csv.", show_default=False)
    ] = None,
) -> None:
    """Correlate the mean rank of several models with mutational scans.

    Reads folders that esmgn evaluate proteingym --scores wrote.
    """
    from esmgn_core.inference.mutate.benchmark import ScoreFolder
    from esmgn_core.inference.mutate.benchmark import ensemble as mean_ranks

    if len(folders) < 2:
        raise SettingsError(
            "an ensemble needs two folders of scores", "write them by: proteingym --scores DIR"
        )
    found = [ScoreFolder(folder) for folder in folders]
    if empty := [folder.path for folder in found if not folder.names]:
        raise RunError(f"{empty[0]} has no scores", "write them by: esmgn evaluate proteingym --scores DIR")
    results = list(mean_ranks(found))
    rows = [("assay", "spearman", "variants")]
    for name, value, number in results:
        rows.append((name, f"{value:.4f}" if math.isfinite(value) else "-", str(number)))
    block(table(rows, indent="", width=line_width()))
    lacking = len({name for folder in found for name in folder.names}) - len(results)
    if lacking:
        echo(f"note: {lacking} assays are not in all folders")
    if reference:
        _print_average({name: value for name, value, _ in results}, reference)


def _print_average(values: dict[str, float], reference: Path) -> None:
    """Print the average as on ProteinGym's leaderboard, beside public values."""
    from esmgn_core.inference.mutate.benchmark import SOURCE, average, leaderboard

    found = average(values, reference)
    if found is None:
        return
    whole = found.num_assays == found.num_reference
    echo("", f"ProteinGym: {found.num_assays} of {found.num_reference} assays")
    functions = [*leaderboard()[0]][2:]
    rows = [("model", "average", *functions)]
    own = [f"{found.functions[name]:.3f}" if name in found.functions else "-" for name in functions]
    rows.append(("this", f"{found.mean:.3f}", *own))
    if whole:
        rows += [
            (item["model"], item["average"], *(item[name] for name in functions)) for item in leaderboard()
        ]
    block(table(rows, indent="", width=line_width()))
    echo("averaged over assays of a protein and function, then proteins, then functions")
    echo(
        f"public values: {SOURCE}"
        if whole
        else "not comparable with public values, which are over all assays"
    )


def _row(item: Correlation, random_parts: Sequence[str]) -> dict[str, Any]:
    """A row of the output table."""
    return {
        "assay": item.name,
        "spearman": round(item.spearman, 4) if math.isfinite(item.spearman) else None,
        "variants": item.num_variants,
        "left_out": item.num_left_out,
        "reasons": _reasons(item),
        "numbering": item.numbering,
        "weights": f"RANDOM ({', '.join(random_parts)})" if random_parts else "trained",
        "note": item.problem,
    }


def _text(results: Sequence[Correlation]) -> str:
    """Table of scores, followed by notes on each scan."""
    shown = [("assay", "spearman", "variants", "left out")]
    for item in results:
        value = "-" if item.problem else f"{item.spearman:.4f}"
        shown.append((item.name, value, str(item.num_variants), str(item.num_left_out)))
    good = [item.spearman for item in results if not item.problem]
    if good:
        shown.append(("mean", f"{sum(good) / len(good):.4f}", "", ""))
    notes = [(item.name, "; ".join(_notes(item))) for item in results]
    scores, how = (table(rows, indent="", width=line_width()) for rows in (shown, notes))
    return f"{scores}\n\n{how}"


def _notes(item: Correlation) -> Iterator[str]:
    if item.problem:
        yield item.problem
    if item.numbering:
        yield f"numbered by {item.numbering}"
    if item.left_out:
        yield f"left out: {_reasons(item)}"


def _reasons(item: Correlation) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in item.left_out.items())


COMMANDS: dict[str, Callable[..., None]] = {"proteingym": proteingym, "ensemble": ensemble}
