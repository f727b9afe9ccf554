"""Damaged files that end or stop a library of C cost a build that file, and nothing else."""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import h5py
import lmdb
import numpy as np
import pytest

from esmgn_core.errors import StructureError
from esmgn_core.io import trajectory
from esmgn_core.io.atom3d import Atom3DRecords, atoms_to_residues
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.hdf5 import check_links, read_datasets
from esmgn_core.io.write import pdb_text
from esmgn_core.machine import child
from esmgn_core.store.reading import ItemReader
from esmgn_core.store.sources import Item, find_items

from .test_safety import refused

DAMAGED = Path(__file__).parents[3] / "shared" / "cases" / "damaged"
shared = pytest.mark.skipif(not DAMAGED.is_dir(), reason=f"needs the damaged files in {DAMAGED}")

ATOMS = {
    "columns": ["model", "chain", "hetero", "insertion_code", "residue", "resname", "x", "y", "z", "name"],
    "data": [[0, "A", " ", " ", number, "GLY", 3.8 * number, 0.0, 0.0, "CA"] for number in range(1, 6)],
}


def write_lmdb(folder: Path, records: list[object], count: bytes | None = None) -> Path:
    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 22) as environment, environment.begin(write=True) as put:
        put.put(b"num_examples", str(len(records)).encode() if count is None else count)
        put.put(b"serialization_format", b"json")
        for number, record in enumerate(records):
            packed = record if isinstance(record, bytes) else gzip.compress(json.dumps(record).encode())
            put.put(str(number).encode(), packed)
    (folder / "lock.mdb").unlink()
    return folder


def damage(file: Path, at: int, content: bytes) -> None:
    changed = bytearray(file.read_bytes())
    changed[at : at + len(content)] = content
    file.write_bytes(changed)


@pytest.fixture
def fcz(tmp_path, proteins):
    """A Foldcomp file that foldcomp crashes on."""
    foldcomp = pytest.importorskip("foldcomp")
    protein = next(protein for protein in proteins if protein.name == "predicted")
    file = tmp_path / "sources" / "crash.fcz"
    file.parent.mkdir()
    file.write_bytes(foldcomp.compress("crash", pdb_text(protein)))
    shutil.copy(file, file.with_name("good.fcz"))
    damage(file, 12, b"\xff")
    return file


def test_a_build_goes_on_where_foldcomp_crashes_and_a_second_try_too(fcz, make):
    for name in ("first", "second"):
        store = make(fcz.parent, name=name)
        assert store.names == ["good"]
        assert refused(store) == {"crash": "foldcomp cannot read it: the process died: SIGABRT"}
    again = make(fcz.parent, name="first", append=True)
    assert (len(again), len(refused(again))) == (1, 1)


def test_a_foldcomp_database_with_a_damaged_table_of_names_is_refused(tmp_path):
    pytest.importorskip("foldcomp")
    (tmp_path / "db").write_bytes(b"x")
    (tmp_path / "db.index").write_text("0\t0\t1\n")
    reasons = [item.reason for item in find_items([str(tmp_path / "db")])]
    assert reasons == ["looks like a Foldcomp database, but db.lookup is missing"]
    (tmp_path / "db.lookup").write_bytes(b"\xff\n")
    reasons = [item.reason for item in find_items([str(tmp_path / "db")])]
    assert reasons == ["db.lookup, line 1: expected a number, a tab and a name"]


def test_an_lmdb_that_ends_the_process_is_refused_and_the_build_goes_on(folder, make):
    write_lmdb(folder / "set", [{"atoms": ATOMS, "id": "x" * size} for size in range(0, 3000, 100)])
    damage(folder / "set" / "data.mdb", 2 * 4096 + 16, b"\xff" * 44)
    store = make(folder)
    assert len([name for name in store.names if not name.startswith("set-")]) == 5
    crashed = "the LMDB library crashed or hung on it (the process died: SIG"
    assert crashed in refused(store)["set-0-atoms"]


