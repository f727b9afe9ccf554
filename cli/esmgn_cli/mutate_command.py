"""``esmgn mutate``: score mutations."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli import model_options
from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.errors import SettingsError
from esmgn_core.printable import counted

if TYPE_CHECKING:
    from esmgn_core.inference.mutate.scan import Scan

_SHOWN = 20


def mutate(
    file: Annotated[Path, typer.Argument(help="Structure of the wild type.", show_default=False)],
    mutations: Annotated[
        str | None,
        typer.Argument(
            help="Such as A12G,B:L15V, by the residue numbers of the file. A12G+L15V is a double mutant.",
            show_default=False,
        ),
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Score every substitution of every residue.")
    ] = False,
    chain: Annotated[
        str | None, typer.Option(help="With --all: only this chain.", show_default=False)
    ] = None,
    model: model_options.Folder = None,
    seq: model_options.Seq = None,
    struct: model_options.Struct = None,
    fuse: model_options.Fuse = None,
    graph: model_options.Graph = None,
    changes: model_options.Changes = None,
    out: model_options.Table = None,
    picture: Annotated[
        Path | None, typer.Option(help="Heat map to write: .png, .svg or .pdf.", show_default=False)
    ] = None,
    max_residues: model_options.MaxResidues = 4096,
    device: model_options.Device = "auto",
) -> None:
    """Score mutations of a protein.

    The score is log p(mutant) - log p(wild type) with the residue masked. Below 0, the model prefers the
    wild type. A run pre-trained with residue type prediction uses the structure. Other models use the head
    of the language model. A run fine-tuned on pairs, such as msp, returns its probability instead. The first
    line of the output names the method.

    Examples: esmgn mutate 1abc.pdb A12G,L15V --model runs/NAME; esmgn mutate 1abc.pdb --all
    --picture scan.png -o scan.csv --seq esm2_650m.
    """
    from esmgn_core.formats import structure_formats
    from esmgn_core.inference.mutate.heatmap import check_picture_path, draw_heatmap
    from esmgn_core.inference.mutate.scan import scan_variants
    from esmgn_core.inference.mutate.variants import Addresses, parse_list
    from esmgn_core.inference.tables import check_table_path, write_table
    from esmgn_core.io import read_protein
    from esmgn_core.io.notes import group_notes

    if everything == (mutations is not None):
        raise SettingsError(
            "no mutations given" if mutations is None else "--all takes no list of mutations",
            f"all of them: esmgn mutate {shlex.quote(str(file))} --all",
            f"some: esmgn mutate {shlex.quote(str(file))} A12G,L15V",
        )
    if out:
        check_table_path(out)
    if picture:
        check_picture_path(picture)
    addresses = Addresses(read_protein(file, formats=structure_formats()))
    notes = group_notes([(file.name, addresses.protein.notes)])
    model_options.show_notes(notes)
    variants = addresses.all_substitutions(chain) if mutations is None else parse_list(addresses, mutations)
    if picture and all(len(variant) > 1 for variant in variants):
        raise SettingsError("no single substitution to draw (--picture)", "to draw all of them: --all")
    name = model_options.model_name(model, seq=seq, struct=struct, fuse=fuse, graph=graph, changes=changes)
    with model_options.bar("scoring") as report:
        scan = scan_variants(name, file, variants, device=device, max_residues=max_residues, progress=report)
    model_options.warn_of_random(scan.random_parts)
    # Files first: `head` closes the output before its end.
    if out:
        about = {"file": str(file), "scored_by": scan.scored_by, "random_weights": list(scan.random_parts)}
        about |= {"notes": notes} if notes else {}
        write_table(scan.rows, out, about=about)
    if picture:
        random = "; random weights" if scan.random_parts else ""
        draw_heatmap(
            scan.values,
            picture,
            title=f"{addresses.protein.name}: all substitutions",
            subtitle=scan.scored_by + random,
            label=scan.label,
            neutral=scan.neutral,
        )
    echo(f"scored by: {scan.scored_by}")
    _print(scan, everything=everything)
    for path in filter(None, (out, picture)):
        echo(f"written: {path}")


def _print(scan: Scan, *, everything: bool) -> None:
    """Print the requested mutations, or the highest and lowest scores of a whole scan."""
    if not scan.rows:
        return
    names = [name for name, value in scan.rows[0].items() if name == "variant" or isinstance(value, float)]
    order = range(len(scan.rows))
    if everything:
        ranked = sorted(order, key=lambda index: -scan.values[index][1])
        echo(f"{counted(len(ranked), 'substitution')}; highest and lowest scores:")
        half = _SHOWN // 2
        chosen = ranked[:half] + ranked[half:][-half:]
    else:
        chosen = list(order)
    rows = [[_cell(scan.rows[index][name]) for name in names] for index in chosen]
    block(table([[name.replace("_", " ") for name in names], *rows], indent="", width=line_width()))


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:+.3f}"
