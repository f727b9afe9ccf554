"""Archives and stores of any size, made by repeating a few AlphaFold DB files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa

from esmgn_core.io.protein import Reading
from esmgn_core.io.read import read_content
from esmgn_core.store import Layout, Store
from esmgn_core.store.build import SHARDS
from esmgn_core.store.contents import record_contents
from esmgn_core.store.index import SCHEMA, accepted
from esmgn_core.store.parts import commit
from esmgn_core.store.settings import write_manifest
from esmgn_core.store.shard_builder import ShardBuilder
from esmgn_core.store.sources import Item


def make_tar(folder: Path, path: Path, members: int) -> Path:
    files = [file.read_bytes() for file in sorted(folder.glob("*.pdb.gz"))]
    with tarfile.open(path, "w") as archive:
        for number in range(members):
            member = tarfile.TarInfo(f"AF-Q{number:05d}-F1-model_v4.pdb.gz")
            member.size = len(files[number % len(files)])
            archive.addfile(member, io.BytesIO(files[number % len(files)]))
    return path


def readings(folder: Path) -> list[Reading]:
    return [read_content(file.read_bytes(), file.name) for file in sorted(folder.glob("*.pdb.gz"))]


def repeated(path: Path, found: list[Reading], count: int, layout: Layout | None = None) -> Store:
    """A store of ``count`` proteins made by repeating some, without files."""
    layout = layout or Layout()
    (path / SHARDS).mkdir(parents=True)
    builder, rows = ShardBuilder(layout), []
    for number in range(count):
        reading = found[number % len(found)]
        name = f"AF-Q{number:06d}-F1-model_v4"
        if number < len(found):
            rows.append(accepted(Item("file", name, name=name), reading, b"0" * 32))
        else:
            rows.append({**rows[number % len(found)], "name": name, "source": name})
        builder.add(name, reading.residues)
    commit(path / SHARDS, "00000", builder.write, [pa.Table.from_pylist(rows, schema=SCHEMA)])
    write_manifest(path, layout, record_contents(path / SHARDS))
    return Store(path)