@pytest.mark.parametrize("size", [0, 5000, 8292])
def test_an_lmdb_that_is_cut_off_is_refused(tmp_path, size):
    file = write_lmdb(tmp_path / "set", [{"atoms": ATOMS}]) / "data.mdb"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(StructureError, match=r"cannot open .*data\.mdb as LMDB: "):
        Atom3DRecords(tmp_path / "set")


@pytest.mark.parametrize("count", [b"\0", b"1000000000", b"-1", b"\xc2", "٣".encode()])
def test_a_count_of_records_that_cannot_be_is_named(tmp_path, count):
    write_lmdb(tmp_path / "set", [{"atoms": ATOMS}], count)
    with pytest.raises(StructureError, match=r"data\.mdb is damaged: 'num_examples' is '"):
        Atom3DRecords(tmp_path / "set")


def test_odd_records_cost_no_other(tmp_path, make):
    odd = [
        None,
        [1, 2],
        {"atoms": {"columns": ["x"], "data": [[1, 2]]}},
        {"atoms": {"columns": 3, "data": 4}},
        {"atoms": "text"},
        gzip.compress(b"[" * 100_000),
        gzip.compress(b"\xff{}"),
        b"no gzip",
    ]
    store = make(write_lmdb(tmp_path / "set", [*odd, {"atoms": ATOMS}]))
    assert store.names == [f"set-{len(odd)}-atoms"]
    reasons = refused(store)
    assert len(reasons) == len(odd)
    assert not [reason for reason in reasons.values() if "the reader failed" in reason]
    assert reasons["set-5-atoms"].endswith("is damaged: nested too deeply")


@pytest.mark.parametrize("value", [None, {}, [1], "text", float("nan"), 10**30])
@pytest.mark.parametrize("column", ["x", "residue", "chain", "resname", "name"])
def test_odd_cells_of_a_table_are_refused_or_read(column, value):
    columns: Any = map(list, zip(*cast("Any", ATOMS["data"]), strict=True))
    atoms = dict(zip(cast("Any", ATOMS["columns"]), columns, strict=True))
    atoms[column][0] = value
    with suppress(UnreadableError):
        assert 4 <= len(atoms_to_residues(atoms)) <= 5
    atoms[column] = value
    with pytest.raises(UnreadableError):
        atoms_to_residues(atoms)


def test_records_inflate_to_a_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr("esmgn_core.io.atom3d._MAX_RECORD", 1 << 20)
    records = Atom3DRecords(write_lmdb(tmp_path / "set", [gzip.compress(b" " * (1 << 23))]))
    with pytest.raises(StructureError, match="inflates to more than 1 MiB"):
        records[0]


def test_a_set_that_hangs_is_given_up(monkeypatch):
    reader, calls = ItemReader(), []

    def hang(_, item):
        calls.append(item.member)
        clock[0] += child.LIMIT
        raise UnreadableError("no answer")

    clock = [0.0]
    monkeypatch.setattr(ItemReader, "_read", hang)
    monkeypatch.setattr("esmgn_core.store.reading.time.monotonic", lambda: clock[0])
    for number in range(6):
        with pytest.raises(UnreadableError) as caught:
            reader.read(Item("atom3d", "/set", f"{number}/atoms"))
    assert len(calls) == 3
    assert str(caught.value) == "given up: 3 items of this file took too long to read"


@pytest.fixture
def dcd(folder, tmp_path):
    mdtraj = pytest.importorskip("mdtraj")
    with warnings.catch_warnings(action="ignore"):  # of a unit cell
        first = mdtraj.load(str(folder / "two_chains.pdb"))
    frames = mdtraj.join([first, first])
    frames.xyz[1, 3] = np.nan
    frames.save_dcd(str(tmp_path / "md.dcd"))
    return tmp_path / "md.dcd"


