"""What may go wrong while a store is built costs nothing that was there before."""

from __future__ import annotations

import errno
import gzip
import importlib
import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esmgn_core.errors import DataError
from esmgn_core.io.files import bytes_of
from esmgn_core.io.protein import Reading
from esmgn_core.io.write import pdb_text
from esmgn_core.store import BuildOptions, Store, build, reading, workers
from esmgn_core.store.columns import write_columns
from esmgn_core.store.parts import PartTask
from esmgn_core.store.reading import ItemReader
from esmgn_core.store.sources import Item
from esmgn_core.store.workers import Progress, run_parts

from .conftest import tar, zipped


def files(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
    }


def refused(store: Store) -> dict[str, str]:
    return {r["name"]: r["reason"] for r in store.index(["name", "reason"], refused=True).to_pylist()}


@pytest.fixture
def many(folder: Path) -> Path:
    """Some 130 files: several parts."""
    for copy in range(25):
        for name in ("pair", "single", "predicted", "two_chains", "empty"):
            os.link(folder / f"{name}.pdb", folder / f"{name}{copy}.pdb")
    return folder


def begin(source: Path, store: Path) -> int:
    """Start a build in a copy of this process, slow enough to be killed; its process number."""
    pid = os.fork()
    if pid:
        return pid
    read = ItemReader.read

    def slowly(self: ItemReader, item: Item) -> tuple[Reading, bytes | None]:
        time.sleep(0.002)
        return read(self, item)

    ItemReader.read = slowly  # type: ignore[method-assign]  # slowed down for this test
    try:
        build([str(source)], store, BuildOptions())
    finally:
        os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_build_killed_at_ten_random_moments_ends_as_the_undisturbed_one(many, make, tmp_path):
    expected = files(make(many, name="undisturbed").path)
    moments = random.Random(0)  # noqa: S311
    killed = 0
    for _ in range(10):
        pid = begin(many, tmp_path / "store")
        time.sleep(moments.uniform(0.01, 0.2))
        os.kill(pid, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert killed >= 5
    if not (tmp_path / "store" / "shards").exists():
        build([str(many)], tmp_path / "store", BuildOptions())
    build([], tmp_path / "store", BuildOptions())
    assert files(tmp_path / "store") == expected


@pytest.mark.parametrize("stop_at", [1, 2, 5, 10])
def test_a_build_stopped_between_any_two_files_ends_as_the_undisturbed_one(
    many, make, tmp_path, monkeypatch, stop_at
):
    """Every file of a store is put in place by a rename; here the program dies at one of them."""
    expected = files(make(many, name="undisturbed").path)
    rename, count = Path.replace, [0]

    def dying(self: Path, target: Path) -> Path:
        count[0] += 1
        if count[0] == stop_at:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        build([str(many)], tmp_path / "store", BuildOptions())
    monkeypatch.undo()
    build([str(many)], tmp_path / "store", BuildOptions())
    assert files(tmp_path / "store") == expected


def test_packing_is_resumed_where_it_stopped(many, make, tmp_path, monkeypatch):
    monkeypatch.setattr("esmgn_core.store.pack.SHARD_RESIDUES", 100)
    expected = files(make(many, name="undisturbed").path)
    assert sum(name.endswith(".safetensors") for name in expected) > 2
    unlink, count = Path.unlink, [0]

    def dying(self: Path, missing_ok: bool = False) -> None:
        if "parts" in self.parts and self.suffix == ".safetensors":
            count[0] += 1
            if count[0] == 3:
                raise KeyboardInterrupt
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", dying)
    with pytest.raises(KeyboardInterrupt):
        build([str(many)], tmp_path / "store", BuildOptions())
    monkeypatch.setattr(Path, "unlink", unlink)
    assert sorted(Store(tmp_path / "store").names) == sorted(set(Store(tmp_path / "store").names))
    build([str(many)], tmp_path / "store", BuildOptions())
    assert files(tmp_path / "store") == expected


class KillTheStuck:
    """Kills the process that is left when the other one of two has done all it could.

    Looks for it where the build reports, in the same thread: the standard library's accounts of child
    processes are not made for two, and one that looks now and then may miss that there were two.
    """

    def __init__(self, stuck: Path) -> None:
        self.stuck = stuck
        self.num_killed = 0

    def __call__(self, _: Progress) -> None:
        children = multiprocessing.active_children()
        if self.stuck.exists() and len(children) == 1 and not self.num_killed:
            self.num_killed += 1
            children[0].kill()


def work_that_waits(connection: Connection, counters: Any) -> None:
    """The work of a process that never finishes to read ``predicted13.pdb``."""

    def read(path: Path) -> bytes:
        while path.name == "predicted13.pdb":
            (path.parents[1] / "stuck").touch()
            signal.pause()
        return bytes_of(path)

    reading.bytes_of = read  # type: ignore[attr-defined]  # patched where it is used
    WORK(connection, counters)


WORK = workers._work


def test_a_process_that_dies_costs_the_file_it_was_reading(many, tmp_path, monkeypatch):
    tasks: list[PartTask] = []
    build([str(many)], tmp_path / "store", BuildOptions(), executor=lambda todo, _: tasks.extend(todo))
    monkeypatch.setattr(workers, "_work", work_that_waits)
    killer = KillTheStuck(tmp_path / "stuck")
    run_parts(tasks, 2, killer)
    assert killer.num_killed == 1
    store = Store(tmp_path / "store")
    reasons = refused(store)
    cause = "the process that read it died (SIGKILL, often because memory ran out)"
    assert reasons.pop("predicted13") == cause
    assert set(reasons.values()) == {"the file is empty"}
    assert len(store) + len(reasons) + 1 == len(list(many.iterdir()))


def test_files_replaced_while_a_store_is_built_are_refused_and_not_waited_for(many, tmp_path):
    """Planned as files, then replaced: reading a named pipe waited for ever, a device never ended."""
    tasks: list[PartTask] = []
    archive, packed = tmp_path / "a.tar", tmp_path / "a.zip"
    tar(archive, {"in_tar.pdb": b"x"})
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("in_zip.pdb", b"x")
    sources = [str(many), str(archive), str(packed)]
    build(sources, tmp_path / "store", BuildOptions(), executor=lambda todo, _: tasks.extend(todo))
    for path in (many / "predicted13.pdb", archive, packed):
        path.unlink()
        os.mkfifo(path)
    (many / "predicted12.pdb").unlink()
    (many / "predicted12.pdb").symlink_to("/dev/zero")
    build([], tmp_path / "store", BuildOptions())
    reasons = refused(Store(tmp_path / "store"))
    for name in ("predicted13", "in_tar", "in_zip"):
        assert reasons[name] == "a named pipe, not a file"
    assert reasons["predicted12"] == "a device, not a file"


def test_only_a_build_of_several_parts_starts_processes(many, make, monkeypatch):
    started = []
    module = importlib.import_module("esmgn_core.store.build")  # the function of that name hides it
    monkeypatch.setattr(module, "prepare", lambda: started.append(True))
    make(many / "pair.pdb", name="few", workers=2)
    make(many, name="one_process", workers=1)
    assert not started
    make(many, name="several", workers=2)
    assert started


def test_a_plan_that_cannot_be_read_costs_no_file(many, tmp_path):
    tasks: list[PartTask] = []
    build([str(many)], tmp_path / "store", BuildOptions(), executor=lambda todo, _: tasks.extend(todo))
    tasks[0].plan.write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"cannot read .*plan\.arrow"):
        run_parts(tasks, 2)
    assert not any((tmp_path / "store").rglob("*.safetensors"))


