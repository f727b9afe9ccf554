"""``esmgn evaluate``: models against measurements."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from esmgn_cli import model_options
from esmgn_cli.render import block, echo, line_width, table


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
    """Rank the variants of mutational scans.

    Prints Spearman's correlation of masked-marginal scores with the measured ones for each table below
    FOLDER with the columns mutant and DMS_score; structure and sequence stand beside it.
    """
    from esmgn_core.inference.assays import find_assays
    from esmgn_core.inference.fitness import correlate
    from esmgn_core.inference.heads import load_scorer
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
    weights = f"RANDOM ({', '.join(scorer.random_parts)})" if scorer.random_parts else "trained"
    rows = [
        {
            "assay": item.name,
            "spearman": round(item.spearman, 4) if math.isfinite(item.spearman) else None,
            "variants": item.num_variants,
            "left_out": item.num_left_out,
            "weights": weights,
            "note": item.problem,
        }
        for item in results
    ]
    model_options.show_notes(group_notes((item.name, item.notes) for item in results))
    good = [item.spearman for item in results if not item.problem]
    echo(f"scored by: {scorer.described}")
    header = ("assay", "spearman", "variants", "left out", "weights", "note")
    shown = [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
    if good:
        shown.append(["mean", f"{sum(good) / len(good):.4f}", "", "", weights, ""])
    block(table([header, *shown], indent="", width=max(line_width(), 120)))
    if out:
        write_table(
            rows, out, about={"scored_by": scorer.described, "random_weights": list(scorer.random_parts)}
        )
        echo(f"written: {out}")


COMMANDS = {"proteingym": proteingym}
