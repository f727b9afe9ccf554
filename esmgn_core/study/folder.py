"""The folder of a study: the run of each cell, and its state."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import tomli_w

from esmgn_core.engine.runs import last_state
from esmgn_core.errors import RunError
from esmgn_core.machine.files import locked, write_atomically
from esmgn_core.run_folder import RunFolder
from esmgn_core.study.plan import Cell

State = Literal["done", "running", "failed", "stopped", "waiting"]


class StudyFolder:
    """Paths and records of a study.

    ``runs/ID``: the run folder of each cell.
    ``cells/ID.toml``: its run file. ``logs/ID.txt``: what its run printed.
    ``failed/ID.txt``: the last lines of a failed run; the cell is not run again without a request.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, cell: Cell) -> RunFolder:
        """The run folder of a cell."""
        return RunFolder(self.path / "runs" / cell.id)

    def run_file(self, cell: Cell) -> Path:
        """The run file of a cell."""
        return self.path / "cells" / f"{cell.id}.toml"

    def log(self, cell: Cell) -> Path:
        """What the run of a cell printed."""
        return self.path / "logs" / f"{cell.id}.txt"

    def failure(self, cell: Cell) -> Path:
        """The record of a failed cell."""
        return self.path / "failed" / f"{cell.id}.txt"

    def locked(self) -> AbstractContextManager[None]:
        """Lock the study against other processes that run its cells on this machine.

        Raises:
            RunError: another process has locked it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        busy = f"another process runs the study in {self.path}"
        return locked(self.path / ".lock", busy, "wait for its end")

    def state(self, cell: Cell) -> State:
        """The state of a cell."""
        run = self.run(cell)
        if run.log_file.is_file() and last_state(run).startswith("finished at"):
            return "done"
        if self.failure(cell).is_file():
            return "failed"
        if not run.path.is_dir():
            return "waiting"
        try:
            with run.locked():
                return "stopped"
        except RunError:
            return "running"

    def prepare(self, cell: Cell) -> list[str]:
        """Write the run file of a cell; returns the arguments of ``esmgn run`` that start or resume it."""
        run = self.run(cell)
        self.failure(cell).unlink(missing_ok=True)
        for file in (self.run_file(cell), self.log(cell)):
            file.parent.mkdir(parents=True, exist_ok=True)
        if run.last.is_dir() or run.previous.is_dir():
            return ["--resume", str(run.path)]
        # Without a checkpoint there is nothing to resume.
        shutil.rmtree(run.path, ignore_errors=True)
        about = f"# {cell}\n"
        write_atomically(self.run_file(cell), about + tomli_w.dumps(cell.tables()))
        start = ["--init", str(self.run(cell.parent).path)] if cell.parent else []
        return [str(self.run_file(cell)), "--out", str(run.path), *start]

    def record_failure(self, cell: Cell, reason: str) -> None:
        """Record that the run of a cell failed."""
        file = self.failure(cell)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, f"{cell}\n{reason}\n")
