"""The folder of a run: its files, and how they are read and written."""

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
from esmgn_core.settings import PROVIDED_BY, RunConfig
from esmgn_core.text import read_text

_LOCK = ".lock"
_HUGE = 1e100
"""A finite number in ``metrics.jsonl`` that no run logs."""
_REFUSED_HEADER = "path\treason\n"


class RunFolder:
    """Paths and records of one run.

    ``config.toml``: the complete configuration, which repeats the run.
    ``environment.json``: program versions, data and device of the last start.
    ``metrics.jsonl``: one JSON object per logged step.
    ``log.txt``: events with their times.
    ``refused.tsv``: structure files that were left out, with the reasons.
    ``model.safetensors``, ``task.safetensors``: the best encoder and its heads.
    ``last/``, ``previous/``, ``kept/``: the last checkpoint, the one before it, and those kept permanently.

    A downstream run also has ``labels.json``, the names of its outputs, and after its end ``results.json``
    and ``predictions.npz``.
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
        """Create a folder at ``path``; without a path, the first free one of ``runs/NAME-1``, ``-2``, ...

        Raises:
            RunError: the folder is not empty or cannot be made.
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
        """Raise an error if ``path`` is not an empty folder; two runs must not share one.

        Raises:
            RunError: the folder holds other files than a lock, or ``path`` is a file.
        """
        if path.is_dir() and all(item.name == _LOCK for item in path.iterdir()):
            return
        hints = ["name another folder"]
        if cls(path).config.is_file():
            hints.append(f"or go on with its run: esmgn run --resume {path}")
        raise RunError(f"{path} exists and is not an empty folder (--out)", *hints)

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The folder of an existing run.

        Raises:
            RunError: the folder holds no run.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise RunError(
                f"no run in {path}: {folder.config} is missing (--resume)", "start one: esmgn run --help"
            )
        return folder

    def locked(self) -> AbstractContextManager[None]:
        """Lock the folder against other training processes inside the block.

        Raises:
            RunError: another process has locked it.
        """
        return locked(
            self.path / _LOCK,
            f"another process trains the run in {self.path}",
            f"wait for its end, or stop it; then: esmgn run --resume {self.path}",
        )

    def write_config(
        self,
        config: RunConfig,
        started_from: Mapping[str, str] | None = None,
        provided_by: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the resolved configuration.

        Args:
            config: complete configuration.
            started_from: folder and checksum of the initial encoder.
            provided_by: package, version and digest of each component, by kind and name.
        """
        tables = config.model_dump(mode="json", exclude_none=True)
        if provided_by:
            tables[PROVIDED_BY] = provided_by
        text = tomli_w.dumps(tables)
        init = f" --init {started_from['path']}" if started_from else ""
        write_atomically(self.config, f"# Repeat this run: esmgn run {self.config}{init}\n{text}")

    def recorded_tables(self) -> tuple[dict[str, Any], str]:
        """The configuration, and a notice if ``config.toml`` is damaged.

        The configuration of a damaged ``config.toml`` is read from ``environment.json``.

        Raises:
            RunError: the folder holds no run, or both files are damaged.
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
            tables.pop(PROVIDED_BY, None)
            if not isinstance(settings, dict) or settings.keys() <= tables.keys():
                return tables, ""
            # All tables are written, so a valid file that lacks one was cut off between two tables.
            problem = "it is incomplete"
        if not isinstance(settings, dict):
            raise RunError(f"{self.config} is damaged: {problem}")
        return settings, f"{self.config} is damaged: {problem}; the settings in {self.environment} are used"

    def provided_by(self) -> dict[str, Any]:
        """Package, version and digest of each component; empty if they are not recorded."""
        try:
            table = parse_toml(read_text(self.config)).get(PROVIDED_BY)
        except (OSError, ValueError):
            return {}
        return table if isinstance(table, dict) else {}

    def started_from(self) -> dict[str, str] | None:
        """Folder and checksum of the encoder from which the run started; ``None`` without one."""
        source: dict[str, str] | None = self.recorded("started_from")
        return source

    def recorded(self, key: str) -> Any:
        """A value of ``environment.json``; ``None`` if it is missing or the file is damaged."""
        return read_record(self.environment).get(key)

    def name_for_trackers(self) -> str:
        """A unique name of the run that does not change when the run is resumed."""
        started = ""
        with suppress(OSError):
            started = self.log_file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        return hashlib.sha256(f"{self.path.absolute()}{started}".encode()).hexdigest()[:16]

    def write_refused(self, refused: Sequence[Any]) -> None:
        """Write ``refused.tsv``: files that were left out, with the reasons; no file if there are none."""
        if refused:
            lines = [f"{printable(item.path)}\t{printable(item.reason)}\n" for item in refused]
            write_atomically(self.refused, _REFUSED_HEADER + "".join(lines))

    def add_refused(self, name: str, reason: str) -> None:
        """Append a protein that could not be read during training; errors of the disk are ignored."""
        header = "" if self.refused.exists() else _REFUSED_HEADER
        with suppress(OSError), self.refused.open("a", encoding="utf-8") as file:
            file.write(f"{header}{printable(name)}\t{printable(reason)}\n")

    def write_labels(self, component: str, names: Sequence[str]) -> None:
        """Write the downstream component and the names of its outputs, in order."""
        write_atomically(self.labels, json.dumps({"task": component, "labels": list(names)}, indent=1) + "\n")

    def recorded_labels(self) -> tuple[str, list[str]]:
        """The downstream component and the names of its outputs, in order.

        Raises:
            RunError: ``labels.json`` is missing or damaged.
        """
        try:
            record = parse_json(self.labels.read_text())
            return str(record["task"]), [str(name) for name in record["labels"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"cannot read {self.labels}: {error}") from error

    def log(self, text: str) -> None:
        """Append a line with the time to ``log.txt``; errors of the disk are ignored."""
        with suppress(OSError), self.log_file.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {printable(text)}\n")

    def append_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to ``metrics.jsonl``."""
        with self.metrics.open("ab+") as file:
            # Start a new line after one that a crash cut off, or both would be lost.
            cut = file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
            line = json.dumps({"step": step, **values})
            file.write(f"{chr(10) if cut else ''}{line}\n".encode())

    def read_metrics(self) -> list[dict[str, float]]:
        """All intact lines of ``metrics.jsonl``, each with its step."""
        return [values for line in self._metrics_lines() if (values := _values(line)) is not None]

    def damaged_metrics(self) -> int:
        """Number of damaged lines of ``metrics.jsonl``, without an unfinished last one."""
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
        """Remove the steps that a resumed run will repeat, and damaged lines."""
        kept = [json.dumps(line) + "\n" for line in self.read_metrics() if line["step"] <= step]
        write_atomically(self.metrics, "".join(kept))


def _values(line: bytes) -> dict[str, float] | None:
    """Parse a line of ``metrics.jsonl``; ``None`` if it is cut off or damaged."""
    try:
        values = parse_json(line.decode("utf-8")) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or type(values.get("step")) is not int:
        return None
    # Infinite and NaN losses are logged. A huge finite number comes from a damaged digit.
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
    raise AssertionError("unreachable")
