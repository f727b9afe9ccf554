"""Checkpoints when the disk is full, damaged, or the machine dies while one is written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from esmgn_core.engine import checkpoint as state_module
from esmgn_core.engine import checkpoint_files as checkpoints_module
from esmgn_core.engine.checkpoint_files import verify
from esmgn_core.engine.selection import Selection
from esmgn_core.engine.session import resume_run
from esmgn_core.errors import EsmgnError, RunError
from esmgn_core.host.registry import discover
from esmgn_core.model.tensors import write_tensors
from esmgn_core.run_folder import RunFolder

from .conftest import Start
from .test_run import losses, same_tensors


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Writing checkpoints fails at these steps, in the middle of the file."""
    steps: list[int] = []
    original = write_tensors

    def write(tensors: Any, path: Path, metadata: dict[str, str]) -> None:
        original(tensors, path, metadata)
        if int(metadata["step"]) in steps:
            path.write_bytes(path.read_bytes()[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state_module, "write_tensors", write)
    return steps


def test_a_full_disk_leaves_the_checkpoint_before_and_the_run_goes_on(
    start: Start, full_disk: list[int]
) -> None:
    full_disk.append(4)
    outcome = start("data.valid_fraction=0")
    assert outcome.progress.step == outcome.num_steps == 8
    log = outcome.run.log_file.read_text()
    assert f"step 4: cannot write {outcome.run.last}: the disk is full (" in log
    assert "the previous one is unchanged, the run goes on" in log
    verify(outcome.run.last)


def test_an_encoder_that_could_not_be_written_is_not_the_best_one(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoder and heads stay those of the validation before, which later ones are compared with."""
    whole = start("train.epochs=4")
    original = write_tensors

    def write(tensors: Any, path: Path, metadata: dict[str, str]) -> None:
        original(tensors, path, metadata)
        best = metadata["step"] == str(whole.progress.best_step) and "selected_by" in metadata
        if best and path.name.startswith(".model.safetensors"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state_module, "write_tensors", write)
    outcome = start("train.epochs=4", out="full")
    selection = Selection.recorded(outcome.run.model)
    assert selection is not None
    assert selection.step == outcome.progress.best_step != whole.progress.best_step
    assert selection.value == outcome.progress.best_value
    assert Selection.recorded(outcome.run.task) == selection


def test_a_full_disk_at_the_end_stops_with_the_command_to_go_on(start: Start, full_disk: list[int]) -> None:
    whole = start(out="whole").run
    full_disk.append(6)
    with pytest.raises(RunError) as caught:
        start(out="full")
    run = RunFolder(whole.path.parent / "full")
    message, hint = str(caught.value).splitlines()
    assert message.startswith(f"step 6: cannot write {run.last}: the disk is full (")
    assert hint.strip() == f"free disk space, then resume: esmgn run --resume {run.path}"
    full_disk.clear()
    resumed = resume_run(discover(), run.path, changes={})
    assert losses(resumed.run) == losses(whole)
    assert same_tensors(resumed.run.last / "model.safetensors", whole.last / "model.safetensors")


def test_a_run_can_be_set_to_stop_at_the_first_checkpoint_it_cannot_write(
    start: Start, full_disk: list[int]
) -> None:
    full_disk.append(2)
    with pytest.raises(RunError, match=r"step 2: cannot write"):
        start("train.on_failed_checkpoint=stop", "data.valid_fraction=0")


def test_a_full_disk_under_the_records_does_not_stop_a_run(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of metrics that cannot be written is missing, and the ones after it are readable."""
    original = RunFolder.append_metrics

    def append(self: RunFolder, step: int, values: Any) -> None:
        if step == 3:
            with self.metrics.open("a") as file:
                file.write('{"step": 3, "lo')
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, step, values)

    monkeypatch.setattr(RunFolder, "append_metrics", append)
    outcome = start()
    assert [line["step"] for line in outcome.run.read_metrics()] == [1, 2, 4, 5, 6]


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "checksums.json"])
def test_a_damaged_checkpoint_gives_a_notice_and_the_previous_one_is_used(start: Start, name: str) -> None:
    """One flipped bit is enough to be noticed; the resumed run ends as if nothing had been."""
    run = start().run
    whole = start("train.epochs=3", out="whole").run
    file = run.last / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    resumed = resume_run(discover(), run.path, changes={"train": {"epochs": 3}})
    log = run.log_file.read_text()
    assert f"; resumed from the previous checkpoint, {run.previous}" in log
    assert "resumed at step 4 of 9" in log
    assert losses(resumed.run) == losses(whole)


