"""Metrics reach the trackers, and no tracker can harm a run."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from esmgn_core.engine import trackers as engine
from esmgn_core.engine.session import resume_run, start_run
from esmgn_core.engine.trackers import Background, TrackerPlan
from esmgn_core.errors import PluginError, SettingsError, UnknownComponentError
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.machine.parse import parse_toml
from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import ComponentSpec, Kind
from esmgn_core.testing import check_component
from esmgn_trackers import to_tensorboard

SMALL = (
    "seq.name=onehot",
    "struct.hidden_dim=8",
    "struct.num_layers=1",
    "data.num_proteins=6",
    "data.max_length=36",
    "train.max_steps=3",
)

Start = Callable[..., RunFolder]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A run of three steps with some trackers."""

    def run(trackers: str, *changes: str, out: str = "run") -> RunFolder:
        tables = parse_assignments([*SMALL, f"train.trackers={trackers}", *changes])
        return start_run(discover(), configure(discover(), [tables]), out=tmp_path / out).run

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


class Fake:
    """Takes the place of the packages wandb and mlflow: notes every call, and has no runs at first."""

    run_id = experiment_id = "id"

    def __init__(self) -> None:
        self.info = self
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*given: Any, **named: Any) -> Any:
            self.calls.append((name, given, named))
            return None if name == "get_experiment_by_name" else [] if name == "search_runs" else self

        return call

    def named(self, name: str) -> list[dict[str, Any]]:
        return [named for called, _, named in self.calls if called == name]

    def given(self, name: str) -> list[tuple[Any, ...]]:
        return [given for called, given, _ in self.calls if called == name]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """A tracking server, for W&B and MLflow alike."""
    fake = Fake()
    for package in ("wandb", "mlflow", "mlflow.entities"):
        monkeypatch.setitem(sys.modules, package, fake)
    for module in ("esmgn_trackers.to_wandb", "esmgn_trackers.to_mlflow"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    yield fake
    for module in ("esmgn_trackers.to_wandb", "esmgn_trackers.to_mlflow"):
        sys.modules.pop(module, None)


STUDY = ("project=folds", "entity=lab", "group=seeds", 'tags=["small", "test"]')


def test_wandb_gets_project_entity_group_and_tags(server: Fake, start: Start) -> None:
    run = start('["wandb"]', *(f"tracker.wandb.{item}" for item in STUDY))
    assert "tracker wandb" not in run.log_file.read_text()
    [started] = server.named("init")
    expected = {"project": "folds", "entity": "lab", "group": "seeds", "tags": ["small", "test"]}
    assert {name: started[name] for name in expected} == expected
    assert started["id"] == run.name_for_trackers()
    assert [named["step"] for named in server.named("log")] == [1, 2, 3]
    assert server.named("finish") == [{"exit_code": 0}]


def test_mlflow_gets_project_entity_group_and_tags(server: Fake, start: Start) -> None:
    """The project is the experiment, the entity the user; group and tags are tags."""
    run = start('["mlflow"]', *(f"tracker.mlflow.{item}" for item in STUDY))
    assert "tracker mlflow" not in run.log_file.read_text()
    assert server.given("create_experiment") == [("folds",)]
    [created] = server.named("create_run")
    assert created["tags"] == {
        "small": "true",
        "test": "true",
        "esmgn": run.name_for_trackers(),
        "group": "seeds",
        "mlflow.runName": "run",
        "mlflow.user": "lab",
    }
    assert [given[1] for given in server.given("set_terminated")] == ["FINISHED"]


def test_the_seeds_of_one_configuration_are_one_group(server: Fake, start: Start) -> None:
    for number, change in enumerate(["train.seed=0", "train.seed=7", "optim.lr=0.5"]):
        start('["wandb"]', change, out=f"run{number}")
    one, other, third = (started["group"] for started in server.named("init"))
    assert one == other
    assert one.startswith("onehot-gearnet-serial-multiview_contrast-")
    assert third != one


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_trackers_keep_their_contract(server: Fake, name: str) -> None:
    check_component(Kind.TRACKER, name)
    assert server.calls


def test_the_settings_of_trackers_are_in_the_run_file(server: Fake, start: Start) -> None:  # noqa: ARG001
    """Also those of one that is not in use; a resume has them, and may change them."""
    run = start('["wandb"]', "tracker.wandb.project=folds", "tracker.mlflow.group=seeds")
    written = parse_toml(run.config.read_text())["tracker"]
    assert written == {
        "wandb": {"component": "wandb", "project": "folds", "tags": []},
        "mlflow": {"group": "seeds"},
    }
    changes = {"train": {"max_steps": 4, "trackers": ["mlflow"]}, "tracker": {"mlflow": {"project": "x"}}}
    again = resume_run(discover(), run.path, changes=changes).run
    assert again.read_metrics()[-1]["step"] == 4
    assert parse_toml(run.config.read_text())["tracker"]["mlflow"]["project"] == "x"


def test_a_run_of_esmgn_0_1_0_resumes(start: Start) -> None:
    """Its run file and records have no tables of trackers."""
    run = start('["tensorboard"]')
    text = run.config.read_text()
    run.config.write_text(text[: text.index("[tracker")] + text[text.index("[cache]") :])
    record = json.loads(run.environment.read_text())
    del record["settings"]["tracker"]
    run.environment.write_text(json.dumps(record))
    assert "[tracker" not in run.config.read_text()
    again = resume_run(discover(), run.path, changes={"train": {"max_steps": 5}}).run
    assert [line["step"] for line in again.read_metrics()] == [1, 2, 3, 4, 5]
    assert "edited" not in run.log_file.read_text()


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            ['train.trackers=["wanbd"]'],
            [
                "unknown tracker 'wanbd' (train.trackers)",
                "  did you mean: wandb?",
                "  available: mlflow, tensorboard, wandb",
                "  see: esmgn list tracker",
                "  some need an extra: pip install 'esmgn[mlflow]' 'esmgn[wandb]'",
                "  no tracker: --set train.trackers=[]",
            ],
        ),
        (
            ["tracker.wanbd.project=x"],
            ["unknown tracker 'wanbd' ([tracker.wanbd])", "  did you mean: wandb?"],
        ),
        (
            ['train.trackers=["tensorboard"]', "tracker.tensorboard.folder=x"],
            [
                "invalid settings for tracker 'tensorboard' (--set)",
                "  folder  unknown setting",
                "  see: esmgn show tensorboard",
            ],
        ),
    ],
)
def test_wrong_names_of_trackers_and_settings(tmp_path: Path, changes: list[str], lines: list[str]) -> None:
    tables = parse_assignments([*SMALL, *changes])
    config = configure(discover(), [tables], ["--set"])
    with pytest.raises((UnknownComponentError, SettingsError)) as caught:
        start_run(discover(), config, out=tmp_path / "run")
    assert str(caught.value).splitlines()[: len(lines)] == lines
    assert not (tmp_path / "run").exists()


