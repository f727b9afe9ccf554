"""Files are written completely or not at all, and a full disk gives one message, whoever writes."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from esmgn_core.errors import RunError, WriteError
from esmgn_core.machine.files import (
    file_digest,
    file_sha256,
    locked,
    write_atomically,
    write_failure,
    written_atomically,
)

NUMBERS = np.random.default_rng(0).random(200_000)


def _safetensors(path: Path) -> None:
    save_file({"a": torch.from_numpy(NUMBERS)}, path)


def _torch(path: Path) -> None:
    torch.save({"a": torch.from_numpy(NUMBERS)}, path)


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = NUMBERS


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, a=NUMBERS)


def _parquet(path: Path) -> None:
    with pq.ParquetWriter(path, pa.schema([("a", pa.float64())])) as writer:
        writer.write_table(pa.table({"a": NUMBERS}))


def _picture(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().imshow(NUMBERS.reshape(400, 500), interpolation="nearest")
    figure.savefig(path, format="png", dpi=500)


def _text(path: Path) -> None:
    path.write_text("x" * 1_000_000)


@pytest.mark.parametrize("write", [_safetensors, _torch, _hdf5, _npz, _parquet, _picture, _text])
def test_a_full_disk_is_one_error_and_leaves_the_old_file(
    small_disk: Path, write: Callable[[Path], None]
) -> None:
    path = small_disk / "file"
    write_atomically(path, "old")
    with pytest.raises(WriteError) as caught, written_atomically(path) as temporary:
        write(temporary)
    message, hint = str(caught.value).splitlines()
    assert re.fullmatch(rf"cannot write {path}: the disk is full \(\d\.\d MB free\)", message)
    assert hint == "  free disk space, or name another place, then run the command again"
    assert path.read_text() == "old"
    assert list(small_disk.iterdir()) == [path]


def test_a_place_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=rf"cannot write {tmp_path}/no/file: No such file or directory\n"):
        write_atomically(tmp_path / "no" / "file", "text")
    with pytest.raises(WriteError, match=r"cannot write .*: Is a directory"):
        write_atomically(tmp_path, "text")


def test_errors_that_are_not_of_the_disk_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), written_atomically(tmp_path / "file"):
        raise ZeroDivisionError
    assert not any(tmp_path.iterdir())


def test_a_link_stays_a_link_and_files_have_the_users_permissions(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    with written_atomically(tmp_path / "link") as temporary:
        _safetensors(temporary)
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "plain").touch()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_atomically(Path(os.devnull), "text")
    assert Path(os.devnull).is_char_device()


def test_a_quota_counts_as_a_full_disk(tmp_path: Path) -> None:
    text = write_failure(tmp_path, OSError(122, "Disk quota exceeded"))
    assert text.startswith("the disk is full (")


def test_checksums(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(path, "md5") == "900150983cd24fb0d6963f7d28e17f72"


def _hold(path: Path, connection: Any) -> None:
    with locked(path, "busy"):
        connection.send(os.getpid())
        connection.recv()


def test_a_lock_names_its_holder_and_is_given_back_by_a_killed_process(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path / "lock", theirs))
    holder.start()
    number = ours.recv()
    with pytest.raises(RunError) as caught, locked(tmp_path / "lock", "the place is in use", "wait"):
        pass
    assert re.fullmatch(
        rf"the place is in use \(process {number} on \S+, since [\d-]+ [\d:]+\)\n  wait", str(caught.value)
    )
    holder.kill()
    holder.join()
    with locked(tmp_path / "lock", "busy"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    entered = False
    with locked(tmp_path / "lock", "busy"):
        entered = True
    assert entered
    [record] = caplog.records
    assert (
        record.message
        == f"{tmp_path}: this file system has no locks; do not start a second process in this folder"
    )


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_where_flock_is_missing_a_lock_is_kept_and_names_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock file is the lock there: its content must stay what the library wrote."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / "lock", "busy"):
        os.utime(tmp_path / "lock", (0, 0))
        with pytest.raises(RunError, match=rf"busy \({os.getpid()} "), locked(tmp_path / "lock", "busy"):
            pass
    assert not (tmp_path / "lock").exists()
