"""Recognise PDB, mmCIF and BinaryCIF by content, and explain why other content is not read."""

from __future__ import annotations

import re
from itertools import islice

from esmgn_core.io.files import UnreadableError, unpacked_name

_MMCIF = re.compile(rb"(?:\s++|#[^\r\n]*+[\r\n])*+data_", re.IGNORECASE)
_PDB_START = (b"HEADER  ", b"ATOM  ", b"MODEL   ")
_BCIF = re.compile(rb"[\x80-\x8f\xde\xdf][\s\S]{0,4096}?dataBlocks")  # a MessagePack map
_NOT_TEXT = re.escape(bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1a")))

_CONVERT = "convert it to PDB or mmCIF first"
_GET_CIF = "get the entry as mmCIF (.cif)"
_CONFIDENCES = "such as the confidences beside a predicted model: give the model itself (.cif or .pdb)"
PQR = f"PQR format has charges and radii instead of occupancy and B-factor: {_CONVERT}"
MMTF = f"MMTF format is not read: {_GET_CIF}"
MMJSON = f"mmJSON format is not read: {_GET_CIF}"
PDBML = f"PDBML (PDB as XML) is not read: {_GET_CIF}"
GRO = f"GRO format of GROMACS is not read: {_CONVERT} (gmx editconf)"
MOL2 = f"MOL2 format is not read: {_CONVERT}"
SDF = f"SDF/MOL format, for small molecules, is not read: {_CONVERT}"
XYZ = "XYZ format has no residues: give a PDB or mmCIF file"

_PDBML = rb"(?s)\A\s*<.{0,2000}?<(?:\w+:)?datablock\b"
_OTHER_CONTENT = {
    rb"\AFCMP": "Foldcomp format: unpack it with `foldcomp decompress`",
    rb"mmtfVersion": MMTF,
    rb"(?s)\APK\x03\x04.{26}[^\0/]{1,200}?\.npy": f"NumPy arrays (.npz), {_CONFIDENCES}",
    rb"\A\x93NUMPY": "a NumPy array (.npy): give a structure file (.cif or .pdb)",
    rb"\A\x89HDF": "an HDF5 file: give a structure file (.cif or .pdb)",
    rb"\A\x28\xb5\x2f\xfd": "packed with zstd: unpack it first (unzstd)",
    rb"\A\x1f\x9d": "packed with compress (.Z): unpack it first (uncompress)",
    rb"\A\x04\x22\x4d\x18": "packed with lz4: unpack it first (unlz4)",
    rb"\APK\x03\x04": "a zip archive: unpack it first",
    rb"\A7z\xbc\xaf": "a 7z archive: unpack it first",
    rb"\ARar!": "a RAR archive: unpack it first",
    rb"(?s)\A.{257}ustar": "a tar archive: unpack it first",
    rb"\A(?:%PDF|\x89PNG|\xff\xd8\xff|GIF8)": "an image or a PDF document, not a structure",
    b"[" + _NOT_TEXT + b"]": "binary data, neither PDB nor mmCIF text",
    rb"(?i)\A\s*<(?:!doctype\s+html|html)": "an HTML page, as a failed download leaves: download it again",
    _PDBML: PDBML,
    rb"\A\s*<": "XML, neither PDB nor mmCIF text: get the entry as mmCIF (.cif)",
    rb"\A\s*\{\s*\"data_": MMJSON,
    rb"\A\s*[\[{]\s*[\"\[\]{}\d-]": f"JSON, {_CONFIDENCES}",
    rb"\A\s*>": "FASTA, sequences without coordinates: rename it to .fasta and use a sequence encoder alone",
    rb"(?m)^@<TRIPOS>": MOL2,
    rb"(?m)^M  (?:END|V30)|\bV[23]000\s*$": SDF,
    rb"\A[^\n]*\n\s*\d+\s*\n[ \d]{5}\w{2,5}\s+\S+?\s*\d+\s+-?\d+\.\d+\s": GRO,
    rb"\A\s*\d+\s*\n[^\n]*\n\s*[A-Z][a-z]?(?:\s+-?\d+\.\d+){3}": XYZ,
}
"""Pattern at the beginning of other files -> what they are, and what to do."""

_PDB_RECORDS = (*_PDB_START, b"HETATM", b"TITLE     ", b"CRYST1 ", b"COMPND    ", b"EXPDTA    ")
_ATOM_RECORD = re.compile(rb"(?m)^(?:ATOM  |HETATM)[^\n]{24}(?: *-?\d+\.\d{3}){3}")
_ATOM_LINE = re.compile(rb"^(?:ATOM|HETATM).*$", re.MULTILINE)
_DECIMAL = re.compile(rb"[+-]?\d*\.\d+")
_CHARGE = re.compile(rb"[+-]?\d*\.\d{3,}")
_MAX_RADIUS = 4.0  # angstrom; more than any atom has
_PQR_LINES = 50

_ASCII_ONLY = bytes(range(128)) + b"x" * 128


def is_pdb(content: bytes) -> bool:
    """True if the first record is a usual first record of PDB files."""
    return content.startswith(_PDB_START)


def is_mmcif(content: bytes) -> bool:
    """True if the text begins with comments, if any, and a data block."""
    return _MMCIF.match(content) is not None


def is_bcif(content: bytes) -> bool:
    """True if the content is a MessagePack map with the key ``dataBlocks``."""
    return _BCIF.match(content) is not None


def has_pdb_records(content: bytes) -> bool:
    """True if the beginning of a file has PDB records in any letter case (wider than :func:`is_pdb`)."""
    content = content.upper()
    return content.startswith(_PDB_RECORDS) or _ATOM_RECORD.search(content) is not None


def plain_text(content: bytes) -> bytes:
    """Return ASCII text whose lines end with a newline, as the parsers require."""
    if not content.isascii():  # in names and comments; gemmi rejects some of these bytes
        content = content.translate(_ASCII_ONLY)
    if b"\n" not in content[:4096]:  # line ends are CR alone
        content = content.replace(b"\r", b"\n")
    return content


def refuse_other_content(content: bytes) -> None:
    """Raise if the content cannot be PDB or mmCIF text.

    Raises:
        UnreadableError: names the kind of content, and what to do.
    """
    if content.isspace():
        raise UnreadableError("the file holds only white space")
    for pattern, reason in _OTHER_CONTENT.items():
        if re.search(pattern, content[:4096]):
            raise UnreadableError(reason)


def refuse_pqr(text: bytes, file_name: str, first_atom: int = 0) -> None:
    """Raise for PQR text, which has charges and radii in place of occupancies and B-factors.

    Args:
        text: the file.
        file_name: its name.
        first_atom: offset to search from; skips the header, whose search is slow.

    Raises:
        UnreadableError: the name ends with ``.pqr``, or the first atoms end with a charge and a radius.
    """
    if unpacked_name(file_name).lower().endswith(".pqr") or _is_pqr(text, first_atom):
        raise UnreadableError(PQR)


def _is_pqr(text: bytes, first_atom: int) -> bool:
    charges = set()
    for line in islice(_ATOM_LINE.finditer(text, first_atom), _PQR_LINES):
        # In PDB text the last field is an element, or the one before is an occupancy: never negative, two
        # decimals.
        if len(fields := line[0].split()[-5:]) < 5:
            return False
        *place, charge, radius = fields
        numbers = all(_DECIMAL.fullmatch(field) for field in (*place, charge, radius))
        if not numbers or float(radius) > _MAX_RADIUS:
            return False
        charges.add(charge)
    exact = all(_CHARGE.fullmatch(charge) for charge in charges)
    return any(float(charge) < 0 or (exact and float(charge) % 1) for charge in charges)


def other_structure_format(content: bytes) -> str:
    """Explain why a structure in another format with this beginning is not read; else empty."""
    for pattern, reason in _OTHER_CONTENT.items():
        if reason in (MMTF, MMJSON, PDBML, MOL2, SDF, GRO) and re.search(pattern, content):
            return reason
    return ""
