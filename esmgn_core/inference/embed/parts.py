"""Intermediate results of an embedding job, and the columns they form together.

A part is a safetensors file with the embeddings of some proteins, packed end to end. The records of its
inputs, refused ones too, are in its metadata. Parts are written atomically.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import RunError
from esmgn_core.inference.embedding import Embedding
from esmgn_core.machine.files import write_atomically, write_errors, written_atomically
from esmgn_core.machine.parse import parse_json

PROTEIN, RESIDUE = "protein", "residue"
LEVELS = (RESIDUE, PROTEIN, "both")
_JOB = "job.json"
_BLANK = ord(" ")
_ROWS_PER_BLOCK = 4096
_LETTERS = np.array(list(AMINO_ACIDS + "X"))

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class InputResult:
    """The outcome for one input.

    Attributes:
        key: see :meth:`esmgn_core.inference.inputs.Input.key`.
        name: name of the protein.
        path: its file.
        chains: identifiers of its chains.
        length: number of residues, 0 if it was refused.
        refused: reason for the refusal; empty if the protein was embedded.
        notes: notes on the protein, see :class:`esmgn_core.batch.Protein`.
    """

    key: str
    name: str
    path: str
    chains: tuple[str, ...] = ()
    length: int = 0
    refused: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A file with the results of some inputs.

    Attributes:
        path: the file.
        records: all its inputs; embedded proteins in the order of their rows.
    """

    path: Path
    records: list[InputResult]

    def embedded(self) -> Iterator[tuple[InputResult, int, int]]:
        """Records of embedded proteins, each with its protein row and its first residue row."""
        first = 0
        for number, record in enumerate(record for record in self.records if not record.refused):
            yield record, number, first
            first += record.length


class PartFolder:
    """The folder with the parts of a job.

    Args:
        path: the folder; created if missing.
        job: values that determine the results, besides the inputs.

    Raises:
        RunError: it holds the parts of another job.
        WriteError: it cannot be written.
    """

    def __init__(self, path: Path, job: dict[str, Any]) -> None:
        self.path = path
        expected = json.dumps(job, indent=2, sort_keys=True) + "\n"
        file = path / _JOB
        with write_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                write_atomically(file, expected)
            recorded = file.read_text(encoding="utf-8")
        if recorded != expected:
            raise RunError(
                f"{path} holds unfinished results of another model or level",
                "name another file (--out), or discard these results: --overwrite",
            )

    def parts(self) -> list[Part]:
        """All complete parts. Damaged files are skipped, so that their inputs are computed again."""
        parts = []
        for path in sorted(self.path.glob("*.safetensors")):
            try:
                with safe_open(path, "pt") as file:
                    records = parse_json(file.metadata()["records"])
            except (OSError, SafetensorError, KeyError, ValueError):
                continue
            parts.append(Part(path, [_record(fields) for fields in records]))
        return parts

    def write(self, embeddings: Sequence[Embedding], records: Sequence[InputResult], level: str) -> None:
        """Write a part atomically. ``records`` include refused inputs."""
        tensors = _tensors(embeddings, level) if embeddings else {}
        path = self.path / f"{records[0].key[:24]}.safetensors"
        described = json.dumps([asdict(record) for record in records])
        with written_atomically(path) as temporary:
            save_file(tensors, temporary, {"records": described})


def _record(fields: dict[str, Any]) -> InputResult:
    lists = {name: tuple(fields.get(name, ())) for name in ("chains", "notes")}
    return InputResult(**{**fields, **lists})


def _tensors(embeddings: Sequence[Embedding], level: str) -> dict[str, Tensor]:
    """The tensors of a part for a level of :data:`LEVELS`."""
    tensors: dict[str, Tensor] = {}
    if level != RESIDUE:
        tensors[PROTEIN] = torch.stack([embedding.protein for embedding in embeddings])
    if level != PROTEIN:
        proteins = [embedding.protein_read for embedding in embeddings]
        codes = [_or_full(p.insertion_code, len(p), _BLANK) for p in proteins]
        plddt = [_or_full(p.plddt, len(p), torch.nan) for p in proteins]
        tensors[RESIDUE] = torch.cat([embedding.residue for embedding in embeddings])
        tensors["residue_type"] = torch.cat([p.residue_type for p in proteins]).to(torch.uint8)
        tensors["residue_number"] = torch.cat([p.residue_index for p in proteins])
        tensors["insertion_code"] = torch.cat(codes).to(torch.uint8)
        tensors["chain_index"] = torch.cat([p.chain_index for p in proteins])
        tensors["plddt"] = torch.cat(plddt)
    return tensors


