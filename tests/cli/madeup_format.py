"""A structure format of a plugin: PDB text after a header line."""

from __future__ import annotations

import gemmi

from esmgn_core.io import Format, ParsedFile, UnreadableError

FIRST_LINE = b"MADEUP FORMAT\n"


def _sniff(content: bytes) -> bool:
    return content.startswith(FIRST_LINE)


def _read(content: bytes, _file_name: str) -> ParsedFile:
    if content.count(b"\n") < 2:
        raise UnreadableError("no atoms after the first line")
    return ParsedFile.of(gemmi.read_pdb_string(content[len(FIRST_LINE) :]), has_plddt=True)


MADEUP = Format("made-up format", (".madeup",), _sniff, _read)
