"""``esmgn embed``: compute embeddings of structure files."""

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
            help="Structure files and folders. FASTA files if only --seq is given.", show_default=False
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
            help="parquet, safetensors, hdf5 or npz. Default: by the ending of --out.",
            show_default=False,
        ),
    ] = None,
    max_residues: Annotated[
        int, typer.Option(min=1, help="Maximum residues in a forward pass. Longer proteins pass one by one.")
    ] = 4096,
    devices: Annotated[
        str, typer.Option(help="auto (all GPUs) or a list such as cuda:0,cuda:1. One process each.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file and discard unfinished results.")
    ] = False,
) -> None:
    """Compute embeddings of residues and of whole proteins.

    After Ctrl-C, run the same command again to continue. Proteins are never cut. OUT.refused.tsv lists the
    files that cannot be used, with reasons.

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
            echo(
                f"interrupted; results so far are in {parts_folder(out)}; to continue, run the same command",
                err=True,
            )
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
        echo(f"{counted(summary.num_reused, 'input')} computed by an earlier run of this command")
    if summary.num_refused:
        echo(f"{summary.num_refused} left out, with reasons: {refused_file(out)}")
    if summary.passed_over:
        echo(summary.passed_over)
    echo(f"written: {out}")
    if options.file_format == "parquet" and options.level == "both":
        echo(f"written: {residue_file(out)}")
    if options.level != "residue":
        echo(f"search it: esmgn neighbors QUERY --in {shlex.quote(str(out))}")
