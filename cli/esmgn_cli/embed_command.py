"""``esmgn embed``: embeddings of structure files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli import model_options
from esmgn_cli.render import echo
from esmgn_core.printable import counted

if TYPE_CHECKING:
    from esmgn_core.inference.embed.job import Options, Summary


def embed(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Structure files and folders; FASTA files for a sequence encoder alone.", show_default=False
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.", show_default=False)],
    model: model_options.Folder = None,
    seq: model_options.Seq = None,
    struct: model_options.Struct = None,
    fuse: model_options.Fuse = None,
    graph: model_options.Graph = None,
    changes: model_options.Changes = None,
    level: Annotated[str, typer.Option(help="residue, protein or both.")] = "both",
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="parquet, safetensors, hdf5 or npz; the ending of --out says it.",
            show_default=False,
        ),
    ] = None,
    max_residues: Annotated[
        int, typer.Option(min=1, help="Residues in one forward pass; a longer protein passes alone.")
    ] = 4096,
    devices: Annotated[
        str, typer.Option(help="auto for all GPUs, else a list such as cuda:0,cuda:1; a process for each.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file, and throw away unfinished results.")
    ] = False,
) -> None:
    """Embed proteins, per residue and whole.

    After Ctrl-C the same command goes on where it stopped. No protein is cut. Files that cannot be
    used are listed in OUT.refused.tsv, each with its reason.

    Examples: esmgn embed structures/ -o out.parquet --model runs/NAME; esmgn embed structures/ -o
    out.h5 --level protein --seq esm2_650m.
    """
    from esmgn_core.inference.embed.files import format_of
    from esmgn_core.inference.embed.job import Options, all_devices, embed_files, parts_folder

    name = model_options.model_name(model, seq=seq, struct=struct, fuse=fuse, graph=graph, changes=changes)
    options = Options(
        level=level,
        file_format=format_of(out, file_format),
        max_residues=max_residues,
        devices=all_devices() if devices == "auto" else tuple(devices.split(",")),
        precision=precision,
        overwrite=overwrite,
    )
    try:
        with model_options.bar("embedding") as report:
            summary = embed_files(name, paths, out, options, report)
    except KeyboardInterrupt:
        if parts_folder(out).is_dir():
            echo(f"interrupted; what is done is kept in {parts_folder(out)}: type the same again", err=True)
        raise
    _print(summary, out, options)


def _print(summary: Summary, out: Path, options: Options) -> None:
    from esmgn_core.inference.embed.files import residue_file
    from esmgn_core.inference.embed.job import refused_file

    model_options.warn_of_random(summary.random_parts)
    model_options.show_notes(summary.notes)
    sizes = counted(summary.num_embedded, "protein"), counted(summary.num_residues, "residue")
    echo(f"{', '.join(sizes)}, {summary.width} numbers each")
    if summary.num_reused:
        echo(f"{summary.num_reused} of them {'was' if summary.num_reused == 1 else 'were'} there before")
    if summary.num_refused:
        echo(f"{summary.num_refused} left out, each with its reason: {refused_file(out)}")
    if summary.passed_over:
        echo(summary.passed_over)
    echo(f"written: {out}")
    if options.file_format == "parquet" and options.level == "both":
        echo(f"written: {residue_file(out)}")
    if options.level != "residue":
        echo(f"search it: esmgn neighbors QUERY --in {shlex.quote(str(out))}")
