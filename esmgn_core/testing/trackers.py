"""Claims about trackers."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
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
    """Check all claims about a tracker. It writes to the server in its settings and environment."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.config.write_text(tomli_w.dumps(_CONFIG), encoding="utf-8")
        run.log("started")
        claims.check((_takes_lines, _goes_on, _failed), TrackerSubject(claims, build, run))


def _takes_lines(subject: TrackerSubject) -> None:
    """It logs lines of metrics.jsonl, also values that are not finite, and does not change them."""
    tracker = subject.new()
    subject.claims.unchanged(lambda: tracker.log(1, _LINE), values=_LINE, config=_CONFIG)
    tracker.log(2, _LINE)
    tracker.close(failed=False)


def _goes_on(subject: TrackerSubject) -> None:
    """A second instance for the same folder continues the run, also without another line."""
    tracker = subject.new()
    tracker.log(3, {"loss": 0.25})
    tracker.close(failed=False)
    subject.new().close(failed=False)


def _failed(subject: TrackerSubject) -> None:
    """It can be closed after a run that failed."""
    tracker = subject.new()
    tracker.log(4, {"loss": 0.25})
    tracker.close(failed=True)
