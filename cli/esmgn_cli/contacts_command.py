"""``esmgn contacts``: contacts of residues predicted by a language model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from esmgn_cli import model_options
from esmgn_cli.render import block, echo, line_width, table


def contacts(
    file: Annotated[Path, typer.Argument(help="Structure file.", show_default=False)],
    *,
    seq: Annotated[str, typer.Option(help="Sequence encoder with a contact head.")] = "esm2_650m",
    changes: model_options.Changes = None,
    out: model_options.Table = None,
    picture: Annotated[
        Path | None, typer.Option(help="Contact map to write: .png, .svg or .pdf.", show_default=False)
    ] = None,
    min_separation: Annotated[
        int, typer.Option(min=1, help="Fewest residues between a pair in the table.")
    ] = 6,
    device: model_options.Device = "auto",
) -> None:
    """Predict contacts of residues with the contact head of ESM-2.

    Prints the precision of the L/5, L/2 and L most probable pairs against the structure, whose contacts are
    CA atoms within 8 angstrom. Chains are predicted separately.

    Example: esmgn contacts 1abc.pdb --seq esm2_650m --picture map.png -o contacts.csv.
    """
    from esmgn_core.formats import structure_formats
    from esmgn_core.inference.contacts import check_picture_path, draw_contacts, precisions, predict_contacts
    from esmgn_core.inference.tables import check_table_path, write_table
    from esmgn_core.io import read_protein
    from esmgn_core.io.notes import group_notes

    if out:
        check_table_path(out)
    if picture:
        check_picture_path(picture)
    protein = read_protein(file, formats=structure_formats())
    model_options.show_notes(group_notes([(file.name, protein.notes)]))
    name = model_options.model_name(None, seq=seq, struct=None, fuse=None, graph=None, changes=changes)
    found = predict_contacts(name, protein, device=device)
    if found.random:
        model_options.warn_of_random(["sequence encoder"])
    if out:
        from esmgn_core.inference.embedding import residues_of

        residues = list(residues_of(protein))
        rows = [
            {
                "residue_1": str(residues[one]),
                "residue_2": str(residues[two]),
                "probability": round(float(found.probability[one, two]), 5),
                "distance": round(float(found.distance[one, two]), 2),
            }
            for one, two in zip(*(part.tolist() for part in found.pairs(min_separation)), strict=True)
        ]
        write_table(rows, out, about={"file": str(file), "seq": seq, "random_weights": found.random})
    if picture:
        draw_contacts(found, picture)
    shown = [("separation", "P@L/5", "P@L/2", "P@L")]
    for range_name, values in precisions(found).items():
        one, two, three = (f"{value:.3f}" if math.isfinite(value) else "-" for value in values)
        shown.append((range_name, one, two, three))
    block(table(shown, indent="", width=line_width()))
    for path in filter(None, (out, picture)):
        echo(f"written: {path}")
