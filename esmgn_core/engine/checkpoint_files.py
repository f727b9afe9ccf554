"""Write checkpoints next to their place, verify them, and only then replace the last one.

A run folder has the last checkpoint and the one before. At least one of them is intact at any moment, also
after a crash or a full disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from esmgn_core.engine.distributed import World
from esmgn_core.errors import EsmgnError, RunError
from esmgn_core.machine.files import file_sha256, write_failure
from esmgn_core.machine.parse import parse_json
from esmgn_core.run_folder import RunFolder

_CHECKSUMS = "checksums.json"


class CheckpointError(Exception):
    """A checkpoint cannot be written; earlier ones are unchanged."""


def fresh_folder(run: RunFolder) -> Path:
    """The folder in which a new checkpoint is written."""
    return run.path / ".last.new"


def empty(folder: Path) -> None:
    """Make an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def put_in_place(run: RunFolder) -> None:
    """Verify the new checkpoint and make it ``last/``; the earlier one becomes ``previous/``.

    Raises:
        OSError, RunError: the checkpoint is damaged.
    """
    fresh = fresh_folder(run)
    seal(fresh)
    verify(fresh)
    # Renaming is atomic. Between the two steps there is no last/, and a resumed run reads previous/.
    if run.last.exists():
        shutil.rmtree(run.previous, ignore_errors=True)
        run.last.rename(run.previous)
    fresh.rename(run.last)


@contextmanager
def failing_together(world: World, run: RunFolder) -> Iterator[None]:
    """Raise an error on all processes if writing fails on any of them inside the block.

    All processes must enter the block, because its end exchanges their results.

    Raises:
        CheckpointError: the disk is full, or a written file does not have its checksum.
    """
    failure, cause = "", None
    try:
        yield
    except (OSError, EsmgnError, RuntimeError, SafetensorError) as error:
        # torch and safetensors report a full disk by their own errors.
        failure, cause = write_failure(run.path, error), error
    if reasons := [reason for reason in world.gather(failure) if reason]:
        if world.is_main:
            shutil.rmtree(fresh_folder(run), ignore_errors=True)
        raise CheckpointError(reasons[0]) from cause


def keep(run: RunFolder, step: int, checkpoint: Path) -> None:
    """Keep a checkpoint permanently, named after its step; files are hard links where possible."""
    place = run.kept / f"step-{step:07d}"
    if place.exists():
        return
    fresh = run.kept / f".{place.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(checkpoint, fresh, copy_function=_link)
    fresh.rename(place)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def newest_intact_checkpoint(run: RunFolder) -> tuple[Path, str]:
    """The newest checkpoint that is not damaged, and a notice if a newer one is.

    Raises:
        RunError: no checkpoint was written, or all are damaged.
    """
    found = [folder for folder in (run.last, run.previous) if folder.is_dir()]
    if not found:
        raise RunError(
            f"nothing to resume in {run.path}: no checkpoint was written yet",
            f"start it again: esmgn run {run.config} --out NEW_FOLDER",
        )
    problems = []
    for folder in found:
        try:
            verify(folder)
        except RunError as error:
            problems.append(error.message)
        else:
            used = f"; resumed from the previous checkpoint, {folder}" if problems else ""
            return folder, "; ".join(problems) + used
    raise RunError(f"cannot resume {run.path}: every checkpoint is damaged", *problems)


def seal(folder: Path) -> None:
    """Flush the files of a checkpoint to the disk, and record their checksums."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _flush(path)
    sums = {str(path.relative_to(folder)): file_sha256(path) for path in files}
    (folder / _CHECKSUMS).write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")
    _flush(folder / _CHECKSUMS)


def verify(folder: Path) -> None:
    """Compare the files of a checkpoint with their recorded checksums.

    Raises:
        RunError: a file is missing or damaged; the message names the first one.
    """
    try:
        sums = parse_json((folder / _CHECKSUMS).read_text(encoding="utf-8"))
        if not sums:
            raise ValueError(f"{_CHECKSUMS} is empty")  # noqa: TRY301
        for name, expected in sums.items():
            if file_sha256(folder / name) != expected:
                raise RunError(f"{folder / name} is damaged: its checksum differs")
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{folder} is damaged: {error}") from error


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
