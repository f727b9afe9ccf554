"""``esmgn evaluate``: compare the scores of a model with measurements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esmgn_cli import model_options
from esmgn_cli.render import block, echo, line_width, table

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
    max_residues: model_options.MaxResidues = 4096,
    device: model_options.Device = "auto",
) -> None:
    """Correlate masked-marginal scores with mutational scans.

    Reads each table below FOLDER with the columns mutant and DMS_score, or hgvs_pro and score, and the
    structure and sequence beside it. Prints Spearman's correlation. Rows that are not substitutions (wild
    type, stop codons, deletions) are left out and counted.
    """
    from esmgn_core.inference.mutate.assays import find_assays
    from esmgn_core.inference.mutate.fitness import correlate
    from esmgn_core.inference.mutate.scorer import load_scorer
    from esmgn_core.inference.tables import check_table_path, write_table
    from esmgn_core.io.notes import group_notes

    if out:
        check_table_path(out)
    assays = find_assays(folder, reference)
    name = model_options.model_name(model, seq=seq, struct=struct, fuse=fuse, graph=graph, changes=changes)
    scorer = load_scorer(name, device=device)
    results = []
    for assay in assays:
        with model_options.bar(assay.name) as report:
            results.append(correlate(scorer, assay, max_residues=max_residues, progress=report))
    rows = [_row(item, scorer.random_parts) for item in results]
    model_options.warn_of_random(scorer.random_parts)
    model_options.show_notes(group_notes((item.name, item.notes) for item in results))
    echo(f"scored by: {scorer.described}")
    block(_text(results))
    if out:
        write_table(
            rows, out, about={"scored_by": scorer.described, "random_weights": list(scorer.random_parts)}
        )
        echo(f"written: {out}")
    if all(item.problem for item in results):
        raise typer.Exit(1)


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


COMMANDS = {"proteingym": proteingym}
