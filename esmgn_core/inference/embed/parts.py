"""Results of an unfinished embedding job: files of some proteins each, complete or not there at all.

A part is a safetensors file. Its tensors are packed end to end; the records of its proteins and
refused files stand in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from esmgn_core.errors import RunError
from esmgn_core.inference.embedding import Embedding
from esmgn_core.machine.files import write_atomically, write_errors, written_atomically
from esmgn_core.machine.parse import parse_json

LEVELS = ("residue", "protein", "both")
_NO_CODE = 32


@dataclass(frozen=True, slots=True)
class InputResult:
    """One input and what became of it.

    Attributes:
        key: see :meth:`esmgn_core.inference.inputs.Input.key`.
        name: of the protein.
        path: the file it is from.
        chains: identifiers of its chains.
        length: number of residues, 0 if it was refused.
        refused: why there is no embedding; empty if there is one.
        notes: of the protein, see :class:`esmgn_core.batch.Protein`.
    """

    key: str
    name: str
    path: str
    chains: tuple[str, ...] = ()
    length: int = 0
    refused: str = ""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class ResultFile:
    """Where the results of some inputs lie.

    Attributes:
        path: its file.
        records: of all its inputs; embedded proteins in the order of their rows.
    """

    path: Path
    records: list[InputResult] = field(default_factory=list)

    def embedded(self) -> Iterator[tuple[InputResult, int, int]]:
        """Records of embedded proteins, each with its place among them and its first row."""
        first = 0
        for number, record in enumerate(record for record in self.records if not record.refused):
            yield record, number, first
            first += record.length


def part_tensors(embeddings: Sequence[Embedding], level: str) -> dict[str, Tensor]:
    """The tensors of a part for a level of :data:`LEVELS`."""
    tensors: dict[str, Tensor] = {}
    if level != "residue":
        tensors["protein"] = torch.stack([embedding.protein for embedding in embeddings])
    if level != "protein":
        proteins = [embedding.protein_read for embedding in embeddings]
        codes = [_or_full(p.insertion_code, len(p), _NO_CODE) for p in proteins]
        plddt = [_or_full(p.plddt, len(p), torch.nan) for p in proteins]
        tensors["residue"] = torch.cat([embedding.residue for embedding in embeddings])
        tensors["residue_type"] = torch.cat([p.residue_type for p in proteins]).to(torch.uint8)
        tensors["residue_number"] = torch.cat([p.residue_index for p in proteins])
        tensors["insertion_code"] = torch.cat(codes).to(torch.uint8)
        tensors["chain_index"] = torch.cat([p.chain_index for p in proteins])
        tensors["plddt"] = torch.cat(plddt)
    return tensors


def _or_full(values: Tensor | None, length: int, default: float) -> Tensor:
    return torch.full((length,), default) if values is None else values


class PartFolder:
    """The folder of a job's parts.

    Args:
        path: the folder; made where it is missing.
        job: what the results depend on besides their inputs; parts of another job are refused.

    Raises:
        RunError: it holds the parts of another job.
        WriteError: it cannot be written.
    """

    _JOB = "job.json"

    def __init__(self, path: Path, job: dict[str, Any]) -> None:
        self.path = path
        described = json.dumps(job, indent=2, sort_keys=True) + "\n"
        file = path / self._JOB
        with write_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                write_atomically(file, described)
            there = file.read_text(encoding="utf-8")
        if there != described:
            raise RunError(
                f"{path} holds unfinished results of another model or level",
                "name another file (--out), or throw them away: --overwrite",
            )

    def parts(self) -> list[ResultFile]:
        """All complete parts. A damaged file is passed over: its inputs are computed again."""
        found = []
        for path in sorted(self.path.glob("*.safetensors")):
            try:
                with safe_open(path, "pt") as file:
                    records = parse_json(file.metadata()["records"])
            except (OSError, SafetensorError, KeyError, ValueError):
                continue
            found.append(ResultFile(path, [_record(item) for item in records]))
        return found

    def write(self, embeddings: Sequence[Embedding], records: Sequence[InputResult], level: str) -> None:
        """Write a part, at once. ``records`` hold refused inputs too."""
        tensors = part_tensors(embeddings, level) if embeddings else {}
        path = self.path / f"{records[0].key[:24]}.safetensors"
        described = json.dumps([asdict(record) for record in records])
        with written_atomically(path) as temporary:
            save_file(tensors, temporary, {"records": described})


def _record(item: dict[str, Any]) -> InputResult:
    lists = {name: tuple(item.get(name, ())) for name in ("chains", "notes")}
    return InputResult(**{**item, **lists})
