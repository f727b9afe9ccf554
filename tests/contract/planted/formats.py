"""Structure formats with a planted fault, and valid ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemmi

from esmgn_core.io import ParsedFile, UnreadableError
from esmgn_core.spec import Kind

from . import fault, undecided, valid

EXAMPLE = Path(__file__).with_name("peptide.rows")


@valid(Kind.FORMAT, example=EXAMPLE)
class Rows:
    """One CA atom a line."""

    suffixes: Any = (".rows",)

    @staticmethod
    def sniff(content: bytes) -> bool:
        return content.startswith(b"#rows")

    @staticmethod
    def read(content: bytes, _file_name: str) -> Any:
        if not content.startswith(b"#rows"):
            raise UnreadableError("no first line '#rows'")
        return parsed(content)


def parsed(content: bytes) -> ParsedFile:
    """Read the lines after the first."""
    chain = gemmi.Chain("A")
    for line in content.decode(errors="replace").splitlines()[1:]:
        atom, residue = gemmi.Atom(), gemmi.Residue()
        try:
            _, number, residue.name, *place = line.split()
            residue.seqid = gemmi.SeqId(number)
            atom.pos = gemmi.Position(*map(float, place))
        except (TypeError, ValueError) as error:
            raise UnreadableError(f"line {line!r}") from error
        atom.name, atom.element = "CA", gemmi.Element("C")
        residue.add_atom(atom)
        chain.add_residue(residue)
    structure, model = gemmi.Structure(), gemmi.Model(1)
    model.add_chain(chain)
    structure.add_model(model)
    return ParsedFile.of(structure)


@undecided(Kind.FORMAT, "no file is given")
class WithoutExample(Rows):
    pass


@fault(Kind.FORMAT, "has no endings", example=EXAMPLE)
class NoEndings(Rows):
    suffixes = ()


@fault(Kind.FORMAT, "'rows' is not like '.abc'", example=EXAMPLE)
class EndingWithoutDot(Rows):
    suffixes = ("rows",)


@fault(Kind.FORMAT, "'.ROWS' is not like '.abc'", example=EXAMPLE)
class CapitalEnding(Rows):
    suffixes = (".ROWS",)


@fault(Kind.FORMAT, "'.cif' belongs to a format of the core", example=EXAMPLE)
class TakesMmcif(Rows):
    suffixes = (".rows", ".cif")


@fault(Kind.FORMAT, "sniff accepts PDB text", example=EXAMPLE)
class SniffsAnyText(Rows):
    @staticmethod
    def sniff(content: bytes) -> bool:
        return content.isascii() and bool(content)


@fault(Kind.FORMAT, "sniff accepts an empty file", example=EXAMPLE)
class SniffsNothing(Rows):
    @staticmethod
    def sniff(content: bytes) -> bool:
        return b"#rows".startswith(content[:5])


@fault(Kind.FORMAT, "sniff refuses the first bytes", example=EXAMPLE)
class SniffsOtherContent(Rows):
    @staticmethod
    def sniff(content: bytes) -> bool:
        return content.startswith(b"# rows")


@fault(Kind.FORMAT, "must be functions of a module", example=EXAMPLE)
class NotPickled(Rows):
    read = staticmethod(lambda content, _file_name: parsed(content))


@fault(Kind.FORMAT, "raises UnreadableError and nothing else", example=EXAMPLE)
class RaisesIndexError(Rows):
    @staticmethod
    def read(content: bytes, file_name: str) -> Any:
        return Rows.read(content, file_name) if content.splitlines()[0] == b"#rows" else parsed(b"#")


@fault(Kind.FORMAT, "raises UnreadableError and nothing else", example=EXAMPLE)
class RaisesUnicodeError(Rows):
    @staticmethod
    def read(content: bytes, file_name: str) -> Any:
        return Rows.read(content.decode().encode(), file_name)


@fault(Kind.FORMAT, "without a reason", example=EXAMPLE)
class RefusesWithoutReason(Rows):
    @staticmethod
    def read(content: bytes, _file_name: str) -> Any:
        if not content.startswith(b"#rows"):
            raise UnreadableError("")
        return parsed(content)


@fault(Kind.FORMAT, "read returns Structure, expected ParsedFile", example=EXAMPLE)
class ReturnsStructure(Rows):
    @staticmethod
    def read(content: bytes, file_name: str) -> Any:
        Rows.read(content, file_name)
        return gemmi.Structure()


@fault(Kind.FORMAT, "does not read the example", example=EXAMPLE)
class ReadsNothing(Rows):
    @staticmethod
    def read(content: bytes, file_name: str) -> Any:
        return Rows.read(content.splitlines(keepends=True)[0] if content else content, file_name)


@fault(Kind.FORMAT, "cut off", example=EXAMPLE)
class NeedsTheLastLine(Rows):
    @staticmethod
    def read(content: bytes, file_name: str) -> Any:
        if content.startswith(b"#rows") and not content.endswith(b"\n"):
            raise KeyError("last line")
        return Rows.read(content, file_name)
