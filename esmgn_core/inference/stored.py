"""Embedding files read back, whatever their format."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmgn_core.errors import RunError
from esmgn_core.inference.assemble import PROTEIN
from esmgn_core.inference.files import METADATA
from esmgn_core.printable import counted

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class ProteinTable:
    """Embeddings of proteins, read from a file.

    Attributes:
        names: B names.
        vectors: float32 [B, D].
        metadata: what the file says of its model; see :func:`esmgn_core.inference.files.write_embeddings`.
        paths: of the file that each protein is from.
    """

    names: list[str]
    vectors: Array
    metadata: dict[str, Any]
    paths: list[str]

    def __repr__(self) -> str:
        return f"ProteinTable({counted(len(self.names), 'protein')}, width {self.vectors.shape[1]})"


def read_metadata(path: Path) -> dict[str, Any] | None:
    """What an embedding file says of its model; ``None`` for a file of another kind."""
    try:
        return _READERS[_format_of_content(path)](path, vectors=False).metadata
    except (OSError, ValueError, KeyError):
        return None


def read_proteins(path: Path) -> ProteinTable:
    """Names and embeddings of the proteins in a file of any format.

    Raises:
        RunError: it is no embedding file, or holds residues only.
    """
    try:
        return _READERS[_format_of_content(path)](path, vectors=True)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}", "make one: esmgn embed PATH... --out FILE") from error
    except KeyError:
        raise RunError(
            f"{path} holds no embeddings of whole proteins",
            "make it with: esmgn embed --level protein, or both",
        ) from None


def _format_of_content(path: Path) -> str:
    """The format of an existing file, by its first bytes."""
    with path.open("rb") as file:
        magic = file.read(4)
    return {b"PAR1": "parquet", b"\x89HDF": "hdf5", b"PK\x03\x04": "npz"}.get(magic, "safetensors")


def _without_vectors(metadata: dict[str, Any]) -> ProteinTable:
    return ProteinTable([], np.zeros((0, 0), dtype=np.float32), metadata, [])


def _read_parquet(path: Path, *, vectors: bool) -> ProteinTable:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    metadata = json.loads(file.schema_arrow.metadata[METADATA.encode()])
    if not vectors:
        return _without_vectors(metadata)
    table = file.read(columns=["name", "path", "num_residues", "embedding"])
    if "num_residues" not in table.column_names:
        raise KeyError(PROTEIN)
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    names = table["name"].to_pylist()
    return ProteinTable(names, flat.reshape(len(names), -1), metadata, table["path"].to_pylist())


def _read_npz(path: Path, *, vectors: bool) -> ProteinTable:
    with np.load(path) as file:
        metadata = json.loads(str(file[METADATA]))
        if not vectors:
            return _without_vectors(metadata)
        return ProteinTable(file["name"].tolist(), file[PROTEIN], metadata, file["path"].tolist())


def _read_hdf5(path: Path, *, vectors: bool) -> ProteinTable:
    import h5py

    with h5py.File(path) as file:
        metadata = json.loads(file.attrs[METADATA])
        if not vectors:
            return _without_vectors(metadata)
        names, paths = (file[column].asstr()[()].tolist() for column in ("name", "path"))
        return ProteinTable(names, file[PROTEIN][()], metadata, paths)


def _read_safetensors(path: Path, *, vectors: bool) -> ProteinTable:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            metadata = json.loads((file.metadata() or {})[METADATA])
            if not vectors:
                return _without_vectors(metadata)
            if PROTEIN not in set(file.keys()):
                raise KeyError(PROTEIN)
            names, paths = (
                [bytes(row).rstrip(b"\0").decode() for row in file.get_tensor(column)]
                for column in ("name", "path")
            )
            return ProteinTable(names, file.get_tensor(PROTEIN), metadata, paths)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


_READERS: dict[str, Callable[..., ProteinTable]] = {
    "parquet": _read_parquet,
    "npz": _read_npz,
    "hdf5": _read_hdf5,
    "safetensors": _read_safetensors,
}
