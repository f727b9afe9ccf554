"""Read FASTA files, and make proteins without coordinates from their records."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch

from esmgn_core.alphabet import AMINO_ACIDS, encode
from esmgn_core.batch import BACKBONE_ATOMS, Protein
from esmgn_core.errors import StructureError
from esmgn_core.io.files import unpacked_name
from esmgn_core.text import read_text

FASTA_SUFFIXES = (".fasta", ".fa", ".faa", ".fas", ".fsa")

_CHAIN_ENDS = re.compile("[/:]")  # written by ProteinMPNN and by ColabFold
_SAMPLE = re.compile(r"(?:sample|id)=\S+")
_DNA = frozenset("ACGTUN")
_MIN_DNA = 30  # letters; a shorter record may be a peptide
_SHOWN = 5
_INVALID = {
    "-": "a gap of an alignment; remove the gaps",
    ".": "a gap of an alignment; remove the gaps",
    "*": "a stop codon inside the sequence; split or shorten the sequence there",
}


def is_fasta(path: Path) -> bool:
    """True if the file has a suffix of FASTA files, compressed or not."""
    return unpacked_name(path.name.lower()).endswith(FASTA_SUFFIXES)


def read_fasta(path: Path) -> list[tuple[str, str]]:
    """Read the name and the sequence of each record; sequences in capitals, without a final stop.

    The name is the first word of the header. For headers of ProteinMPNN such as ``T=0.1, sample=1, ...``,
    it is the first item and the number of the sample, ``T=0.1_sample=1``.

    Raises:
        StructureError: the file cannot be read, or text precedes the first header.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise StructureError(f"cannot read {path}: {error}") from error
    lines = (line for line in text.split("\n") if not line.startswith(";"))  # comments in old files
    before, *records = ("\n" + "\n".join(lines)).split("\n>")
    if before.strip() or not records:
        raise StructureError(f"cannot read {path}: expected '>' and a name at the start of a FASTA file")
    return [_record(record, number) for number, record in enumerate(records, 1)]


def _record(text: str, number: int) -> tuple[str, str]:
    header, _, lines = text.partition("\n")
    return _name(header) or f"record{number}", "".join(lines.split()).upper().removesuffix("*")


def _name(header: str) -> str:
    """The name in the header of a record.

    >>> _name("sp|P00257|ADX_BOVIN Adrenodoxin"), _name("T=0.1, sample=2, score=0.8")
    ('sp|P00257|ADX_BOVIN', 'T=0.1_sample=2')
    """
    words = header.split()
    if not words or not words[0].endswith(","):
        return words[0] if words else ""
    first, *items = (item.strip() for item in header.split(","))
    return "_".join([first, *(item for item in items if _SAMPLE.fullmatch(item))])


def protein_of_record(name: str, sequence: str) -> Protein:
    """Make a protein without coordinates from a FASTA record.

    ``/`` and ``:`` separate chains, which are named A, B, ... Letters other than the 20 amino acids become X;
    a note lists them and their positions.

    Raises:
        ValueError: the sequence is empty or has a character that is not a letter.
    """
    chains = [chain for part in _CHAIN_ENDS.split(sequence) if (chain := part.removesuffix("*"))]
    letters = "".join(chains)
    if not letters:
        raise ValueError(f"record {name} has no sequence")
    if invalid := re.search("[^A-Z]", letters):
        reason = _INVALID.get(invalid[0], "expected letters only")
        raise ValueError(f"record {name} has {invalid[0]} at position {invalid.start() + 1}: {reason}")
    protein = protein_of_sequence(name, letters)
    lengths = torch.tensor([len(chain) for chain in chains])
    starts = lengths.cumsum(0) - lengths
    chain_index = torch.arange(len(chains)).repeat_interleave(lengths)
    return replace(
        protein,
        residue_index=protein.residue_index - starts[chain_index],
        chain_index=chain_index,
        chains=tuple(_chain_name(number) for number in range(len(chains))),
    )


def protein_of_sequence(name: str, sequence: str) -> Protein:
    """Make a protein without coordinates: chain A, residues numbered from 1."""
    length = len(sequence)
    return Protein(
        name=name,
        residue_type=torch.tensor(encode(sequence)),
        backbone=torch.full((length, len(BACKBONE_ATOMS), 3), torch.nan),
        atom_mask=torch.zeros(length, len(BACKBONE_ATOMS), dtype=torch.bool),
        residue_index=torch.arange(1, length + 1),
        chain_index=torch.zeros(length, dtype=torch.int64),
        notes=_notes(sequence),
    )


def _chain_name(number: int) -> str:
    letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number % 26]
    return letter if number < 26 else f"{letter}{number // 26 + 1}"


def _notes(letters: str) -> tuple[str, ...]:
    if len(letters) >= _MIN_DNA and set(letters) <= _DNA:
        return ("only the letters A, C, G, T, U and N: DNA or RNA would be read as a protein",)
    unusual = [
        f"{letter} at {place}" for place, letter in enumerate(letters, 1) if letter not in AMINO_ACIDS + "X"
    ]
    if not unusual:
        return ()
    more = [f"{len(unusual) - _SHOWN} more"] if len(unusual) > _SHOWN else []
    return (f"read as X: {', '.join([*unusual[:_SHOWN], *more])}",)
