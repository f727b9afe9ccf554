"""``esmgn neighbors``: search embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esmgn_cli import model_options
from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.printable import printable


def neighbors(
    query: Annotated[
        str,
        typer.Argument(
            help="Structure file, or name of a protein in the embedding file.", show_default=False
        ),
    ],
    *,
    file: Annotated[Path, typer.Option("--in", "-i", help="File made by esmgn embed.", show_default=False)],
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="Number of neighbours.")] = 10,
    metric: Annotated[str, typer.Option(help="cosine (similarity) or l2 (distance).")] = "cosine",
    backend: Annotated[str, typer.Option(help="faiss, torch, or auto (faiss if it is installed).")] = "auto",
    device: Annotated[str, typer.Option(help="Device that embeds the query: auto, cpu or cuda.")] = "auto",
    tsv: Annotated[bool, typer.Option("--tsv", help="Print tab-separated values.")] = False,
) -> None:
    """Find the proteins with the nearest embeddings.

    A structure file is embedded by the model that computed the embeddings. The query itself is not listed.

    Examples: esmgn neighbors new.pdb --in out.parquet; esmgn neighbors 1abc --in out.parquet -k 5.
    """
    from esmgn_core.inference.embed.search import neighbors_of

    result = neighbors_of(query, file, count=count, metric=metric, backend=backend, device=device)
    header = ("rank", "cosine" if metric == "cosine" else "distance", "protein")
    rows = [(str(rank), f"{item.score:.4f}", item.name) for rank, item in enumerate(result.neighbors, 1)]
    model_options.warn_of_random(result.random_parts)
    if result.itself is not None:
        echo(f"note: the query is in the file as '{result.itself}' and is left out", err=True)
    if tsv:
        echo(*("\t".join(map(printable, row)) for row in [header, *rows]))
    else:
        block(table([header, *rows], indent="", width=line_width()))
