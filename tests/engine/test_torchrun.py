"""Several processes give the run of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esmgn_core.engine.run_folder import RunFolder

from .conftest import SMALL, Start

_SETTINGS = [argument for text in SMALL for argument in ("--set", text)]


def torchrun(folder: Path, *changes: str, num_processes: int = 2) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(num_processes), "-m", "esmgn_cli", "run"]
    return [*command, *_SETTINGS, *(a for text in changes for a in ("--set", text)), "--out", str(folder)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def run_together(folder: Path, *changes: str) -> RunFolder:
    """A run of two processes, to its end."""
    done = subprocess.run(
        torchrun(folder, *changes),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return RunFolder(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pretext", "seq_lr_scale", "split"),
    [
        ("residue_type", 0.1, ("train.proteins_per_batch=2",)),
        ("distance", 0, ("train.proteins_per_batch=2",)),
        ("residue_type+distance", 0, ("train.proteins_per_batch=2",)),
        ("siamdiff", 0.1, ("train.proteins_per_batch=2",)),
    ],
)
def test_two_processes_give_the_losses_of_one(
    start: Start, tmp_path: Path, pretext: str, seq_lr_scale: float, split: tuple[str, ...]
) -> None:
    """Losses on the same global batches; training losses to 1e-5."""
    changes = (f"pretext.name={pretext}", f"optim.seq_lr_scale={seq_lr_scale}")
    alone = start(*changes, out="alone").run
    together = run_together(tmp_path / "together", *changes, *split)
    assert len(together.read_metrics()) == len(alone.read_metrics()) == 6
    for one, two in zip(alone.read_metrics(), together.read_metrics(), strict=True):
        assert two.keys() - one.keys() == {"slowest_rank", "idle_percent"}
        assert one.keys() <= two.keys()
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        # Biases before a batch norm have a gradient of rounding noise, which Adam scales up: they
        # cannot touch the training loss, but shift the running means a little.
        assert two.get("valid_loss", 0.0) == pytest.approx(one.get("valid_loss", 0.0), rel=1e-2)


@pytest.mark.slow
def test_contrast_that_gathers_negatives_does_not_depend_on_the_number_of_processes(
    start: Start, tmp_path: Path
) -> None:
    changes = ("pretext.name=multiview_contrast", "data.valid_fraction=0", "pretext.gather=true")
    alone = start(*changes, out="alone").run.read_metrics()
    together = run_together(tmp_path / "together", *changes, "train.proteins_per_batch=2").read_metrics()
    assert [line["loss"] for line in together] == pytest.approx([line["loss"] for line in alone], rel=1e-4)
    assert len(alone) == 8


@pytest.mark.slow
def test_a_signal_to_all_processes_saves_and_the_run_can_go_on_in_one(tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    changes = ("train.proteins_per_batch=2", "train.epochs=40", "train.checkpoint_every=1000")
    process = subprocess.Popen(
        torchrun(folder, *changes),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = RunFolder(folder)
    deadline = time.monotonic() + 120
    while len(metrics.read_metrics()) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Traceback" not in errors.split("torch/distributed")[0], errors[-3000:]
    saved = len(metrics.read_metrics())
    assert (folder / "last" / "state.pt").exists(), errors[-3000:]
    from esmgn_core.engine.session import resume_run
    from esmgn_core.registry import discover

    resumed = resume_run(
        discover(), folder, changes={"train": {"max_steps": saved + 2, "proteins_per_batch": 4}}
    )
    assert resumed.progress.step == saved + 2
    assert [line["step"] for line in resumed.run.read_metrics()] == list(range(1, saved + 3))
