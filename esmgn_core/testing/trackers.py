"""Claims about trackers."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from esmgn_core.run_folder import RunFolder
from esmgn_core.testing.claims import Claims

_CONFIG: dict[str, Any] = {
    **{kind: {"name": kind} for kind in ("seq", "struct", "fuse", "graph", "pretext", "data")},
    "train": {"seed": 0, "trackers": ["tensorboard"], "residues_per_batch": 4000},
    "tracker": {},
}
_LINE = {"loss": 0.5, "valid_loss": math.nan, "learning_rate": 2e-4}


@dataclass(frozen=True, slots=True)
class TrackerSubject:
    """A tracker under test, and the folder of a run."""

    claims: Claims
    build: Callable[..., Any]
    run: RunFolder

    def new(self) -> Any:
        """An instance for the run."""
        return self.build(run=self.run, config=_CONFIG)


def check_tracker(claims: Claims, _component: type, build: Callable[..., Any]) -> None:
    """Check all claims about a tracker, in a thread as in a run. It writes to the server in its settings."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        run = RunFolder(Path(folder))
        run.config.write_text(tomli_w.dumps(_CONFIG), encoding="utf-8")
        run.metrics.write_text('{"step": 1, "loss": 0.5}\n', encoding="utf-8")
        run.log("started")
        checks = (_takes_lines, _goes_on, _failed)
        thread.submit(claims.check, checks, TrackerSubject(claims, build, run)).result()


def _takes_lines(subject: TrackerSubject) -> None:
    """It logs lines of metrics.jsonl, also values that are not finite, and changes no file of the run."""
    before = _contents(subject.run)
    tracker = subject.new()
    subject.claims.unchanged(lambda: tracker.log(1, _LINE), values=_LINE, config=_CONFIG)
    tracker.log(2, _LINE)
    tracker.close(failed=False)
    after = _contents(subject.run)
    changed = [name for name, content in before.items() if after.get(name) != content]
    subject.claims.require(not changed, f"changes files of the run: {', '.join(changed)}")


def _goes_on(subject: TrackerSubject) -> None:
    """A second instance continues the run, also at steps that are repeated or without another line."""
    before = _contents(subject.run)
    tracker = subject.new()
    tracker.log(2, {"loss": 0.25})
    tracker.log(3, {"loss": 0.25})
    tracker.close(failed=False)
    subject.new().close(failed=False)
    after = _contents(subject.run)
    lost = [name for name, content in before.items() if 2 * len(after.get(name, b"")) < len(content)]
    subject.claims.require(not lost, f"a second instance overwrites or removes {', '.join(lost)}")


def _failed(subject: TrackerSubject) -> None:
    """It can be closed after a run that failed."""
    tracker = subject.new()
    tracker.log(4, {"loss": 0.25})
    tracker.close(failed=True)


def _contents(run: RunFolder) -> dict[str, bytes]:
    """The files of a run folder, by name."""
    files = [file for file in sorted(run.path.rglob("*")) if file.is_file()]
    return {str(file.relative_to(run.path)): file.read_bytes() for file in files}
