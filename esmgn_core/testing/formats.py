"""Claims about structure formats."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from esmgn_core.errors import EsmgnError
from esmgn_core.io import FORMATS, Format, ParsedFile, UnreadableError, read_protein
from esmgn_core.io.files import bytes_of, unpacked
from esmgn_core.io.write import mmcif_text, pdb_text
from esmgn_core.testing.claims import Claims
from esmgn_core.testing.examples import example_proteins

_FIRST_BYTES = 4096
_NUM_CUTS = 16


@dataclass(frozen=True, slots=True)
class FormatSubject:
    """A format under test, and a file of it, if there is one."""

    claims: Claims
    format: Format
    example: Path | None

    def read(self, content: bytes, about: str) -> ParsedFile | None:
        """Read content; ``None`` if it is refused."""
        try:
            parsed = self.format.read(content, f"example{self.format.suffixes[0]}")
        except UnreadableError as error:
            self.claims.require(bool(str(error)), f"refuses {about} without a reason")
            return None
        self.claims.require(
            isinstance(parsed, ParsedFile), f"read returns {type(parsed).__name__}, expected ParsedFile"
        )
        return parsed


def check_format(claims: Claims, candidate: object, example: str | Path | None = None) -> None:
    """Check all claims about a format; without an ``example`` of a file, reading is not judged."""

    def is_format() -> None:
        claims.require(
            isinstance(candidate, Format), f"is of type {type(candidate).__name__}, expected Format"
        )

    claims.judge("It is a Format.", is_format)
    if isinstance(candidate, Format):
        checks = (_endings, _sniffs_others, _pickled, _refuses, _reads, _cut)
        claims.check(checks, FormatSubject(claims, candidate, Path(example) if example else None))


def _endings(subject: FormatSubject) -> None:
    """It has endings of file names that no format of the core has."""
    claims, suffixes = subject.claims, subject.format.suffixes
    claims.require(bool(suffixes), "has no endings of file names")
    taken = {suffix for known in FORMATS.values() for suffix in known.suffixes}
    for suffix in suffixes:
        is_ending = suffix.startswith(".") and suffix == suffix.lower()
        claims.require(is_ending, f"ending '{suffix}' is not like '.abc'")
        claims.require(suffix not in taken, f"ending '{suffix}' belongs to a format of the core")


def _sniffs_others(subject: FormatSubject) -> None:
    """It does not accept PDB and mmCIF text or an empty file."""
    protein = example_proteins(0)[0]
    texts = {"PDB text": pdb_text(protein), "mmCIF text": mmcif_text(protein), "an empty file": ""}
    for title, text in texts.items():
        subject.claims.require(not subject.format.sniff(text.encode()), f"sniff accepts {title}")


def _pickled(subject: FormatSubject) -> None:
    """It can be pickled for other processes."""
    try:
        pickle.dumps(subject.format)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        subject.claims.require(False, f"sniff and read must be functions of a module: {error}")


def _refuses(subject: FormatSubject) -> None:
    """Content that it cannot read raises UnreadableError and nothing else."""
    protein = example_proteins(0)[0]
    subject.read(b"", "an empty file")
    subject.read(bytes(range(256)) * 8, "binary data")
    subject.read(pdb_text(protein).encode(), "PDB text")


def _reads(subject: FormatSubject) -> None:
    """It recognizes a file by its first bytes, and reads a protein from it."""
    if subject.example is None:
        subject.claims.not_judged.append("reading: no file is given, such as example='peptide.abc'")
        return
    content = unpacked(bytes_of(subject.example))
    start = content[:_FIRST_BYTES]
    subject.claims.require(bool(subject.format.sniff(start)), "sniff refuses the first bytes of the example")
    subject.read(content, "the example")
    try:
        read_protein(subject.example, formats={"example": subject.format})
    except EsmgnError as error:
        subject.claims.require(False, f"does not read the example: {error}")


def _cut(subject: FormatSubject) -> None:
    """A file that is cut off raises UnreadableError or gives the residues that it has."""
    if subject.example is None:
        subject.claims.not_judged.append("files that are cut off: no file is given")
        return
    content = unpacked(bytes_of(subject.example))
    for number in range(_NUM_CUTS):
        subject.read(content[: len(content) * number // _NUM_CUTS], "a file that is cut off")
