"""A small study, and a program in the place of ``esmgn run``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from esmgn_core.host.registry import discover
from esmgn_core.study.plan import Cell, Study

TINY: dict[str, Any] = {
    "run": {
        "seq": "onehot",
        "struct": {"name": "gearnet", "hidden_dim": 8, "num_layers": 1},
        "data": {"name": "sample", "num_proteins": 20, "max_length": 30},
        "train": {"epochs": 1, "proteins_per_batch": 8, "trackers": []},
    },
    "axes": {"seed": [0, 1]},
    "stages": [
        {"name": "pretrain", "run": {"pretext": "residue_type"}},
        {"name": "tune", "init": "pretrain", "run": {"pretext": "distance"}},
    ],
}

PROGRAM = r"""
import os, pathlib, sys, time
folder = sys.argv[sys.argv.index("--out" if "--out" in sys.argv else "--resume") + 1]
folder = pathlib.Path(folder)
folder.mkdir(parents=True, exist_ok=True)
(folder / "arguments.txt").open("a").write(" ".join(sys.argv[1:]) + "\\n")
exec(os.environ.get("FAKE", ""))
(folder / "log.txt").write_text("2026-01-01 00:00:00  finished at step 3\\n")
"""


def fake(arguments: Sequence[str]) -> list[str]:
    """A program that ends at once, as a finished run."""
    return [sys.executable, "-c", PROGRAM.replace("\\\\", "\\"), *arguments]


@pytest.fixture
def cells() -> list[Cell]:
    return Study.of(TINY, origin="tiny.toml", name="tiny").cells(discover())