def test_settings_outside_of_a_trackers_table_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"must hold a table for each tracker, such as \[tracker.wandb\]"):
        parse_assignments(["tracker.project=x"])


class Lost:
    """A tracker whose server is gone: its calls fail, or never come back."""

    class Settings(ComponentSettings):
        """No settings."""

    answer: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, settings: Settings, *, run: RunFolder, config: Mapping[str, Any]) -> None: ...

    def log(self, step: int, values: Mapping[str, float]) -> None:  # noqa: ARG002
        self.answer()

    def close(self, *, failed: bool) -> None: ...


def refused() -> None:
    raise ConnectionError("connection refused")


def test_a_lost_server_costs_a_run_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_tensorboard, "TensorBoard", Lost)
    monkeypatch.setattr(Lost, "answer", staticmethod(refused))
    run = start('["tensorboard"]')
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3]
    log = run.log_file.read_text()
    assert log.count("tracker tensorboard failed: ConnectionError: connection refused") == 3
    assert "tracker tensorboard is stopped; metrics are in metrics.jsonl" in log
    assert "finished at step 3" in log


def test_a_server_that_does_not_answer_is_not_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(to_tensorboard, "TensorBoard", Lost)
    monkeypatch.setattr(Lost, "answer", staticmethod(never.wait))
    monkeypatch.setattr(engine, "SECONDS_AT_THE_END", 0.05)
    run = start('["tensorboard"]')
    never.set()
    assert (
        "tracker tensorboard does not answer; 3 lines are only in metrics.jsonl" in run.log_file.read_text()
    )
    assert "finished at step 3" in run.log_file.read_text()


def test_a_slow_server_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = threading.Event()
    monkeypatch.setattr(Lost, "answer", staticmethod(slow.wait))
    monkeypatch.setattr(engine, "CAPACITY", 5)
    run = RunFolder(tmp_path)
    plan = TrackerPlan(ComponentSpec(Kind.TRACKER, "slow", "here:Lost", ""), Lost, Lost.Settings())
    tracker = Background("slow", plan, run, {})
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
    monkeypatch.delitem(sys.modules, "esmgn_trackers.to_wandb", raising=False)
    with pytest.raises(PluginError) as caught:
        start('["wandb"]')
    first, *hints = str(caught.value).splitlines()
    assert first.startswith("tracker 'wandb' needs a package that cannot be imported: ")
    assert hints == [
        "  install it: pip install 'esmgn[wandb]'",
        "  or choose another tracker: esmgn list tracker",
    ]


def test_without_trackers_only_the_lines_are_written(start: Start) -> None:
    run = start("[]")
    assert not run.tensorboard.exists()
    assert json.loads(run.metrics.read_text().splitlines()[0])["step"] == 1
