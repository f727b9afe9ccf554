"""What goes wrong around a run is a failure with its reason, or costs nothing; never a silent success."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from esmgn_core import hookimpl
from esmgn_core.batch import ProteinBatch
from esmgn_core.engine import checkpoint_files as checkpoints_module
from esmgn_core.engine.microbatch import is_shortage
from esmgn_core.engine.runs import RunSummary, find_runs
from esmgn_core.engine.session import resume_run
from esmgn_core.errors import PluginError
from esmgn_core.host.registry import discover
from esmgn_core.model.joint import TrainStep
from esmgn_core.run_folder import RunFolder
from esmgn_datasets.sample import Sample

from .conftest import Start
from .test_run import losses


def leave(*_: object, **__: object) -> None:
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("owner", "method"), [(Sample, "__getitem__"), (TrainStep, "forward"), (Sample, "__len__")]
)
def test_a_plugin_that_leaves_the_program_is_a_failure(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, owner: type, method: str
) -> None:
    """``sys.exit()`` of a component or dataset must not end a run half-way with status 0."""
    monkeypatch.setattr(owner, method, leave)
    with pytest.raises(PluginError, match=r"failures.py:\d+ tried to end the program: SystemExit\(0\)"):
        start()
    log = tmp_path / "run" / "log.txt"
    if log.exists():
        assert "failed: " in log.read_text()


class Leaving:
    """An observer that leaves the program."""

    @hookimpl
    def esmgn_metrics_logged(self) -> None:
        raise SystemExit(0)


def test_an_observer_that_leaves_the_program_is_noted(start: Start) -> None:
    observer = Leaving()
    discover().manager.register(observer)
    try:
        outcome = start("train.max_steps=2")
    finally:
        discover().manager.unregister(observer)
    assert outcome.progress.step == 2
    assert "of metrics_logged failed: SystemExit: 0" in outcome.run.log_file.read_text()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
    ],
)
def test_every_way_to_report_a_shortage_of_memory(error: Exception) -> None:
    assert is_shortage(error)
    assert not is_shortage(RuntimeError("shape mismatch"))


@pytest.mark.parametrize("threads", [0, 1])
def test_a_shortage_while_reading_halves_the_passes(
    start: Start, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    original = ProteinBatch.from_proteins

    def packed(proteins: Any) -> ProteinBatch:
        if len(proteins) > 2:
            raise MemoryError
        return original(proteins)

    monkeypatch.setattr(ProteinBatch, "from_proteins", packed)
    outcome = start("data.valid_fraction=0", "train.max_steps=2", f"train.workers={threads}")
    assert outcome.progress.step == 2
    assert outcome.progress.pieces == 2
    assert "out of memory reading a pass (protein " in outcome.run.log_file.read_text()


def test_a_shortage_while_validating_halves_those_passes_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = start("data.valid_fraction=0.3", "train.epochs=1", out="plain")
    original = TrainStep.forward

    def forward(self: TrainStep, batch: Any, draws: Any) -> Any:
        if not self.training and len(batch) > 1:
            raise RuntimeError("std::bad_alloc")
        return original(self, batch, draws)

    monkeypatch.setattr(TrainStep, "forward", forward)
    outcome = start("data.valid_fraction=0.3", "train.epochs=1", out="short")
    assert outcome.progress.pieces == 1
    assert "validation passes are halved from here on" in outcome.run.log_file.read_text()
    assert json.loads(outcome.run.out_of_memory.read_text())["valid_pieces"] == 4
    lines = [run.read_metrics() for run in (plain.run, outcome.run)]
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]
    assert lines[0][-1]["valid_loss"] == pytest.approx(lines[1][-1]["valid_loss"], rel=1e-5)


def test_a_kill_before_a_checkpoint_is_kept_does_not_lose_it(start: Start) -> None:
    """Also one while it is copied: ``kept/step-N`` is there completely or not at all."""
    changes = ("train.keep_every=2", "train.max_steps=2")
    run = start(*changes).run
    shutil.rmtree(run.kept)
    half = run.kept / ".step-0000002.new"
    half.mkdir(parents=True)
    (half / "state.pt").touch()
    resume_run(discover(), run.path, changes={"train": {"max_steps": 3}})
    assert [path.name for path in run.kept.iterdir()] == ["step-0000002"]
    checkpoints_module.verify(run.kept / "step-0000002")


DAMAGES = {
    "text": b'"x"',
    "without a step": b'{"loss": 1.0}',
    "step is text": b'{"step": "1", "loss": 1.0}',
    "step is huge": b'{"step": 1e999, "loss": 1.0}',
    "value is text": b'{"step": 1, "loss": "1"}',
    "value is huge": b'{"step": 1, "loss": 1' + b"0" * 400 + b"}",
    "range is huge": b'{"step": 1, "loss": 1e308}',
    "two lines in one": b'{"step": 1, "loss": 1.0{"step": 2, "loss": 1.0}',
    "not UTF-8": b'{"step": 1, "loss\xff": 1.0}',
    "deep": b"[" * 100_000,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run, to be copied and damaged."""
    from esmgn_core.engine.session import start_run

    from .conftest import small_config

    folder = tmp_path_factory.mktemp("finished") / "runs" / "one"
    return start_run(discover(), small_config("train.max_steps=2"), out=folder).run.path


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_line_of_metrics_is_left_out_and_reported(
    finished: Path, tmp_path: Path, damage: bytes
) -> None:
    folder = tmp_path / "runs" / "one"
    shutil.copytree(finished, folder)
    run = RunFolder(folder)
    whole = losses(run)
    first, *rest = run.metrics.read_bytes().splitlines(keepends=True)
    run.metrics.write_bytes(b"".join([first, damage, b"\n", *rest]))
    assert losses(run) == whole
    [summary], problems = find_runs(folder.parent)
    assert summary.steps == 2
    assert problems == [f"damaged lines of {run.metrics}, left out: 1"]
    run.drop_metrics_after(2)
    assert losses(run) == whole
    assert run.damaged_metrics() == 0


