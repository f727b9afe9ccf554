"""Read the protein of one item of a plan, from any kind of source."""

from __future__ import annotations

import dataclasses
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from io import BufferedReader
from pathlib import Path

import numpy as np

from esmgn_core.errors import StructureError
from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.io.atom3d import Atom3DRecords, atoms_to_residues
from esmgn_core.io.chains import no_chain
from esmgn_core.io.files import UnreadableError, bytes_of, open_regular
from esmgn_core.io.foldcomp import foldcomp_pdb
from esmgn_core.io.formats import FORMATS, Formats
from esmgn_core.io.origin import Origin
from esmgn_core.io.protein import Reading, ReadReport
from esmgn_core.io.read import read_content
from esmgn_core.io.seqres import ChainAccount
from esmgn_core.io.trajectory import frame
from esmgn_core.machine.child import LIMIT
from esmgn_core.store.sources import Item

_MAX_MEMBER = 1 << 29  # bytes
_MAX_HUNG = 3  # items of one file that may run into the time limit


@dataclass(slots=True)
class ItemReader:
    """Reads items; keeps the archive of the last item open. Use it in a ``with`` block.

    Attributes:
        formats: the formats to read.
    """

    formats: Formats = field(default_factory=lambda: FORMATS)
    _open: ExitStack = field(default_factory=ExitStack)
    _source: str = ""
    _hung: Counter[str] = field(default_factory=Counter)
    _archive: BufferedReader | zipfile.ZipFile | Atom3DRecords | None = None

    def __enter__(self) -> ItemReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, item: Item) -> tuple[Reading, bytes | None]:
        """Read the protein of an item, and the SHA-256 of its bytes; ``None`` for frames and records.

        Raises:
            UnreadableError: the item cannot be read as a protein.
        """
        if item.reason:
            raise UnreadableError(item.reason)
        if self._hung[item.source] >= _MAX_HUNG:
            raise UnreadableError(f"given up: {_MAX_HUNG} items of this file took too long to read")
        start = time.monotonic()
        try:
            return self._read(item)
        except UnreadableError:
            self._hung[item.source] += time.monotonic() - start >= LIMIT
            raise

    def _read(self, item: Item) -> tuple[Reading, bytes | None]:
        if item.kind == "trajectory":
            number, _, topology = item.member.partition("@")
            return _bare(frame(Path(item.source), Path(topology), int(number))), None
        if item.kind == "atom3d":
            return self._atom3d(item), None
        if item.kind == "foldcomp":
            content = foldcomp_pdb(Path(item.source), item.member)
        else:
            content = self._content(item)
        digest = sha256(content).digest()
        reading = read_content(content, (item.member or item.source).rpartition("/")[2], self.formats)
        return _one_chain(reading, item.chain) if item.chain else reading, digest

    def _content(self, item: Item) -> bytes:
        try:
            if item.kind == "file":
                return bytes_of(Path(item.source))
            archive = self._opened(item)
            if isinstance(archive, BufferedReader):
                archive.seek(item.offset)
                return archive.read(item.size)
            assert isinstance(archive, zipfile.ZipFile)  # noqa: S101 - for the type checker
            if item.size > _MAX_MEMBER:
                raise UnreadableError(f"inflates to more than {_MAX_MEMBER >> 20} MiB: not a structure file")
            with archive.open(item.member) as member:
                return member.read(_MAX_MEMBER)
        except (
            OSError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            KeyError,
            ValueError,
        ) as error:
            reason = getattr(error, "strerror", None) or error
            raise UnreadableError(f"cannot be opened: {reason}") from error

    def _opened(self, item: Item) -> BufferedReader | zipfile.ZipFile | Atom3DRecords:
        if self._archive is None or self._source != item.source:
            self._open.close()
            if item.kind == "tar":
                self._archive = self._open.enter_context(open_regular(Path(item.source)))
            elif item.kind == "zip":
                self._archive = self._open.enter_context(
                    zipfile.ZipFile(self._open.enter_context(open_regular(Path(item.source))))
                )
            else:
                self._archive = Atom3DRecords(Path(item.source))
            self._source = item.source
        return self._archive

    def _atom3d(self, item: Item) -> Reading:
        number, _, table = item.member.partition("/")
        try:
            records = self._opened(item)
            assert isinstance(records, Atom3DRecords)  # noqa: S101 - for the type checker
            record = records.read(int(number))
        except StructureError as error:
            raise UnreadableError(error.message) from error
        if table not in record:
            raise UnreadableError(f"the record has no table '{table}'")
        return _bare(atoms_to_residues(record[table]))


def _bare(residues: ResidueArrays) -> Reading:
    """Wrap a protein from a source without headers."""
    return Reading(
        residues,
        ReadReport("pdb", notes=residues.notes),
        origin=Origin,
        chains=lambda: tuple(_chains(residues)),
    )


def _chains(residues: ResidueArrays) -> Iterator[ChainAccount]:
    for number, name in enumerate(residues.chains):
        yield ChainAccount(name, int((residues.chain == number).sum()), None, (), (), 0, ())


def _one_chain(reading: Reading, name: str) -> Reading:
    residues = reading.residues
    if residues.chains.count(name) != 1:
        raise UnreadableError(f"it has {no_chain(name, residues.chains)}")
    rows = residues.chain == residues.chains.index(name)
    kept = ResidueArrays(
        residue_type=residues.residue_type[rows],
        backbone=residues.backbone[rows],
        number=residues.number[rows],
        insertion_code=residues.insertion_code[rows],
        chain=np.zeros(int(rows.sum()), dtype=np.int64),
        chains=(name,),
        plddt=None if residues.plddt is None else residues.plddt[rows],
    )
    chains = tuple(chain for chain in reading.chains() if chain.name == name)
    return dataclasses.replace(reading, residues=kept, chains=lambda: chains)
