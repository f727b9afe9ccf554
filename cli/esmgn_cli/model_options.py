"""Flags, warnings and the progress bar of commands that use a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli.completion import names_of
from esmgn_cli.render import console, echo
from esmgn_core.printable import printable
from esmgn_core.spec import Kind

if TYPE_CHECKING:
    from esmgn_core.inference.model import ModelName

Folder = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Folder of a run or of imported weights.", show_default=False),
]
Seq = Annotated[
    str | None,
    typer.Option(
        help="Sequence encoder, instead of --model. Can be used alone.",
        show_default=False,
        autocompletion=names_of(Kind.SEQ),
    ),
]
Struct = Annotated[
    str | None,
    typer.Option(
        help="Structure encoder, with random weights.",
        show_default=False,
        autocompletion=names_of(Kind.STRUCT),
    ),
]
Fuse = Annotated[
    str | None,
    typer.Option(help="Fuser, with random weights.", show_default=False, autocompletion=names_of(Kind.FUSE)),
]
Graph = Annotated[
    str | None, typer.Option(help="Graph builder.", show_default=False, autocompletion=names_of(Kind.GRAPH))
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="A setting of the model. Repeatable."),
]
Table = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Table to write: .csv, .tsv or .json.", show_default=False),
]
MaxResidues = Annotated[int, typer.Option(min=1, help="Maximum residues in a forward pass.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def model_name(
    folder: Path | None,
    *,
    seq: str | None,
    struct: str | None,
    fuse: str | None,
    graph: str | None,
    changes: list[str] | None,
) -> ModelName:
    """The model that the flags name."""
    from esmgn_core.inference.model import ModelName

    names = {"seq": seq, "struct": struct, "fuse": fuse, "graph": graph}
    given = {kind: name for kind, name in names.items() if name is not None}
    return ModelName(str(folder.expanduser().absolute()) if folder else None, given, tuple(changes or ()))


def warn_of_random(parts: Sequence[str]) -> None:
    """Warn about components with random weights."""
    if parts:
        echo(f"warning: random weights: {', '.join(parts)}", err=True)


def show_notes(lines: Sequence[str]) -> None:
    """Print notes on input files, grouped by :func:`esmgn_core.io.notes.group_notes`."""
    for line in lines:
        echo(f"note: {line}", err=True)


@contextmanager
def bar(text: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    named = TextColumn("{task.description}", markup=False)
    columns = (named, MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(err=True)) as drawn:
        task = drawn.add_task(printable(text), total=None)
        yield lambda done, total: drawn.update(task, completed=done, total=total)
