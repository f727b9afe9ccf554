"""Summaries of run folders for listings, comparisons and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esmgn_core.engine.selection import Selection
from esmgn_core.errors import RunError
from esmgn_core.host.compare import compare_settings, flatten
from esmgn_core.machine.parse import read_record
from esmgn_core.run_folder import RunFolder

MACHINE_VALUES = (
    "residues_per_second",
    "loading_percent",
    "memory_gb",
    "gpu_percent",
    "slowest_rank",
    "idle_percent",
)
"""Logged values that measure the machine, not the training."""
_NOT_CURVES = {"step", "epoch"}


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The recorded state of a run.

    Attributes:
        run: the run folder.
        config: the complete configuration.
        environment: the record in ``environment.json``.
        lines: the logged steps.
        state: the last state in the log, such as ``finished at step 100``.
        results: scores of a downstream run, as in ``results.json``; empty without scores.
        problems: damaged files of the folder, one sentence each.
    """

    run: RunFolder
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    lines: Sequence[Mapping[str, float]]
    state: str
    results: Mapping[str, Any]
    problems: Sequence[str] = ()

    @classmethod
    def of(cls, path: Path) -> RunSummary:
        """Read the summary of a run folder.

        Raises:
            RunError: the folder holds no run, or its configuration is damaged.
        """
        run = RunFolder(path)
        environment, results = read_record(run.environment), read_record(run.results)
        problems = [
            f"{file} is damaged"
            for file, record in ((run.environment, environment), (run.results, results))
            if file.exists() and not record
        ]
        config, problem = run.recorded_tables()
        problems += [problem] * bool(problem)
        if number := run.damaged_metrics():
            problems.append(f"damaged lines of {run.metrics}, left out: {number}")
        return cls(run, config, environment, run.read_metrics(), last_state(run), results, problems)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.run.path.name

    @property
    def composition(self) -> str:
        """Names of the components, as on the command line."""
        kinds = ("seq", "struct", "fuse", "pretext", "downstream")
        tables = [self.config[kind] for kind in kinds if isinstance(self.config.get(kind), Mapping)]
        return " + ".join(str(table.get("name", "?")) for table in tables)

    @property
    def steps(self) -> int:
        """The last logged step."""
        return int(self.lines[-1]["step"]) if self.lines else 0

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Points (step, value) of all logged finite numbers, by name."""
        points: dict[str, list[tuple[float, float]]] = {}
        for line in self.lines:
            for name, value in line.items():
                if name not in _NOT_CURVES and isinstance(value, int | float) and math.isfinite(value):
                    points.setdefault(name, []).append((line["step"], value))
        return points

    def best(self) -> Selection | None:
        """Step and value that selected the best encoder; ``None`` before the first validation.

        If the record in ``model.safetensors`` is missing, the best logged validation is used: the highest
        deciding score of a downstream run, else the lowest loss.
        """
        if found := Selection.recorded(self.run.model):
            return found
        metric = self.results.get("metric")
        points = self.curves().get(name := f"valid_{metric or 'loss'}")
        if not points:
            return None
        step, value = (max if metric else min)(points, key=lambda point: point[1])
        return Selection(int(step), name, value)

    def settings(self) -> dict[str, Any]:
        """The configuration as ``table.key``."""
        return dict(flatten(self.config))


def find_runs(folder: Path) -> tuple[list[RunSummary], list[str]]:
    """Runs in a folder and its subfolders, the newest first, and problems with them."""
    summaries, problems = [], []
    for config in [*folder.glob("config.toml"), *folder.glob("*/config.toml")]:
        if (config.parent / "log.txt").exists():
            try:
                summaries.append(RunSummary.of(config.parent))
            except RunError as error:
                problems.append(f"{error.message}; the run is not listed")
    summaries.sort(key=lambda item: item.run.config.stat().st_mtime, reverse=True)
    return summaries, [*(text for item in summaries for text in item.problems), *problems]


def differences(first: RunSummary, second: RunSummary) -> list[tuple[str, Any, Any]]:
    """Settings that differ, each with both values; ``None`` if a run lacks the setting."""
    return compare_settings(first.config, second.config)


def last_state(run: RunFolder) -> str:
    """The last state in the log of a run, such as ``finished at step 100``."""
    try:
        lines = run.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    prefixes = ("finished at", "stopped by", "failed:", "resumed at", "started, from")
    states = [line.partition("  ")[2] for line in lines if line.partition("  ")[2].startswith(prefixes)]
    if not states:
        return "unknown"
    return "running, or killed" if states[-1].startswith(("resumed", "started")) else states[-1]
