"""``esmgn weights``: published files of weights, to this package and back."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind

if TYPE_CHECKING:
    from esmgn_core.host.presets import PublishedLayout

_LAYOUT_HELP = "Layout of the file, such as esm_gearnet or fair_esm; found if not given."


def list_weights() -> None:
    """List weights that have a name.

    With their licence and where they are on this machine; nothing is downloaded.
    """
    from esmgn_core.published.catalogue import all_weights, place

    header = ("name", "licence", "place", "file")
    rows = [
        (weights.name, weights.file.license, place(weights), weights.file.filename)
        for weights in all_weights(discover())
    ]
    block(table([header, *rows], indent="", width=line_width()))
    echo("", "download: esmgn weights fetch NAME; presets download their file when they are first used")


def fetch_weights(
    name: Annotated[str, typer.Argument(help="A name from 'esmgn weights list'.", show_default=False)],
    *,
    sha256: Annotated[
        str | None,
        typer.Option(help="Checksum the file must have, 64 hexadecimal digits.", show_default=False),
    ] = None,
) -> None:
    """Download a file of weights into the cache.

    A copy that is on this machine already is used.
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
        asked = "it is the one you asked for" if sha256 else "compare it with one you trust, by --sha256"
        echo(f"no checksum is published for this file; {asked}")
    if weights.layout:
        echo(f"import it: esmgn weights import {name} --out DIR")


def import_weights(
    file: Annotated[str, typer.Argument(help="A published file, or a name.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.", show_default=False)],
    layout: Annotated[str | None, typer.Option(help=_LAYOUT_HELP, show_default=False)] = None,
) -> None:
    """Turn a published file into a folder to start from.

    The file must have exactly the tensors of its layout; else the differences are printed.
    """
    from esmgn_core.published.catalogue import located
    from esmgn_core.published.convert import import_file

    registry = discover()
    path, weights = located(registry, file)
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
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.", show_default=False)],
    layout: Annotated[str | None, typer.Option(help=_LAYOUT_HELP, show_default=False)] = None,
) -> None:
    """Write an encoder as a file for the original code.

    It has exactly the tensors of its layout, so that the original loads it strictly.
    """
    from esmgn_core.published.convert import export_folder

    exported = export_folder(discover(), folder, out, _layout(layout))
    parameters = f"{exported.model.num_parameters(exported.state):,} parameters"
    echo(f"{exported.model.layout.name}: {len(exported.state)} tensors, {parameters}")
    if exported.has_unused:
        echo(f"heads, not used by the encoder: {exported.unused_from or 'zeros'}")
    echo(f"written: {out}")


def verify_weights(
    source: Annotated[str, typer.Argument(help="A name, or a published file.", show_default=False)],
    *,
    golden: Annotated[
        Path | None, typer.Option(help="File of recorded outputs to compare with.", show_default=False)
    ] = None,
) -> None:
    """Check a file of weights.

    Its checksum, every tensor's name and shape, and, of ESM-2, the outputs against recorded ones.
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
"""What follows ``esmgn weights``."""
