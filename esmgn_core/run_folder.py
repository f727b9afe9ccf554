"""The folder of a run: what it holds and how it is written."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import tomli_w

from esmgn_core.errors import RunError
from esmgn_core.machine.files import locked, write_atomically
from esmgn_core.machine.parse import parse_json, parse_toml, read_record
from esmgn_core.printable import printable
from esmgn_core.settings import RunConfig
from esmgn_core.text import read_text

_LOCK = ".lock"
_HUGE = 1e100
"""A finite number in ``metrics.jsonl`` that no run logs."""
_REFUSED_HEADER = "path\treason\n"


class RunFolder:
    """Paths and records of one run.

    ``config.toml`` repeats the run; ``environment.json`` says where it ran; ``metrics.jsonl`` has
    one JSON object per logged step; ``log.txt`` has its events; ``refused.tsv`` lists structure
    files left out; ``model.safetensors`` is the best encoder, ``task.safetensors`` the heads that
    belong to it; ``last/`` is where to resume, ``previous/`` the checkpoint before it, ``kept/`` those
    kept for good. A downstream run has ``labels.json``, what the outputs of its heads are, and in the
    end ``results.json`` and ``predictions.npz``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.log_file = path / "log.txt"
        self.refused = path / "refused.tsv"
        self.model = path / "model.safetensors"
        self.task = path / "task.safetensors"
        self.labels = path / "labels.json"
        self.results = path / "results.json"
        self.predictions = path / "predictions.npz"
        self.calibration = path / "calibration.json"
        self.last = path / "last"
        self.previous = path / "previous"
        self.kept = path / "kept"
        self.tensorboard = path / "tensorboard"
        self.non_finite = path / "non_finite.json"
        self.out_of_memory = path / "out_of_memory.json"

    @classmethod
    def create(cls, path: Path | None, *, name: str) -> RunFolder:
        """A new folder at ``path``, or at ``runs/NAME-1``, ``runs/NAME-2``, ... if there is none.

        Raises:
            RunError: the folder holds a run already or cannot be made.
        """
        try:
            if path is None:
                return cls(_next_free(Path("runs"), name))
            path.mkdir(parents=True, exist_ok=True)
            cls.check_empty(path)
        except OSError as error:
            raise RunError(f"cannot make run folder {path or 'runs'}: {error}") from error
        return cls(path)

    @classmethod
    def check_empty(cls, path: Path) -> None:
        """Refuse a folder that would mix two runs.

        Raises:
            RunError: there is something in it.
        """
        if path.is_dir() and all(item.name == _LOCK for item in path.iterdir()):
            return
        hints = ["name another folder"]
        if cls(path).config.is_file():
            hints.append(f"or go on with its run: esmgn run --resume {path}")
        raise RunError(f"{path} exists and is not an empty folder (--out)", *hints)

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The folder of a run that was started before.

        Raises:
            RunError: there is no run in it.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise RunError(
                f"no run in {path}: {folder.config} is missing (--resume)", "start one: esmgn run --help"
            )
        return folder

    def locked(self) -> AbstractContextManager[None]:
        """Write to the folder alone inside the block.

        Raises:
            RunError: another process trains in it.
        """
        return locked(
            self.path / _LOCK,
            f"another process trains the run in {self.path}",
            f"wait for its end, or stop it; then: esmgn run --resume {self.path}",
        )

    def write_config(self, config: RunConfig, started_from: Mapping[str, str] | None = None) -> None:
        """Write the resolved configuration."""
        tables = config.model_dump(mode="json", exclude_none=True)
        text = tomli_w.dumps(tables)
        init = f" --init {started_from['path']}" if started_from else ""
        write_atomically(self.config, f"# Repeat this run: esmgn run {self.config}{init}\n{text}")

    def recorded_tables(self) -> tuple[dict[str, Any], str]:
        """The configuration, and what is wrong with ``config.toml`` if it is from ``environment.json``.

        Raises:
            RunError: there is no run in the folder, or both files are damaged.
        """
        settings = self.recorded("settings")
        try:
            tables = parse_toml(read_text(self.config))
        except OSError as error:
            raise RunError(
                f"no run in {self.path}: {self.config.name} cannot be read", "see: esmgn runs"
            ) from error
        except ValueError as error:
            problem = str(error)
        else:
            if not isinstance(settings, dict) or settings.keys() <= tables.keys():
                return tables, ""
            problem = "it is cut"
        if not isinstance(settings, dict):
            raise RunError(f"{self.config} is damaged: {problem}")
        return settings, f"{self.config} is damaged: {problem}; the settings in {self.environment} are used"

    def started_from(self) -> dict[str, str] | None:
        """Folder and checksum of the encoder the run started from, as recorded when it did."""
        source: dict[str, str] | None = self.recorded("started_from")
        return source

    def recorded(self, key: str) -> Any:
        """A value of ``environment.json``; ``None`` if it was not recorded or the file is damaged."""
        return read_record(self.environment).get(key)

    def name_for_trackers(self) -> str:
        """A name of the run that stays the same when it is resumed, and that no other run has."""
        started = ""
        with suppress(OSError):
            started = self.log_file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        return hashlib.sha256(f"{self.path.absolute()}{started}".encode()).hexdigest()[:16]

    def write_refused(self, refused: Sequence[Any]) -> None:
        """Write the files left out, each with its reason; no file if there are none."""
        if refused:
            lines = [f"{printable(item.path)}\t{printable(item.reason)}\n" for item in refused]
            write_atomically(self.refused, _REFUSED_HEADER + "".join(lines))

    def add_refused(self, what: str, reason: str) -> None:
        """Append something that could not be read when a step needed it; a full disk is borne."""
        header = "" if self.refused.exists() else _REFUSED_HEADER
        with suppress(OSError), self.refused.open("a", encoding="utf-8") as file:
            file.write(f"{header}{printable(what)}\t{printable(reason)}\n")

    def write_labels(self, component: str, names: Sequence[str]) -> None:
        """Write what the outputs of the downstream task's head are, in order."""
        write_atomically(self.labels, json.dumps({"task": component, "labels": list(names)}, indent=1) + "\n")

    def recorded_labels(self) -> tuple[str, list[str]]:
        """Component of the downstream task, and what the outputs of its head are, in order.

        Raises:
            RunError: ``labels.json`` is missing or damaged.
        """
        try:
            record = parse_json(self.labels.read_text())
            return str(record["task"]), [str(name) for name in record["labels"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"cannot read {self.labels}: {error}") from error

    def log(self, text: str) -> None:
        """Append a line with the time to ``log.txt``; a full disk is borne."""
        with suppress(OSError), self.log_file.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {printable(text)}\n")

    def append_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to ``metrics.jsonl``."""
        with self.metrics.open("ab+") as file:
            # A line that was cut off must not take the next one with it.
            cut = file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
            line = json.dumps({"step": step, **values})
            file.write(f"{chr(10) if cut else ''}{line}\n".encode())

    def read_metrics(self) -> list[dict[str, float]]:
        """All whole lines of ``metrics.jsonl``, each with its step; damaged ones are left out."""
        return [values for line in self._metrics_lines() if (values := _values(line)) is not None]

    def damaged_metrics(self) -> int:
        """Number of lines of ``metrics.jsonl`` that are damaged; the last one may be unfinished."""
        lines = self._metrics_lines()
        return sum(_values(line) is None for line in lines[:-1]) + (
            bool(lines) and lines[-1].endswith(b"\n") and _values(lines[-1]) is None
        )

    def _metrics_lines(self) -> list[bytes]:
        try:
            return self.metrics.read_bytes().splitlines(keepends=True)
        except OSError:
            return []

    def drop_metrics_after(self, step: int) -> None:
        """Forget logged steps that a resumed run will take again, and damaged lines."""
        kept = [json.dumps(line) + "\n" for line in self.read_metrics() if line["step"] <= step]
        write_atomically(self.metrics, "".join(kept))


def _values(line: bytes) -> dict[str, float] | None:
    """A line of ``metrics.jsonl``; ``None`` if a crash cut it off, or something else damaged it."""
    try:
        values = parse_json(line.decode("utf-8")) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or type(values.get("step")) is not int:
        return None
    # Infinite and undefined losses are logged; a huge finite number comes from a damaged digit.
    plausible = all(
        type(value) in (int, float) and not _HUGE <= abs(value) < math.inf for value in values.values()
    )
    return values if plausible and values["step"] >= 0 else None


def _next_free(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        path = parent / f"{name}-{number}"
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError("numbers do not end")
