"""Search for the proteins with the nearest embeddings."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from esmgn_core.errors import RunError, check_choice, did_you_mean
from esmgn_core.formats import structure_formats
from esmgn_core.inference.embed.files import ProteinTable, read_proteins
from esmgn_core.inference.model import ModelName, plan_model
from esmgn_core.io import read_protein
from esmgn_core.io.names import structure_name
from esmgn_core.printable import counted, printable

logger = logging.getLogger(__name__)

_SHOWN = 3
METRICS = ("cosine", "l2")
BACKENDS = ("auto", "faiss", "torch")

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A protein near the query; ``score`` is its cosine similarity or Euclidean distance."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class Neighborhood:
    """The proteins nearest to a query.

    Attributes:
        neighbors: nearest first, without the query itself.
        itself: name of the query in the file; ``None`` if it is not in the file.
        random_parts: parts with random weights of the model that made the file.
    """

    neighbors: list[Neighbor]
    itself: str | None
    random_parts: tuple[str, ...]


def neighbors_of(
    query: str,
    file: Path,
    *,
    count: int = 10,
    metric: str = "cosine",
    backend: str = "auto",
    device: str = "auto",
) -> Neighborhood:
    """Find the proteins of an embedding file that are nearest to a query.

    Args:
        query: a structure file, which is embedded with the model of ``file``, or the name of a protein in
            ``file``.
        file: a file written by ``esmgn embed``.
        count: maximum number of neighbors.
        metric: ``cosine``, or ``l2`` for the Euclidean distance.
        backend: ``faiss``, ``torch``, or ``auto`` for faiss if it is installed.
        device: device on which the query is embedded.

    Raises:
        EsmgnError: there is no such query, ``file`` is not an embedding file, or its model has changed.
    """
    check_choice("metric", metric, METRICS, "--metric")
    check_choice("backend", backend, BACKENDS, "--backend")
    table = _finite(read_proteins(file), file)
    if Path(query).exists():
        vector = _embedded(Path(query), table, file, device)
        own = _rows_of(Path(query), vector, table)
    else:
        own = _rows_named(query, table, file)
        vector = table.vectors[own[0]]
    scored = nearest(table.vectors, vector, count + len(own), metric=metric, backend=backend)
    others = [Neighbor(table.names[row], score) for row, score in scored if row not in own]
    random_parts = tuple(table.metadata.get("summary", {}).get("random_parts", ()))
    return Neighborhood(others[:count], table.names[own[0]] if own else None, random_parts)


def _finite(table: ProteinTable, file: Path) -> ProteinTable:
    """The proteins with finite embeddings; a warning names the others."""
    kept = np.asarray(np.isfinite(table.vectors).all(axis=1))
    if kept.all():
        return table
    skipped = [name for name, is_kept in zip(table.names, kept.tolist(), strict=True) if not is_kept]
    shown = ", ".join(map(printable, skipped[:_SHOWN])) + (", ..." if len(skipped) > _SHOWN else "")
    if len(skipped) == len(table.names):
        raise RunError(f"no embedding in {file} is finite", "embed the proteins again: esmgn embed")
    logger.warning(
        "%s: skipped %s whose embeddings are not finite: %s", file, counted(len(skipped), "protein"), shown
    )
    rows = np.flatnonzero(kept).tolist()
    names, paths = ([texts[row] for row in rows] for texts in (table.names, table.paths))
    return replace(table, names=names, paths=paths, vectors=table.vectors[kept])


def _rows_named(name: str, table: ProteinTable, file: Path) -> list[int]:
    rows = [row for row, stored in enumerate(table.names) if stored == name]
    if not rows:
        raise RunError(
            f"no such file or protein: '{name}'",
            *did_you_mean(name, table.names),
            f"{file} holds {counted(len(table.names), 'protein')}, such as {table.names[0]}",
        )
    if len(rows) > 1:
        raise RunError(
            f"{file} holds {len(rows)} proteins with the name '{name}'", "give a structure file as the query"
        )
    return rows


def _rows_of(query: Path, vector: Vectors, table: ProteinTable) -> list[int]:
    """Rows of the query: those of the same file, or of the same name with an equal embedding."""
    path, name = os.path.realpath(query), structure_name(query, structure_formats())
    return [
        row
        for row, (stored, origin) in enumerate(zip(table.names, table.paths, strict=True))
        if os.path.realpath(origin) == path
        or (stored == name and np.allclose(table.vectors[row], vector, rtol=1e-4, atol=1e-4))
    ]


def nearest(
    vectors: Vectors, query: Vectors, count: int, *, metric: str, backend: str
) -> list[tuple[int, float]]:
    """Row numbers in ``vectors`` [B, D] nearest to ``query`` [D], and their scores, nearest first."""
    if backend == "auto":
        backend = "faiss" if importlib.util.find_spec("faiss") else "torch"
    count = min(count, len(vectors))
    search = _by_faiss if backend == "faiss" else _by_torch
    return search(np.ascontiguousarray(vectors), query, count, metric)


def _by_faiss(vectors: Vectors, query: Vectors, count: int, metric: str) -> list[tuple[int, float]]:
    try:
        import faiss
    except ImportError as error:
        raise RunError(
            "faiss is not installed (--backend)", "pip install 'esmgn[faiss]'", "or: --backend torch"
        ) from error
    if metric == "cosine":
        index: Any = faiss.IndexFlatIP(vectors.shape[1])
        vectors, query = _unit(vectors), _unit(query[None])[0]
    else:
        index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    scores, rows = index.search(query[None], count)
    if metric == "l2":
        scores = np.sqrt(np.maximum(scores, 0))
    return list(zip(rows[0].tolist(), scores[0].tolist(), strict=True))


def _by_torch(vectors: Vectors, query: Vectors, count: int, metric: str) -> list[tuple[int, float]]:
    rows, target = torch.from_numpy(vectors), torch.from_numpy(query)
    if metric == "cosine":
        lengths = torch.linalg.vector_norm(rows, dim=1) * torch.linalg.vector_norm(target)
        scores = rows @ target / lengths.clamp_min(torch.finfo(torch.float32).tiny)
    else:  # from differences: |a|^2 + |b|^2 - 2ab loses the digits of near neighbors
        scores = torch.cdist(rows, target[None], compute_mode="donot_use_mm_for_euclid_dist")[:, 0]
    best = scores.topk(count, largest=metric == "cosine")
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def _embedded(query: Path, table: ProteinTable, file: Path, device: str) -> Vectors:
    metadata = table.metadata
    try:
        name, precision, fingerprint = (metadata[key] for key in ("model", "precision", "fingerprint"))
        plan = plan_model(ModelName.from_record(name))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunError(
            f"{file} does not describe its model: {error}", "embed the proteins again: esmgn embed"
        ) from error
    protein = read_protein(query, features=plan.features, formats=plan.formats)
    model = plan.load(device=device, precision=precision)
    if model.fingerprint != fingerprint:
        raise RunError(
            f"the model of {file} has changed: {model.name}",
            "its weights, its settings or the version of esmgn are different",
            "embed the proteins again: esmgn embed",
        )
    vector: Vectors = model.embed(protein).protein.numpy()
    if vector.shape != table.vectors.shape[1:] or not np.isfinite(vector).all():
        raise RunError(f"the embedding of {query} is not finite, or has another width than those of {file}")
    return vector