def test_damaged_trajectories_are_refused_and_the_build_goes_on(folder, dcd, make, tmp_path):
    topology = folder / "two_chains.pdb"
    for name, content in (("cut.dcd", dcd.read_bytes()[:300]), ("no.trr", b"\0" * 290), ("x.nc", b"CDF\2\0")):
        (tmp_path / name).write_bytes(content)
    sources = [tmp_path / name for name in ("cut.dcd", "no.trr", "x.nc", "md.dcd")]
    store = make(*sources, topology=topology)
    assert store.names == ["md-0"]
    reasons = refused(store)
    assert reasons.pop("md-1") == "frame 1 has coordinates that are not finite"
    assert reasons.keys() == {"cut.dcd", "no.trr", "x.nc"}


def test_a_damaged_topology_is_a_reason(dcd, make, tmp_path):
    (tmp_path / "topology.pdb").write_text("END\n")
    reasons = refused(make(dcd, topology=tmp_path / "topology.pdb"))
    assert reasons.keys() == {"md.dcd"}


def secret(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.ones(3)
    return tmp_path / "secret.h5"


@pytest.mark.parametrize("kind", ["external", "soft", "virtual", "storage"])
def test_nothing_outside_an_hdf5_file_is_read(tmp_path, kind):
    other = secret(tmp_path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "external":
            file["x"] = h5py.ExternalLink(str(other), "/x")
        elif kind == "soft":
            file["out"] = h5py.ExternalLink(str(other), "/")
            file["x"] = h5py.SoftLink("/out/x")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((3,), dtype="f8")
            layout[:] = h5py.VirtualSource(str(other), "x", (3,))
            file.create_virtual_dataset("x", layout)
        else:
            file.create_dataset("x", (3,), dtype="u1", external=[(str(other), 0, 3)])
    outside = "is a link or is kept in another file, which is not followed"
    with pytest.raises(UnreadableError, match=outside):
        read_datasets(tmp_path / "a.h5", ["x"])
    with pytest.raises(UnreadableError, match=outside):
        child.call(check_links, tmp_path / "a.h5")


def test_an_hdf5_file_unfolds_to_a_bounded_size(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (1 << 36,), dtype="f4", chunks=(1 << 10,))
    with pytest.raises(UnreadableError, match="expands to 274,877,906,944 bytes"):
        read_datasets(tmp_path / "a.h5", ["x"])
    assert read_datasets(secret(tmp_path), ["x"])["x"].tolist() == [1, 1, 1]


@shared
@pytest.mark.parametrize(
    "name", sorted(file.name for file in DAMAGED.glob("*.fcz")) if DAMAGED.is_dir() else []
)
def test_the_damaged_foldcomp_files(name):
    pytest.importorskip("foldcomp")
    with ItemReader() as reader, suppress(UnreadableError):
        reading, _ = reader.read(Item("foldcomp", str(DAMAGED / name), name=name))
        assert len(reading.residues)


@shared
@pytest.mark.parametrize(
    "name", sorted(file.name for file in DAMAGED.glob("mdb-*")) if DAMAGED.is_dir() else []
)
def test_the_damaged_lmdb_files(name, make, tmp_path):
    (tmp_path / "set").mkdir()
    shutil.copy(DAMAGED / name, tmp_path / "set" / "data.mdb")
    store = make(tmp_path / "set")
    assert refused(store)
    assert not [reason for reason in refused(store).values() if "the reader failed" in reason]


@shared
@pytest.mark.parametrize(
    "name", sorted(file.name for file in DAMAGED.glob("traj-*")) if DAMAGED.is_dir() else []
)
def test_the_damaged_trajectories(name, folder):
    with pytest.raises(UnreadableError):
        trajectory.num_frames(DAMAGED / name, folder / "two_chains.pdb")


@shared
def test_the_damaged_database_is_refused(make):
    pytest.importorskip("foldcomp")
    store = make(DAMAGED / "fcz-native--6-77108")
    assert len(store) + len(refused(store)) == 2


def test_a_zip_of_a_version_that_nobody_reads_is_refused(tmp_path, make, folder):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(folder / "pair.pdb", "pair.pdb")
    file = tmp_path / "a.zip"
    damage(file, file.read_bytes().index(b"PK\1\2") + 6, b"\xff")
    [reason] = refused(make(file)).values()
    assert reason.startswith("a damaged zip archive (zip file version ")