@pytest.mark.parametrize("module", ["workers", "reader", "report", "merge", "splits"])
def test_what_needs_no_tensors_starts_without_torch(module):
    """Processes that build, and the program that looks into a store."""
    heavy = "{'torch', 'mdtraj', 'scipy', 'matplotlib'}"
    code = f"import sys, esmgn_core.store.{module}; print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_bug_in_a_reader_costs_the_file_it_fails_on(folder, make, monkeypatch):
    read = ItemReader.read

    def failing(self: ItemReader, item: Item) -> tuple[Reading, bytes | None]:
        if item.name == "long":
            raise IndexError("out of range")
        return read(self, item)

    monkeypatch.setattr(ItemReader, "read", failing)
    store = make(folder)
    assert refused(store)["long"] == "the reader failed: IndexError: out of range"
    assert len(store) == 4


def test_a_full_disk_is_one_message_and_the_data_stay(many, make, tmp_path, monkeypatch):
    make(many / "long.pdb")
    before = files(tmp_path / "store")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("esmgn_core.store.columns.os.fsync", full)
    with pytest.raises(DataError, match=r"cannot write the store at .*: the disk is full"):
        make(many, append=True)
    monkeypatch.undo()
    after = files(tmp_path / "store")
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if name.endswith(".partial")]
    assert len(make(many, append=True)) == 4 * 25 + 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place_is_one_message(folder, tmp_path):
    place = tmp_path / "read_only"
    place.mkdir(mode=0o500)
    with pytest.raises(DataError, match=r"cannot write the store at .*: Permission denied"):
        build([str(folder)], place / "store", BuildOptions())


