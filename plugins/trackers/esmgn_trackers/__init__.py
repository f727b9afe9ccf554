"""Trackers: TensorBoard, Weights & Biases and MLflow as observers of runs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esmgn_core import hookimpl
from esmgn_core.parse import parse_toml

if TYPE_CHECKING:
    from esmgn_core.engine.run_folder import RunFolder

_open: dict[Path, list[Any]] = {}
"""Trackers at work for the run in a folder."""


@hookimpl
def esmgn_run_started(run: RunFolder) -> None:
    """Start the trackers that the run's configuration names."""
    config = parse_toml(run.config.read_text(encoding="utf-8"))
    # By name: declaring the plugin must not import what trackers need.
    background = import_module("esmgn_trackers.background").Background
    _open[run.path] = [
        background(name, import_module(f"esmgn_trackers.to_{name}").Tracker, run, config)
        for name in config["train"].get("trackers", [])
    ]


@hookimpl
def esmgn_metrics_logged(run: RunFolder, step: int, values: Mapping[str, float]) -> None:
    """Hand over the values; does not wait."""
    for tracker in _open.get(run.path, []):
        tracker.put(step, values)


@hookimpl
def esmgn_run_finished(run: RunFolder, error: BaseException | None) -> None:
    """Let the trackers finish, for a little while."""
    for tracker in _open.pop(run.path, []):
        tracker.close(failed=error is not None)