def test_an_unfinished_last_line_is_not_damage(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "one")
    run = RunFolder(tmp_path / "one")
    with run.metrics.open("ab") as file:
        file.write(b'{"step": 3, "lo')
    assert run.damaged_metrics() == 0
    assert RunSummary.of(run.path).steps == 2


@pytest.mark.parametrize(
    "damage", [b"[seq\n", b"", b"name = '\xff\xfe\xfa'\x00"], ids=["toml", "empty", "bytes"]
)
def test_a_damaged_configuration_is_read_from_the_other_record(
    finished: Path, tmp_path: Path, damage: bytes
) -> None:
    folder = tmp_path / "runs" / "one"
    shutil.copytree(finished, folder)
    run = RunFolder(folder)
    settings = RunSummary.of(folder).settings()
    run.config.write_bytes(damage)
    summaries, problems = find_runs(folder.parent)
    assert [summary.settings() for summary in summaries] == [settings]
    assert problems[0].startswith(f"{run.config} is damaged")
    outcome = resume_run(discover(), folder, changes={"train": {"max_steps": 3}})
    assert outcome.progress.step == 3
    log = run.log_file.read_text()
    assert str(run.config) in log.split("resumed at")[1]
    assert f"the settings in {run.environment} are used" in log
    assert RunSummary.of(folder).settings() == settings | {"train.max_steps": 3}


def test_one_damaged_run_does_not_hide_the_others(finished: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(finished, tmp_path / name)
    (tmp_path / "two" / "config.toml").write_bytes(b"[")
    (tmp_path / "two" / "environment.json").write_bytes(b"\xff")
    found, problems = find_runs(tmp_path)
    assert [item.name for item in found] == ["one"]
    assert problems[0].startswith(f"{tmp_path / 'two' / 'config.toml'} is damaged: ")
    assert problems[0].endswith("the run is not listed")
