"""Small runs on sample proteins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esmgn_core.engine.session import Outcome, start_run
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.settings import RunConfig

SMALL = (
    "seq.name=esm2_tiny",
    "pretext.name=residue_type",
    "struct.hidden_dim=16",
    "struct.num_layers=2",
    "data.num_proteins=14",
    "data.max_length=40",
    "data.valid_fraction=0.2",
    "optim.lr=0.001",
    "train.proteins_per_batch=4",
    "train.epochs=2",
    "train.checkpoint_every=2",
    "train.trackers=[]",
)


def small_config(*changes: str) -> RunConfig:
    """A run of a few steps, with ``--set`` style changes."""
    return configure(discover(), [parse_assignments(SMALL), parse_assignments(changes)])


Start = Callable[..., Outcome]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Run a small configuration: ``start("train.epochs=1", out="name")``."""

    def run(*changes: str, out: str = "run", **arguments: Any) -> Outcome:
        return start_run(discover(), small_config(*changes), out=tmp_path / out, **arguments)

    return run
