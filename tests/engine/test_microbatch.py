"""A pass that does not fit into memory: passes are halved, and the run goes on."""

from __future__ import annotations

import json
import os
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from esmgn_core.engine.microbatch import MicrobatchSplit
from esmgn_core.engine.session import resume_run
from esmgn_core.engine.train import Trainer
from esmgn_core.errors import RunError
from esmgn_core.host.registry import discover
from esmgn_core.model.joint import TrainStep
from esmgn_core.run_folder import RunFolder

from .conftest import Start
from .processes import SECONDS, Job, run_together, start_together

FITS = 100


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on which a pass in training can have so many residues and no more."""
    original = TrainStep.forward

    def forward(self: TrainStep, batch: Any, draws: Any) -> Any:
        if self.training and batch.num_residues > FITS:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, batch, draws)

    monkeypatch.setattr(TrainStep, "forward", forward)


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("size", ["train.proteins_per_batch=12", "train.residues_per_batch=380"])
def test_passes_are_halved_until_they_fit_with_a_notice(start: Start, size: str) -> None:
    outcome = start(size, "train.epochs=3", "data.valid_fraction=0")
    assert outcome.progress.step == outcome.num_steps
    assert outcome.progress.pieces in (4, 8)
    log = outcome.run.log_file.read_text()
    assert "out of memory with" in log
    assert "passes are halved from here on, steps take the same proteins" in log
    record = json.loads(outcome.run.out_of_memory.read_text())
    assert record["pieces"] == outcome.progress.pieces
    assert record["proteins"][0].startswith("sample-")


@pytest.mark.usefixtures("small_memory")
def test_a_resumed_run_keeps_to_what_fitted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = start("train.proteins_per_batch=12", "train.max_steps=1", "data.valid_fraction=0")
    stopped.run.out_of_memory.unlink()
    monkeypatch.setattr(f"{__name__}.FITS", 10**6)
    resumed = resume_run(discover(), stopped.run.path, changes={"train": {"max_steps": 2}})
    assert resumed.progress.pieces == stopped.progress.pieces > 1


@pytest.mark.usefixtures("small_memory")
def test_a_single_protein_that_does_not_fit_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.FITS", 20)
    with pytest.raises(RunError) as caught:
        start("data.valid_fraction=0")
    first, *hints = str(caught.value).splitlines()
    assert first.startswith("step 1: out of memory with ")
    assert "(sample-" in first
    assert first.endswith("; a single protein is too large")
    assert "train.activation_checkpointing" in hints[-1]


def second_process_is_short() -> None:
    """Of several processes the second has a device on which a pass can have so many residues and no more."""
    original = TrainStep.forward

    def forward(self: TrainStep, batch: Any, draws: Any) -> Any:
        if self.training and os.environ["RANK"] == "1" and batch.num_residues > FITS:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, batch, draws)

    TrainStep.forward = forward  # type: ignore[method-assign]  # in a process that ends with its run


def test_one_process_falls_short_both_end_and_the_resumed_run_takes_half_at_a_time(
    tmp_path: Path,
) -> None:
    """As under torchrun: the process that waits for the other must not wait for ever."""
    run = RunFolder(tmp_path / "run")
    changes = ("train.proteins_per_batch=4", "train.max_steps=3", "data.valid_fraction=0")
    processes = start_together([Job(changes, run.path, before=second_process_is_short)], world_size=2)
    for process in processes:
        process.join(SECONDS)
    assert [process.exitcode for process in processes] == [1, 1]
    assert json.loads(run.out_of_memory.read_text())["pieces"] == 2
    assert run.read_metrics() == []
    again = Job((), run.path, resume=True, before=second_process_is_short)
    run_together([again], world_size=2)
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3]
    assert torch.load(run.last / "state.pt")["progress"]["pieces"] == 2


def test_the_one_that_fell_short_says_how_to_go_on(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("train.max_steps=1").run
    original = Trainer._halve

    def not_alone(self: Trainer, *arguments: Any) -> None:
        object.__setattr__(self.world, "size", 2)
        original(self, *arguments)

    monkeypatch.setattr(Trainer, "_halve", not_alone)
    short = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(TrainStep, "forward", lambda *_: (_ for _ in ()).throw(short))
    with pytest.raises(RunError) as caught:
        resume_run(discover(), run.path, changes={"train": {"max_steps": 2}})
    assert f"resume from the last checkpoint: esmgn run --resume {run.path}" in str(caught.value)


def test_other_errors_are_not_taken_for_a_shortage(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = RuntimeError("shapes cannot be multiplied")
    monkeypatch.setattr(TrainStep, "forward", lambda *_: (_ for _ in ()).throw(bug))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        start()


@pytest.mark.parametrize("training", [True, False])
def test_tensors_of_the_failed_pass_are_free_before_a_smaller_one_is_run(
    start: Start, monkeypatch: pytest.MonkeyPatch, training: bool
) -> None:
    original, halve = TrainStep.forward, MicrobatchSplit.halve
    held: list[weakref.ref[torch.Tensor]] = []
    seen: list[bool] = []

    def forward(self: TrainStep, batch: Any, draws: Any) -> Any:
        if self.training == torch.is_grad_enabled() == training and not held:
            activations = torch.ones(3, requires_grad=True) * 2
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, batch, draws)

    def noting(self: MicrobatchSplit, *arguments: Any, **options: Any) -> str:
        seen.append(held[0]() is None)
        return halve(self, *arguments, **options)

    monkeypatch.setattr(TrainStep, "forward", forward)
    monkeypatch.setattr(MicrobatchSplit, "halve", noting)
    start("train.max_steps=1")
    assert seen == [True]