def test_when_every_checkpoint_is_damaged_all_are_named(start: Start) -> None:
    run = start().run
    for folder in (run.last, run.previous):
        (folder / "state.pt").write_bytes(b"")
    with pytest.raises(EsmgnError) as caught:
        resume_run(discover(), run.path, changes={})
    assert str(caught.value).splitlines() == [
        f"cannot resume {run.path}: every checkpoint is damaged",
        f"  {run.last / 'state.pt'} is damaged: its checksum differs",
        f"  {run.previous / 'state.pt'} is damaged: its checksum differs",
    ]


def test_a_crash_while_a_checkpoint_moves_into_place_leaves_the_one_before(start: Start) -> None:
    longer = start("train.epochs=3", out="longer").run
    run = start(out="short").run
    shutil.rmtree(run.last)  # last/ became previous/, the new one is not in place yet
    resumed = resume_run(discover(), run.path, changes={"train": {"epochs": 3}})
    assert losses(resumed.run) == losses(longer)


def test_checkpoints_are_kept_for_good_and_can_be_gone_on_from(start: Start) -> None:
    run = start("train.keep_every=2", "train.checkpoint_every=1").run
    assert sorted(path.name for path in run.kept.iterdir()) == [
        "step-0000002",
        "step-0000004",
        "step-0000006",
    ]
    before = losses(run)
    shutil.rmtree(run.last)
    shutil.copytree(run.kept / "step-0000002", run.last)
    resumed = resume_run(discover(), run.path, changes={})
    assert losses(resumed.run) == before


def test_a_clock_that_goes_back_changes_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits are kept by a clock that cannot be set; the wall clock only dates records."""
    whole = start(out="whole").run
    clock = iter(range(2_000_000_000, 0, -86_400))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    back = start("train.time_limit=60", out="back")
    assert back.progress.step == back.num_steps
    assert losses(back.run) == losses(whole)


def test_a_checkpoint_is_on_the_disk_and_verified_before_the_one_before_is_given_up(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order: flush every file, verify the new folder, move the old one, move the new one."""
    events: list[str] = []
    flush, check, rename = os.fsync, checkpoints_module.verify, Path.rename

    def flushed(number: int) -> None:
        events.append(f"flush {Path(f'/proc/self/fd/{number}').readlink().name}")
        flush(number)

    def verified(folder: Path) -> None:
        events.append(f"verify {folder.name}")
        check(folder)

    def renamed(path: Path, target: Path) -> Path:
        events.append(f"{path.name} -> {Path(target).name}")
        return rename(path, target)

    run = start("train.max_steps=2").run
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(checkpoints_module, "verify", verified)
    monkeypatch.setattr(Path, "rename", renamed)
    resume_run(discover(), run.path, changes={"train": {"max_steps": 4}})
    names = ["model.safetensors", "state.pt", "checksums.json"]
    first = events.index("verify .last.new")
    assert {f"flush {name}" for name in names} <= set(events[:first])
    moves = [event for event in events[first:] if "last" in event and " -> " in event]
    assert moves == ["last -> previous", ".last.new -> last"]


def test_a_new_checkpoint_that_reads_back_differently_is_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that loses what it took: the checkpoint before stays, and the run says so."""
    original = checkpoints_module.seal

    def lose(folder: Path) -> None:
        original(folder)
        content = (folder / "state.pt").read_bytes()
        (folder / "state.pt").write_bytes(content[:-1] + b"?")

    whole = start("train.max_steps=2", out="whole").run
    monkeypatch.setattr(checkpoints_module, "seal", lose)
    with pytest.raises(RunError, match=r"state\.pt is damaged: its checksum differs"):
        resume_run(discover(), whole.path, changes={"train": {"max_steps": 4}})
    verify(whole.last)
