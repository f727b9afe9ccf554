"""Nearest proteins by their embeddings."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from esmgn_core.errors import RunError, SettingsError, did_you_mean
from esmgn_core.inference.model import ModelName, load_model
from esmgn_core.inference.stored import ProteinTable, read_proteins

METRICS = ("cosine", "l2")
BACKENDS = ("auto", "faiss", "torch")
_ROWS_AT_ONCE = 65_536

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A protein near the query; ``score`` is the cosine of both vectors, or their distance."""

    name: str
    score: float


def neighbors_of(
    query: str,
    file: Path,
    *,
    count: int = 10,
    metric: str = "cosine",
    backend: str = "auto",
    device: str = "auto",
) -> list[Neighbor]:
    """The proteins of an embedding file nearest to a query, nearest first.

    Args:
        query: a structure file, which is embedded by the model the file names; else the name of a
            protein in the file, which is left out of its own neighbours.
        file: made by ``esmgn embed``.
        count: how many, at most.
        metric: ``cosine``, or ``l2`` for the Euclidean distance.
        backend: ``faiss``, ``torch``, or ``auto`` for faiss where it is installed.
        device: where the query is embedded.

    Raises:
        EsmgnError: the query is neither, the file is none, or its model is no longer the same.
    """
    _check("metric", metric, METRICS)
    _check("backend", backend, BACKENDS)
    table = read_proteins(file)
    if not Path(query).exists():
        if query not in table.names:
            raise RunError(
                f"no such file or protein: '{query}'",
                *did_you_mean(query, table.names),
                f"{file} holds {len(table.names)} proteins, such as {table.names[0]}",
            )
        own = table.names.index(query)
        found = nearest(table.vectors, table.vectors[own], count + 1, metric=metric, backend=backend)
        found = [(index, score) for index, score in found if index != own][:count]
    else:
        found = nearest(
            table.vectors, _embedded(Path(query), table, file, device), count, metric=metric, backend=backend
        )
    return [Neighbor(table.names[index], score) for index, score in found]


def nearest(
    vectors: Vectors, query: Vectors, count: int, *, metric: str, backend: str
) -> list[tuple[int, float]]:
    """Rows of ``vectors`` [B, D] nearest to ``query`` [D] with their scores, nearest first."""
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
    target = torch.from_numpy(query)
    scores = torch.cat(
        [
            _scores(torch.from_numpy(vectors[first : first + _ROWS_AT_ONCE]), target, metric)
            for first in range(0, len(vectors), _ROWS_AT_ONCE)
        ]
    )
    best = scores.topk(count, largest=metric == "cosine")
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _scores(block: torch.Tensor, query: torch.Tensor, metric: str) -> torch.Tensor:
    if metric == "cosine":
        return torch.cosine_similarity(block, query[None])
    distances: torch.Tensor = (block - query).square().sum(1).sqrt()
    return distances


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def _embedded(query: Path, table: ProteinTable, file: Path, device: str) -> Vectors:
    metadata = table.metadata
    model = load_model(
        ModelName.from_record(metadata["model"]), device=device, precision=metadata["precision"]
    )
    if model.fingerprint != metadata["fingerprint"]:
        raise RunError(
            f"the model of {file} is no longer the same: {model.name}",
            "its weights, settings or version changed; embed the proteins again: esmgn embed",
        )
    vector: Vectors = model.embed(query).protein.numpy()
    return vector


def _check(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise SettingsError(
            f"unknown {what} '{name}' (--{what})",
            *did_you_mean(name, known),
            f"available: {', '.join(known)}",
        )
