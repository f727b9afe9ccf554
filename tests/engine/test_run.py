"""Whole runs: repeatable, resumable, and safe when something goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from esmgn_core import hookimpl
from esmgn_core.engine import train as train_module
from esmgn_core.engine.runs import RunSummary
from esmgn_core.engine.selection import Selection
from esmgn_core.engine.session import resume_run, start_run
from esmgn_core.engine.step import MetricAverager
from esmgn_core.errors import RunError, SettingsError, WeightsError
from esmgn_core.host.configure import configure, read_run_file
from esmgn_core.host.registry import discover
from esmgn_core.run_folder import RunFolder

from .conftest import Start, small_config

MEASURED = {"residues_per_second", "loading_percent", "memory_gb", "slowest_rank", "idle_percent"}
"""What differs between runs that are the same."""


def losses(run: RunFolder) -> list[tuple[float, ...]]:
    """Every number of the log that must not depend on speed."""
    return [
        tuple(value for name, value in line.items() if name not in MEASURED) for line in run.read_metrics()
    ]


def same_tensors(first: Path, second: Path) -> bool:
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads, whose order of adding up must not show."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("pretext", ["residue_type", "residue_type+distance"])
def test_a_run_repeats_from_its_config_to_the_last_digit(start: Start, pretext: str, tmp_path: Path) -> None:
    first = start(f"pretext.name={pretext}").run
    config = configure(discover(), [read_run_file(first.config)])
    second = start_run(discover(), config, out=tmp_path / "again").run
    assert len(losses(first)) == 6
    assert losses(first) == losses(second)
    assert same_tensors(first.model, second.model)
    assert first.config.read_text().splitlines()[1:] == second.config.read_text().splitlines()[1:]


def test_the_loss_falls(start: Start) -> None:
    run = start("train.epochs=20", "pretext.name=distance", "data.valid_fraction=0").run
    curve = [line["loss"] for line in run.read_metrics()]
    assert sum(curve[-4:]) < 0.8 * sum(curve[:4])


def test_a_run_folder_holds_what_the_docs_promise(start: Start) -> None:
    outcome = start()
    run = outcome.run
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "log.txt",
        "model.safetensors",
        "task.safetensors",
        "last",
        "previous",
    }
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 4, 5, 6]
    assert all({"step", "loss", "epoch"} <= line.keys() for line in run.read_metrics())
    assert "valid_loss" in run.read_metrics()[-1]
    assert all(line.keys() >= MEASURED - {"slowest_rank", "idle_percent"} for line in run.read_metrics())
    assert 0.05 < run.read_metrics()[0]["memory_gb"] < 100
    assert all(0 <= line["loading_percent"] <= 100 for line in run.read_metrics())
    environment = json.loads(run.environment.read_text())
    assert environment["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {plugin["name"] for plugin in environment["plugins"]} >= {"esm2", "gearnet"}
    prefixes = {name.split(".")[0] for name in load_file(run.model)}
    assert prefixes == {"sequence", "structure"}


def test_model_file_is_the_encoder_with_the_lowest_validation_loss(start: Start) -> None:
    outcome = start("train.epochs=4")
    valid = {line["step"]: line["valid_loss"] for line in outcome.run.read_metrics() if "valid_loss" in line}
    assert outcome.progress.best_step == min(valid, key=valid.__getitem__)
    assert outcome.progress.best_value == min(valid.values())
    assert Selection.recorded(outcome.run.model) == (
        outcome.progress.best_step,
        "valid_loss",
        min(valid.values()),
    )


def test_a_validation_loss_over_nothing_is_never_the_best(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no validation protein has a question, the loss would be a perfect 0."""

    def nothing(*_: object) -> tuple[MetricAverager, dict[str, float]]:
        return MetricAverager(), {}

    monkeypatch.setattr("esmgn_core.engine.train.evaluate", nothing)
    outcome = start("train.epochs=2")
    assert outcome.progress.best_value == float("inf")
    assert outcome.progress.best_step == outcome.progress.step
    log = outcome.run.log_file.read_text()
    assert "the validation loss is nan; this step cannot be selected as the best" in log
    assert "no validation gave a number" in log


