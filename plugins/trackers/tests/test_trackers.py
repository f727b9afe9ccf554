"""Metrics reach the trackers, and no tracker can harm a run."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from esmgn_core.configure import configure, parse_assignments
from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.engine.session import resume_run, start_run
from esmgn_core.errors import RunError
from esmgn_core.registry import discover
from esmgn_trackers import background, to_tensorboard
from esmgn_trackers.background import Background

SMALL = (
    "seq.name=onehot",
    "struct.hidden_dim=8",
    "struct.num_layers=1",
    "data.num_proteins=6",
    "data.max_length=36",
    "train.max_steps=3",
)

Start = Callable[[str], RunFolder]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A run of three steps with some trackers."""

    def run(trackers: str) -> RunFolder:
        tables = parse_assignments([*SMALL, f"train.trackers={trackers}"])
        return start_run(discover(), configure(discover(), [tables]), out=tmp_path / "run").run

    return run


def test_tensorboard_has_every_value_also_after_a_resume(start: Start) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = start('["tensorboard"]')
    resume_run(discover(), run.path, changes={"train": {"max_steps": 5}})
    # Files are read in the order of their names, which two of one second and one process need not have.
    events = EventAccumulator(str(run.tensorboard), purge_orphaned_data=False)
    events.Reload()
    logged = sorted((item.step, item.value) for item in events.Scalars("train/loss"))
    assert logged == [(line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in run.read_metrics()]
    assert "valid/loss" in events.Tags()["scalars"]


def test_mlflow_has_the_values_and_the_configuration_in_the_run_folder(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = start('["mlflow"]')
    assert "tracker mlflow" not in run.log_file.read_text()
    client = mlflow.MlflowClient((run.path / "mlruns").as_uri())
    [found] = client.search_runs([client.get_experiment_by_name("esmgn").experiment_id])
    assert found.data.params["train.max_steps"] == "3"
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [item.value for item in history] == [line["loss"] for line in run.read_metrics()]


def test_wandb_offline_keeps_its_files_in_the_run_folder(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = start('["wandb"]')
    assert "tracker wandb" not in run.log_file.read_text()
    assert list((run.path / "wandb").glob("offline-run-*/*.wandb"))


class Lost:
    """A tracker whose server is gone: its calls fail, or never come back."""

    answer: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, run: RunFolder, config: Mapping[str, Any]) -> None: ...

    def log(self, step: int, values: Mapping[str, float]) -> None:  # noqa: ARG002
        self.answer()

    def close(self, *, failed: bool) -> None: ...


def refused() -> None:
    raise ConnectionError("connection refused")


def test_a_lost_server_costs_a_run_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_tensorboard, "Tracker", Lost)
    monkeypatch.setattr(Lost, "answer", staticmethod(refused))
    run = start('["tensorboard"]')
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3]
    log = run.log_file.read_text()
    assert log.count("tracker tensorboard failed: ConnectionError: connection refused") == 3
    assert "tracker tensorboard is given up; metrics are in metrics.jsonl" in log
    assert "finished at step 3" in log


def test_a_server_that_does_not_answer_is_not_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(to_tensorboard, "Tracker", Lost)
    monkeypatch.setattr(Lost, "answer", staticmethod(never.wait))
    monkeypatch.setattr(background, "SECONDS_AT_THE_END", 0.05)
    run = start('["tensorboard"]')
    never.set()
    assert (
        "tracker tensorboard does not answer; 3 lines are only in metrics.jsonl" in run.log_file.read_text()
    )
    assert "finished at step 3" in run.log_file.read_text()


def test_a_slow_server_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = threading.Event()
    monkeypatch.setattr(Lost, "answer", staticmethod(slow.wait))
    monkeypatch.setattr(background, "CAPACITY", 5)
    run = RunFolder(tmp_path)
    tracker = Background("slow", Lost, run, {})
    for step in range(100):
        tracker.put(step, {"loss": 1.0})
    slow.set()
    tracker.close(failed=False)
    [line] = run.log_file.read_text().splitlines()
    dropped = int(line.split("was too slow; ")[1].split()[0])
    assert 94 <= dropped <= 95


def test_a_tracker_that_is_not_installed_names_the_extra(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RunError) as caught:
        start('["wandb"]')
    assert str(caught.value).splitlines() == [
        "the tracker wandb (train.trackers) is not installed",
        "  install it: pip install 'esmgn[wandb]'",
    ]


def test_without_trackers_only_the_lines_are_written(start: Start) -> None:
    run = start("[]")
    assert not run.tensorboard.exists()
    assert json.loads(run.metrics.read_text().splitlines()[0])["step"] == 1
