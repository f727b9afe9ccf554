"""Record the files of a finished store in ``store.json``, and compare them when it is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from esmgn_core.machine.files import file_sha256
from esmgn_core.store.columns import COLUMNS_SUFFIX
from esmgn_core.store.index import INDEX_SUFFIX, columns_digest
from esmgn_core.store.shard import Shard

_NAME = re.compile(rf"\d{{5,}}(?:{re.escape(COLUMNS_SUFFIX)}|{re.escape(INDEX_SUFFIX)})", re.ASCII)
_WHOLE = 1 << 20  # bytes up to which a sample is the whole file
_BLOCK, _NUM_BLOCKS = 1 << 12, 64


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size and hashes of a file when it was written.

    Attributes:
        size: number of bytes.
        sample: see :func:`sample_digest`.
        sha256: SHA-256 of the whole file, 64 hexadecimal digits.
    """

    size: int
    sample: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Contents:
    """The recorded files of a finished store.

    Attributes:
        proteins: number of proteins in all shards.
        shards: number of shards.
        files: name -> record, for the columns and the index of each shard.
    """

    proteins: int
    shards: int
    files: Mapping[str, FileRecord]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for ``store.json``."""
        return {
            "proteins": self.proteins,
            "shards": self.shards,
            "files": {name: asdict(record) for name, record in self.files.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Contents:
        """Restore from the result of :meth:`as_dict`.

        Raises:
            ValueError: the values are malformed, or contradict each other.
        """
        try:
            files = {str(name): FileRecord(**record) for name, record in values["files"].items()}
            contents = cls(values["proteins"], values["shards"], files)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the record of its files is damaged: {error}") from error
        if invalid := [name for name in files if not _NAME.fullmatch(name)]:
            raise ValueError(f"the record of its files is damaged: {invalid[0][:50]!r} is not a shard")
        numbers = (contents.proteins, contents.shards, *(record.size for record in files.values()))
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("the record of its files is damaged: a count is not a number")
        if len(files) != 2 * contents.shards:
            raise ValueError(f"it records {len(files)} files for {contents.shards} shards, not two for each")
        return contents

    def differences(self, shards: Path, *, is_building: bool, whole: bool = False) -> Iterator[str]:
        """Yield how the files in the folder ``shards`` differ from the record.

        Args:
            shards: the folder.
            is_building: True if a build may have added shards that are not recorded yet.
            whole: True to read whole files; by default size and sample, which is fast.
        """
        found = {file.name for file in shards.glob("*") if file.suffix in (COLUMNS_SUFFIX, INDEX_SUFFIX)}
        for name, record in self.files.items():
            file = shards / name
            if name not in found:
                yield f"{file} is missing"
            elif (size := file.stat().st_size) != record.size:
                yield f"{file} has {size:,} bytes, expected {record.size:,}"
            elif sample_digest(file) != record.sample or (whole and file_sha256(file) != record.sha256):
                yield f"{file}: the bytes are not those that were written"
        for name in () if is_building else sorted(found - self.files.keys()):
            yield f"{shards / name} does not belong to the store"


def record_contents(shards: Path, known: Contents | None = None) -> Contents:
    """Record the shards in a folder; files of ``known`` are not read again.

    Raises:
        OSError: a file cannot be read.
        ValueError: a shard is damaged.
    """
    files: dict[str, FileRecord] = {}
    proteins = 0
    columns = sorted(shards.glob(f"*{COLUMNS_SUFFIX}"))
    for file in columns:
        index = file.with_suffix(INDEX_SUFFIX)
        proteins += len(Shard(file))
        for path in (file, index):
            record = known.files.get(path.name) if known else None
            files[path.name] = record or FileRecord(
                path.stat().st_size,
                sample_digest(path),
                columns_digest(index) if path == file else file_sha256(path),
            )
    return Contents(proteins, len(columns), files)


def sample_digest(path: Path) -> str:
    """SHA-256 of a file of up to 1 MiB, or of 64 blocks of 4 KiB spread over a larger file.

    Raises:
        OSError: the file cannot be read.
    """
    digest = sha256()
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        if size <= _WHOLE:
            digest.update(file.read())
        else:
            for number in range(_NUM_BLOCKS):
                file.seek((size - _BLOCK) * number // (_NUM_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()