def _or_full(values: Tensor | None, length: int, default: float) -> Tensor:
    return torch.full((length,), default) if values is None else values


class EmbeddingColumns:
    """The results of a job as columns, in the order of the inputs.

    The embeddings, ``protein`` [B, D] and ``residue`` [N, D], are read block by block. All other columns are
    in memory.

    Attributes:
        records: B embedded proteins.
        proteins: columns with B rows by name: ``name``, ``path``, ``num_residues``.
        residues: columns with N rows by name: ``chain``, ``residue_number``, ``insertion_code``,
            ``residue_letter``, ``plddt``; none at the level ``protein``.
        vectors: names of the columns with embeddings.
        width: D.
    """

    def __init__(self, parts: Sequence[Part], keys: Sequence[str], level: str) -> None:
        places = {
            record.key: (record, part, number, first)
            for part in parts
            for record, number, first in part.embedded()
        }
        self._places = [places[key] for key in keys if key in places]
        self.records = [record for record, *_ in self._places]
        self._open: tuple[Path, Any] | None = None
        self.vectors = [name for name in (PROTEIN, RESIDUE) if level in (name, "both")]
        self.proteins: dict[str, Array] = {
            "name": np.array([record.name for record in self.records], dtype=str),
            "path": np.array([record.path for record in self.records], dtype=str),
            "num_residues": np.array([record.length for record in self.records], dtype=np.int64),
        }
        self.residues = self._residue_columns() if RESIDUE in self.vectors else {}
        self.width = next((block.shape[1] for _, block in self.blocks(self.vectors[0])), 0)

    @property
    def num_rows(self) -> dict[str, int]:
        """Number of rows of each level."""
        return {PROTEIN: len(self.records), RESIDUE: int(self.proteins["num_residues"].sum())}

    def blocks(self, name: str) -> Iterator[tuple[int, Array]]:
        """Read a tensor of the parts in blocks of rows, each with the number of its first row."""
        first, waiting, num_rows = 0, [], 0
        for record, part, number, first_residue in self._places:
            start, length = (number, 1) if name == PROTEIN else (first_residue, record.length)
            waiting.append(self._slice(part.path, name, start, length))
            num_rows += length
            if num_rows >= _ROWS_PER_BLOCK:
                yield first, np.concatenate(waiting)
                first, waiting, num_rows = first + num_rows, [], 0
        if waiting:
            yield first, np.concatenate(waiting)

    def _slice(self, path: Path, name: str, start: int, length: int) -> Array:
        # One open file at a time: pages read from a mapped file count as memory of the process.
        if self._open is None or self._open[0] != path:
            self._open = path, safe_open(path, "np")
        array: Array = self._open[1].get_slice(name)[start : start + length]
        return array

    def _residue_columns(self) -> dict[str, Array]:
        names = ("residue_number", "insertion_code", "residue_type", "plddt", "chain_index")
        number, code, kind, plddt, chain = (
            np.concatenate([np.zeros(0, np.uint8), *(block for _, block in self.blocks(name))])
            for name in names
        )
        # Parts count chains within each protein: shift to the list of the chains of all proteins.
        chains = [name for record in self.records for name in record.chains]
        counts = np.array([len(record.chains) for record in self.records], dtype=np.int64)
        first_chain = np.repeat(np.cumsum(counts) - counts, self.proteins["num_residues"])
        return {
            "chain": np.array(chains, dtype=str)[first_chain + chain],
            "residue_number": number.astype(np.int64),
            # uint32 code points are NumPy's memory layout of one-letter text; 0 is the empty text.
            "insertion_code": np.where(code == _BLANK, 0, code).astype(np.uint32).view("U1"),
            "residue_letter": _LETTERS[kind],
            "plddt": plddt.astype(np.float32),
        }
