"""Write files atomically, hash them and lock them."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from esmgn_core.errors import EsmgnError, RunError, WriteError

logger = logging.getLogger(__name__)

_FULL_TEXTS = (
    "No space left",
    "os error 28",
    "Disk quota exceeded",
    "PytorchStreamWriter failed",
    "unexpected pos",
)
"""Texts with which libraries report a full disk without an error number."""
_FULL_NUMBERS = {errno.ENOSPC, errno.EDQUOT}
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of file systems that cannot lock, such as NFS without its lock service."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all; text as UTF-8.

    Raises:
        WriteError: the disk is full, or the file may not be written.
    """
    with written_atomically(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; it replaces ``path`` if the block ends without an error.

    The file gets the permissions of the user's umask, also if a library sets others. A device or pipe is
    written directly.

    Raises:
        WriteError: the disk is full, or the file may not be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        with write_errors(path):
            yield target
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with write_errors(path):
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            if temporary.stat().st_mode != mode:
                temporary.chmod(mode)
            temporary.replace(target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an error while writing ``path`` inside the block into a :class:`WriteError`.

    Raises:
        WriteError: the disk is full, or the file may not be written.
    """
    try:
        yield
    except EsmgnError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or is_full(error):
            raise write_error(path, error) from error
        raise


def write_error(path: Path, error: BaseException) -> WriteError:
    """The error for a file that cannot be written, with a hint."""
    hint = "free disk space, or name another place" if is_full(error) else "name another place"
    return WriteError(
        f"cannot write {path}: {write_failure(path, error)}", f"{hint}, then run the command again"
    )


def write_failure(path: Path, error: BaseException) -> str:
    """The reason why ``path`` could not be written, on one line."""
    if isinstance(error, WriteError) and error.__cause__:
        error = error.__cause__
    if is_full(error):
        return f"the disk is full{_free_space(path)}"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())


def is_full(error: BaseException) -> bool:
    """True if an error reports that disk space or quota ran out."""
    if isinstance(error, OSError) and error.errno in _FULL_NUMBERS:
        return True
    return isinstance(error, Exception) and any(text in str(error) for text in _FULL_TEXTS)


def _free_space(path: Path) -> str:
    for folder in (path, *path.absolute().parents):
        with suppress(OSError):
            free = shutil.disk_usage(folder).free
            return f" ({free / 1e9:,.1f} GB free)" if free >= 1e9 else f" ({free / 1e6:.1f} MB free)"
    return ""


@contextmanager
def locked(path: Path, busy: str, *hints: str) -> Iterator[None]:
    """Hold the lock file ``path`` inside the block. The system releases the lock of a killed process.

    On a file system without locks, a warning is logged and the block runs without a lock.

    Args:
        path: the lock file; removed at the end.
        busy: message of the error if another process holds the lock.
        hints: hints of that error.

    Raises:
        RunError: another process holds the lock; the message names the process.
        WriteError: the lock file cannot be made.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{busy}{_holder(path)}", *hints) from None
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise write_error(path, error) from error
        logger.warning(
            "%s: this file system has no locks; do not start a second process in this folder", path.parent
        )
        yield
        return
    try:
        with suppress(OSError):
            # A soft lock, used where flock is missing, keeps its own content in the file.
            if not isinstance(lock, SoftFileLock):
                path.write_text(f"process {os.getpid()} on {platform.node()}, since {time.strftime('%F %T')}")
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


def _holder(path: Path) -> str:
    with suppress(OSError):
        if holder := path.read_text(encoding="utf-8", errors="replace").split():
            return f" ({' '.join(holder)})"
    return ""


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    return file_digest(path)


def cache_dir() -> Path:
    """The folder for files that can be computed or downloaded again."""
    if named := os.environ.get("ESMGN_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "esmgn"
