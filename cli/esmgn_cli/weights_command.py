"""``esmgn weights``: download, convert and verify published weights."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli.completion import weights_names
from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind

if TYPE_CHECKING:
    from esmgn_core.host.presets import PublishedLayout

_TRANSFORMERS = "hf"
"""The layout of folders of transformers, beside those of the registry."""
_LAYOUT_HELP = "Layout of the file, such as esm_gearnet or fair_esm. Default: detected."


def list_weights() -> None:
    """List published weights.

    With the licence and the place on this machine. Nothing is downloaded.
    """
    from esmgn_core.published.catalogue import all_weights, location_text

    header = ("name", "licence", "place", "file")
    rows = [
        (weights.name, weights.file.license, location_text(weights), weights.file.filename)
        for weights in all_weights(discover())
    ]
    block(table([header, *rows], indent="", width=line_width()))
    echo("", "download: esmgn weights fetch NAME; presets download their file when they are first used")


def fetch_weights(
    name: Annotated[
        str,
        typer.Argument(
            help="A name from 'esmgn weights list'.", show_default=False, autocompletion=weights_names
        ),
    ],
    *,
    sha256: Annotated[
        str | None,
        typer.Option(help="Expected checksum of the file, 64 hexadecimal digits.", show_default=False),
    ] = None,
) -> None:
    """Download a file of weights into the cache.

    If this machine has a copy, that copy is used.
    """
    from esmgn_core.published.catalogue import named_weights
    from esmgn_core.settings import validated
    from esmgn_core.weights import RemoteFile, fetch, remembered_digests

    weights = named_weights(discover(), name)
    file = weights.file
    if sha256 is not None:
        values = {**file.model_dump(), "sha256": sha256.lower()}
        file = validated(RemoteFile, values, what="--sha256", see="esmgn weights fetch --help")
    path = fetch(file, setting=None)
    echo(path)
    echo(f"licence: {file.license}")
    echo(f"sha256: {remembered_digests(path).sha256}")
    if not weights.has_checksum:
        advice = "it has the one given by --sha256" if sha256 else "compare it with one you trust: --sha256"
        echo(f"no checksum is published for this file; {advice}")
    if weights.layout:
        echo(f"import it: esmgn weights import {name} --out DIR")


def import_weights(
    file: Annotated[
        str, typer.Argument(help="Published file, or a name from 'esmgn weights list'.", show_default=False)
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to create.", show_default=False)],
    layout: Annotated[str | None, typer.Option(help=_LAYOUT_HELP, show_default=False)] = None,
) -> None:
    """Convert a published file into a folder for --init and --model.

    The file must have exactly the tensors of its layout. Otherwise the differences are printed.
    """
    from esmgn_core.published.catalogue import find_weights
    from esmgn_core.published.convert import import_file

    registry = discover()
    path, weights = find_weights(registry, file)
    given = _layout(layout) or (weights.layout if weights else None)
    content = import_file(registry, path, out, given)
    layout_found = content.model.layout
    echo(f"{layout_found.name}: {len(content.state)} tensors, {content.num_parameters:,} parameters")
    echo(f"written: {out}")
    folder = shlex.quote(str(out))
    if Kind.STRUCT in layout_found.parts:
        echo(f"start from it: esmgn run --init {folder} --data FOLDER_OF_PDB_FILES")
    else:
        echo(f"start from it: esmgn run {shlex.quote(str(out / 'config.toml'))} --data FOLDER_OF_PDB_FILES")


def export_weights(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or of an import.", show_default=False)],
    *,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="File to write; with --layout hf a folder.", show_default=False),
    ],
    layout: Annotated[
        str | None,
        typer.Option(help=f"{_LAYOUT_HELP} hf: a folder for transformers.", show_default=False),
    ] = None,
) -> None:
    """Write an encoder as a file for the original code, or its sequence encoder for transformers.

    The file has exactly the tensors of its layout. The original code loads it strictly. With --layout hf,
    transformers loads the folder with from_pretrained.
    """
    from esmgn_core.published.convert import export_folder
    from esmgn_core.published.hugging_face import export_hugging_face

    if layout == _TRANSFORMERS:
        echo(*export_hugging_face(discover(), folder, out))
        echo(f"written: {out}")
        return
    exported = export_folder(discover(), folder, out, _layout(layout))
    parameters = f"{exported.model.num_parameters(exported.state):,} parameters"
    echo(f"{exported.model.layout.name}: {len(exported.state)} tensors, {parameters}")
    if exported.has_unused:
        echo(f"heads, which the encoder does not use: {exported.unused_from or 'zeros'}")
    echo(f"written: {out}")


def verify_weights(
    source: Annotated[
        str, typer.Argument(help="Published file, or a name from 'esmgn weights list'.", show_default=False)
    ],
    *,
    golden: Annotated[
        Path | None, typer.Option(help="File of recorded outputs to compare with.", show_default=False)
    ] = None,
) -> None:
    """Verify a file of weights.

    Compares its checksum, the name and shape of every tensor and, for ESM-2, the outputs with recorded ones.
    """
    from esmgn_core.published.verify import verify

    for line in verify(discover(), source, golden):
        echo(line)


def _layout(name: str | None) -> PublishedLayout | None:
    from esmgn_core.published.layouts import layout_named

    return layout_named(discover(), name, "--layout") if name else None


COMMANDS: Mapping[str, Callable[..., None]] = {
    "list": list_weights,
    "fetch": fetch_weights,
    "import": import_weights,
    "export": export_weights,
    "verify": verify_weights,
}
"""Subcommands of ``esmgn weights``."""
