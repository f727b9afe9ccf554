"""300 damaged files of every kind that is read, by the targets of ``benchmarks/fuzz.py``."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from esmgn_core.machine import child

FILE = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
TARGETS = (
    *("structures", "archives", "fasta", "tables", "labels", "scans", "run_folders", "store", "old_store"),
    *("embeddings", "lmdb", "trajectories", "foldcomp"),
)
COUNT = 300


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


def test_every_target_is_run(fuzz: ModuleType) -> None:
    assert tuple(fuzz.TARGETS) == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_are_read_or_refused(
    target: str, fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if target == "foldcomp":
        pytest.importorskip("foldcomp")
    monkeypatch.setattr(child, "LIMIT", 2.0)
    with warnings.catch_warnings(action="ignore"):
        outcomes = list(fuzz.attempts(target, range(COUNT), tmp_path))
    failures = [item for item in outcomes if item[1] not in ("begun", "read", "refused")]
    assert failures == []
    assert len(outcomes) == 2 * COUNT
    assert sum(outcome == "refused" for _, outcome in outcomes) > COUNT / 10, "the draw damages too little"