class StopAt:
    """An observer that sends this process a signal once a step is logged."""

    def __init__(self, step: int, number: int) -> None:
        self._step, self._number = step, number

    @hookimpl
    def esmgn_metrics_logged(self, step: int) -> None:
        if step == self._step:
            os.kill(os.getpid(), self._number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_resumed_run_equals_the_undisturbed_one(start: Start, number: int) -> None:
    whole = start(out="whole").run
    manager = discover().manager
    observer = StopAt(3, number)
    manager.register(observer)
    try:
        stopped = start(out="stopped")
    finally:
        manager.unregister(observer)
    assert stopped.signal == number
    assert stopped.progress.step == 4
    resumed = resume_run(discover(), stopped.run.path, changes={})
    assert resumed.signal == 0
    assert losses(resumed.run) == losses(whole)
    assert same_tensors(resumed.run.model, whole.model)
    assert same_tensors(resumed.run.last / "model.safetensors", whole.last / "model.safetensors")


class CrashError(RuntimeError):
    """Stands for a machine that dies."""


def test_a_crash_between_checkpoints_costs_no_exactness(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log may be ahead of the checkpoint; the resumed run takes those steps again."""
    whole = start(out="whole").run
    original = train_module.Trainer._train_step

    def dying(self: Any, number: int, *arguments: Any) -> Any:
        if number == 3:
            raise CrashError
        return original(self, number, *arguments)

    monkeypatch.setattr(train_module.Trainer, "_train_step", dying)
    with pytest.raises(CrashError):
        start(out="crashed")
    monkeypatch.undo()
    folder = whole.path.parent / "crashed"
    assert [line["step"] for line in RunFolder(folder).read_metrics()] == [1, 2, 3]
    resumed = resume_run(discover(), folder, changes={}).run
    assert losses(resumed) == losses(whole)
    assert same_tensors(resumed.model, whole.model)


def test_resume_can_train_longer_than_planned(start: Start) -> None:
    longer = start("train.epochs=3", out="longer").run
    run = start(out="short").run
    resumed = resume_run(discover(), run.path, changes={"train": {"epochs": 3}})
    assert losses(resumed.run) == losses(longer)


def test_accumulated_passes_take_the_same_proteins_and_draws(start: Start) -> None:
    """Without batch statistics the steps would be equal; the first loss, in train mode, is near."""
    whole = start("train.max_steps=1", out="whole").run.read_metrics()[0]["loss"]
    parts = start("train.max_steps=1", "train.proteins_per_batch=2", "train.accumulate=2", out="parts")
    assert parts.run.read_metrics()[0]["loss"] == pytest.approx(whole, rel=0.1)


def test_a_frozen_sequence_encoder_keeps_its_weights_and_gets_no_optimiser_state(start: Start) -> None:
    """Frozen is as if never trained; at a tenth of the rate the same step moves the weights."""
    frozen = start("optim.seq_lr_scale=0", out="frozen").run
    begun = start("optim.seq_lr_scale=0", "train.max_steps=1", out="begun").run
    trained = start("optim.seq_lr_scale=0.1", "train.max_steps=1", out="trained").run
    after, before, moved = (load_file(run.last / "model.safetensors") for run in (frozen, begun, trained))
    sequence = [name for name in after if name.startswith("sequence.")]
    assert sequence
    assert all(torch.equal(after[name], before[name]) for name in sequence)
    assert not all(torch.equal(moved[name], before[name]) for name in sequence)
    groups = [
        len(torch.load(run.last / "state.pt", weights_only=True)["optimizer"]["param_groups"])
        for run in (frozen, trained)
    ]
    assert groups == [1, 2]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_proteins(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from esmgn_pretext.residue_type import ResidueType

    original = ResidueType.loss

    def poisoned(self: Any, views: Any, encodings: Any) -> Any:
        output = original(self, views, encodings)
        return type(output)(output.loss * float("nan"), output.num_samples, output.metrics)

    monkeypatch.setattr(ResidueType, "loss", poisoned)
    with pytest.raises(RunError, match="the loss of step 1 is nan") as caught:
        start()
    record = json.loads((tmp_path / "run" / "non_finite.json").read_text())
    assert record["step"] == 1
    assert 1 < len(record["proteins"]) <= 4
    assert all(name.startswith("sample-") for name in record["proteins"])
    assert "non_finite.json" in str(caught.value)
    assert RunSummary.of(tmp_path / "run").state.startswith("failed: the loss of step ")


def test_proteins_a_task_left_out_are_counted_in_the_log(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from esmgn_pretext.residue_type import ResidueType

    original = ResidueType.loss

    def one_left_out(self: Any, views: Any, encodings: Any) -> Any:
        return replace(original(self, views, encodings), num_left_out=1)

    monkeypatch.setattr(ResidueType, "loss", one_left_out)
    changes = ("train.max_steps=1", "train.proteins_per_batch=2", "train.accumulate=2")
    assert start(*changes).run.read_metrics()[0]["left_out"] == 2
    monkeypatch.undo()
    assert "left_out" not in start(*changes, out="whole").run.read_metrics()[0]


class Failing:
    """An observer with a bug."""

    @hookimpl
    def esmgn_metrics_logged(self, values: Mapping[str, float]) -> None:
        raise KeyError(list(values))


def test_an_observer_that_fails_is_noted_and_cannot_harm_the_run(start: Start) -> None:
    observer = Failing()
    discover().manager.register(observer)
    try:
        outcome = start()
    finally:
        discover().manager.unregister(observer)
    assert outcome.progress.step == 6
    assert "of metrics_logged failed: KeyError" in outcome.run.log_file.read_text()


def test_a_folder_that_holds_something_is_refused_before_anything_is_built(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(RunError) as caught:
        start()
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'run'} exists and is not an empty folder (--out)",
        "  name another folder",
    ]
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_folder_with_a_run_is_offered_for_resuming(start: Start) -> None:
    run = start("train.max_steps=1").run
    with pytest.raises(RunError) as caught:
        start("train.max_steps=1")
    assert f"or go on with its run: esmgn run --resume {run.path}" in str(caught.value)


def test_a_resumed_run_keeps_its_components(start: Start) -> None:
    run = start("train.max_steps=1").run
    with pytest.raises(SettingsError, match=r"a resumed run keeps its components \(pretext\.name\)"):
        resume_run(discover(), run.path, changes={"pretext": {"name": "distance"}})


def test_resuming_where_no_run_is(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run in"):
        resume_run(discover(), tmp_path, changes={})


def test_resuming_before_the_first_checkpoint(start: Start) -> None:
    run = start().run
    shutil.rmtree(run.last)
    shutil.rmtree(run.previous)
    with pytest.raises(RunError, match="nothing to resume") as caught:
        resume_run(discover(), run.path, changes={})
    assert "start it again: esmgn run" in str(caught.value)


def test_a_checkpoint_of_another_model_is_refused_with_the_differences(start: Start) -> None:
    run = start().run
    with pytest.raises(WeightsError) as caught:
        resume_run(discover(), run.path, changes={"struct": {"hidden_dim": 8}})
    assert "does not fit the model" in str(caught.value)
    assert "shape of structure." in str(caught.value)


def test_default_folders_count_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [start_run(discover(), small_config("train.max_steps=1")).run.path for _ in range(2)]
    assert [str(path) for path in runs] == [
        f"runs/esm2_tiny-gearnet-serial-residue_type-{number}" for number in (1, 2)
    ]


def test_validation_comes_every_few_epochs_and_at_the_end(start: Start) -> None:
    run = start("train.epochs=5", "train.validate_every=2", "train.log_every=1").run
    steps_per_epoch = len(run.read_metrics()) // 5
    validated = [line["step"] for line in run.read_metrics() if "valid_loss" in line]
    assert validated == [epoch * steps_per_epoch for epoch in (2, 4, 5)]


def test_metrics_are_logged_every_few_steps(start: Start) -> None:
    """The first step, every third one, and the last with its validation."""
    run = start("train.max_steps=5", "train.epochs=9", "train.log_every=3", "train.validate_every=9").run
    assert [line["step"] for line in run.read_metrics()] == [1, 3, 5]
