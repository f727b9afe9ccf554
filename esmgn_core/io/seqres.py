"""Compare the declared sequence of each chain (SEQRES) with the residues that have coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.io.copies import unique_names
from esmgn_core.io.table import ResidueTable

_NOT_ONE_CHAIN = ("?", ".", "")


@dataclass(frozen=True, slots=True)
class ChainAccount:
    """Comparison of one chain with its declared sequence.

    Attributes:
        name: chain identifier.
        residues: number of residues that were read.
        declared: length of the declared sequence; ``None`` if the file declares none.
        missing: first and last position, from 1, of each stretch of the declared sequence without residues.
        mismatched: position, declared name and name in the coordinates of residues that differ.
        undeclared: number of residues that are not in the declared sequence.
        breaks: pairs of residue labels of the file between which the numbering jumps.
    """

    name: str
    residues: int
    declared: int | None
    missing: tuple[tuple[int, int], ...]
    mismatched: tuple[tuple[int, str, str], ...]
    undeclared: int
    breaks: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; those without differences are left out."""
        values: dict[str, Any] = {"name": self.name, "residues": self.residues}
        if self.declared is not None:
            values["declared"] = self.declared
        for name in ("missing", "mismatched", "undeclared", "breaks"):
            if value := getattr(self, name):
                values[name] = value
        return values


def chain_accounts(table: ResidueTable, declared: Mapping[str, Sequence[str]]) -> tuple[ChainAccount, ...]:
    """Compare each chain of ``table`` with its declared sequence.

    Args:
        table: residues of one protein that were read.
        declared: chain identifier -> residue names of its declared sequence.
    """
    used = np.flatnonzero(np.bincount(table.chain)).tolist()
    names = unique_names([table.chains[chain] for chain in used])
    return tuple(
        _chain_account(table, chain, name, declared.get(table.chains[chain], ()))
        for chain, name in zip(used, names, strict=True)
    )


def _chain_account(table: ResidueTable, chain: int, name: str, declared: Sequence[str]) -> ChainAccount:
    rows = table.chain == chain
    found = b"\n".join(table.name[rows].tolist()).decode("latin-1").upper().split("\n")
    wanted = list(declared)
    missing, mismatched, undeclared = _compare(wanted, found) if wanted else ((), (), 0)
    return ChainAccount(
        name=name,
        residues=len(found),
        declared=len(wanted) or None,
        missing=missing,
        mismatched=mismatched,
        undeclared=undeclared,
        breaks=_breaks(table.number[rows], table.insertion_code[rows]),
    )


def _breaks(number: NDArray[np.int32], code: NDArray[np.uint8]) -> tuple[tuple[str, str], ...]:
    step = number[1:] - number[:-1].astype(np.int64)
    if (step == 1).all():
        return ()
    jumps = np.flatnonzero((step != 1) & ~((step == 0) & (code[1:] != code[:-1])))

    def label(row: int) -> str:
        return f"{number[row]}{chr(code[row])}".strip()

    return tuple((label(row), label(row + 1)) for row in jumps.tolist())


def _compare(
    wanted: list[str], found: list[str]
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, str, str], ...], int]:
    if wanted == found:
        return (), (), 0
    missing: list[tuple[int, int]] = []
    mismatched: list[tuple[int, str, str]] = []
    undeclared = 0
    for position, name in _aligned(wanted, found):
        if position is None:
            undeclared += 1
        elif name is None:
            if missing and missing[-1][1] == position:
                missing[-1] = (missing[-1][0], position + 1)
            else:
                missing.append((position + 1, position + 1))
        elif wanted[position] != name:
            mismatched.append((position + 1, wanted[position], name))
    return tuple(missing), tuple(mismatched), undeclared


def _aligned(wanted: list[str], found: list[str]) -> Iterator[tuple[int | None, str | None]]:
    """Yield pairs of declared position and residue name; one is ``None`` in a gap of the alignment."""
    scoring = gemmi.AlignmentScoring()
    result = gemmi.align_string_sequences(wanted, found, [], scoring)
    position = row = 0
    number = ""
    for character in result.cigar_str():
        if character.isdigit():
            number += character
            continue
        for _ in range(int(number)):
            yield (position if character in "MI" else None), (found[row] if character in "MD" else None)
            position += character in "MI"
            row += character in "MD"
        number = ""


def pdb_declared(header: bytes) -> dict[str, list[str]]:
    """Read chain identifier -> residue names from the first block of SEQRES records of a PDB header."""
    declared: dict[str, list[str]] = {}
    start = header.find(b"\nSEQRES")
    lines = header[start + 1 :].decode("latin-1").split("\n") if start >= 0 else []
    for line in lines:
        if not line.startswith("SEQRES"):
            break
        declared.setdefault(line[11:12].strip(), []).extend(line[19:70].upper().split())
    return declared


def mmcif_declared(block: gemmi.cif.Block) -> dict[str, list[str]]:
    """Read author's chain identifier -> residue names from the polymer sequences of an mmCIF block."""
    items = ("pdb_strand_id", "asym_id", "seq_id", "mon_id")
    scheme = [list(block.find_values(f"_pdbx_poly_seq_scheme.{item}")) for item in items]
    if scheme[0] and len({len(column) for column in scheme}) == 1:
        text = gemmi.cif.as_string
        return _by_chain((text(row[0]), text(row[2]), text(row[3])) for row in zip(*scheme, strict=True))
    entities: dict[str, list[str]] = {}
    for row in block.find("_entity_poly_seq.", ["entity_id", "mon_id"]):
        entities.setdefault(row.str(0), []).append(row.str(1).upper())
    strands = block.find("_entity_poly.", ["entity_id", "pdbx_strand_id"])
    return {
        chain: entities[row.str(0)]
        for row in strands
        if row.str(0) in entities
        for chain in row.str(1).replace(" ", "").split(",")
        if chain not in _NOT_ONE_CHAIN
    }


def _by_chain(rows: Iterator[tuple[str, str, str]]) -> dict[str, list[str]]:
    """Group residue names by chain; of alternatives at one position the first is used."""
    declared: dict[str, dict[str, str]] = {}
    for chain, position, name in rows:
        declared.setdefault(chain, {}).setdefault(position, name.upper())
    return {chain: list(names.values()) for chain, names in declared.items()}