def test_a_place_that_cannot_be_written_is_one_message(folder, tmp_path):
    """As a read-only place, but root meets it too."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write the store at .*: Not a directory"):
        build([str(folder)], tmp_path / "file" / "store", BuildOptions())


def test_two_builds_of_one_store_do_not_meet(folder, make, tmp_path):
    def second(*_: object) -> None:
        with pytest.raises(DataError, match="another process is building"):
            build([str(folder)], tmp_path / "store", BuildOptions())

    build([str(folder)], tmp_path / "store", BuildOptions(), executor=second)
    assert len(make()) == 5


def test_a_cut_off_tar_gives_what_is_before_the_cut(tmp_path, make, proteins):
    archive = tar(tmp_path / "set.tar", {f"{p.name}.pdb": pdb_text(p).encode() for p in proteins})
    content = archive.read_bytes()
    archive.write_bytes(content[: content.index(b"long.pdb") + 2000])
    store = make(archive)
    assert store.names == ["two_chains", "single"]
    [reason] = refused(store).values()
    assert reason == "the archive is cut off inside this member: copy or download it again"


def test_a_tar_cut_between_members_is_noticed(tmp_path, make, proteins):
    archive = tar(tmp_path / "set.tar", {"a.pdb": pdb_text(proteins[0]).encode()})
    size = 512 + -(-len(pdb_text(proteins[0])) // 512) * 512
    archive.write_bytes(archive.read_bytes()[:size])
    assert list(refused(make(archive)).values()) == ["the archive is cut off: copy or download it again"]


def test_a_damaged_tar_header_ends_the_archive_with_a_reason(tmp_path, make, proteins):
    files = {f"{p.name}.pdb": pdb_text(p).encode() for p in proteins[:2]}
    archive = tar(tmp_path / "set.tar", files)
    content = bytearray(archive.read_bytes())
    content[content.index(b"single.pdb")] ^= 1
    archive.write_bytes(content)
    [reason] = refused(make(archive)).values()
    assert reason.startswith("no tar header at byte")


def test_members_that_point_outside_and_links_are_refused(tmp_path, make, proteins):
    content = zipped(proteins[0])
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name in ("../../etc/x.pdb.gz", "/root/y.pdb.gz", "fine.pdb.gz"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("link.pdb.gz")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    store = make(tmp_path / "set.tar")
    assert store.names == ["fine"]
    outside = "its name is a path outside the archive"
    assert refused(store) == {"x": outside, "y": outside, "link": "a link, not a file"}


def test_long_names_of_both_kinds_are_read(tmp_path, make, proteins):
    name = f"{'deep/' * 40}protein.pdb"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / f"{form}.tar", "w", format=form) as archive:
            content = pdb_text(proteins[0]).encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        assert make(tmp_path / f"{form}.tar", name=f"store{form}").index().to_pylist()[0]["member"] == name


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(tmp_path, make, monkeypatch):
    monkeypatch.setattr("esmgn_core.io.files._MAX_INFLATED", 1 << 20)
    (tmp_path / "bomb.pdb.gz").write_bytes(gzip.compress(b" " * (1 << 23)))
    assert list(refused(make(tmp_path / "bomb.pdb.gz")).values()) == [
        "inflates to more than 1 MiB: damaged, or a gzip bomb"
    ]


def test_parts_are_complete_or_absent(folder, tmp_path, monkeypatch):
    """Nothing that looks like a part is left by one that could not be written."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("esmgn_core.store.parts.write_index", full)
    with pytest.raises(DataError, match="the disk is full"):
        build([str(folder)], tmp_path / "store", BuildOptions())
    assert list((tmp_path / "store" / "building" / "parts").iterdir()) == []


def test_columns_are_on_the_disk_before_they_count_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not leave a shard whose name is there and whose bytes are not."""
    flushed: list[str] = []
    original = os.fsync

    def note(number: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        original(number)

    monkeypatch.setattr(os, "fsync", note)
    write_columns(tmp_path / "a.safetensors", {"x": [np.arange(3, dtype=np.int32)]}, {})
    assert flushed == [str(tmp_path / "a.safetensors")]
