"""Checks of output files before weights are read and anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

from esmgn_core.errors import RunError
from esmgn_core.text import is_utf8


def check_writable(path: Path, *, flag: str, parents: bool = False) -> None:
    """Refuse a file that cannot be written.

    Args:
        path: the file.
        flag: the option that names it, for the message.
        parents: True if the command creates missing folders.

    Raises:
        RunError: the path is not UTF-8 or is a folder, or the folder is missing or not writable.
    """
    if not is_utf8(path.absolute()):
        raise RunError(f"the path {path} is not UTF-8 ({flag})", "name another file")
    if path.is_dir():
        raise RunError(f"{path} is a folder ({flag})", f"name a file in it, such as {path / 'NAME'}")
    folder = path.absolute().parent
    if parents:
        folder = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not folder.is_dir():
        reason = "is not a folder" if folder.exists() else "does not exist"
        raise RunError(f"cannot write {path}: {folder} {reason} ({flag})")
    if not os.access(folder, os.W_OK):
        raise RunError(f"cannot write {path}: no permission to write to {folder} ({flag})")
