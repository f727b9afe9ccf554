"""Kill a run at random moments, resume it each time, and compare it with one that was left alone.

    python benchmarks/kill_and_resume.py --kills 10 --processes 1

Of several processes every second kill takes one alone, any of them: the others have to end by themselves
within a minute. The final weights must be the same to the last bit; a run that changes the number of
processes on the way (``--then 1``) agrees to 1e-5. Gradients are accumulated over two passes, but for a run
that changes its processes: passes hold other proteins then, and batch statistics with them. Exit status 1
if they do not agree.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import load_file

from esmgn_core.engine.run_folder import RunFolder

GLOBAL_BATCH = 8
SECONDS = 60
"""What is left of a run has to end in this time."""
STEPS_PER_KILL = 10
"""A kill comes after at most 8 steps, and those since the last checkpoint are taken again."""
SETTINGS = (
    "seq.name=esm2_tiny",
    "pretext.name=residue_type",
    "struct.hidden_dim=16",
    "struct.num_layers=2",
    "data.num_proteins=40",
    "data.max_length=40",
    "train.epochs=1000",
    "train.checkpoint_every=3",
    "train.trackers=[]",
    "optim.ema_decay=0.9",
    "optim.eps=0.001",
)


@dataclass(frozen=True)
class Shape:
    """How many processes a run has, and how many passes and steps."""

    processes: int
    accumulate: int
    steps: int


def command(folder: Path, shape: Shape) -> list[str]:
    """Start a run, or go on with it."""
    size = GLOBAL_BATCH // (shape.accumulate * shape.processes)
    split = (f"train.accumulate={shape.accumulate}", f"train.proteins_per_batch={size}")
    program = [sys.executable, "-m", "esmgn_cli", "run"]
    if shape.processes > 1:
        program += ["--processes", str(shape.processes)]
    begun = (folder / "last").is_dir() or (folder / "previous").is_dir()
    program += ["--resume", str(folder)] if begun else ["--out", str(folder)]
    changes = split if begun else (*SETTINGS, f"train.max_steps={shape.steps}", *split)
    return [*program, *(argument for text in changes for argument in ("--set", text))]


def start(folder: Path, shape: Shape) -> subprocess.Popen[bytes]:
    """A session of its own, so that all of it can be killed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(  # noqa: S603
        command(folder, shape),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def descendants(pid: int) -> list[int]:
    """A process and everything it started."""
    listing = ["ps", "-o", "pid=", "--ppid", str(pid)]
    found = subprocess.run(listing, capture_output=True, text=True, check=False)  # noqa: S603
    return [pid, *(child for line in found.stdout.split() for child in descendants(int(line)))]


def kill_once(folder: Path, shape: Shape, rng: random.Random, *, alone: bool) -> str:
    """Start the run and kill all of it, or one of its processes, at a random moment; the rest has to end."""
    launcher = start(folder, shape)
    before, wanted = len(RunFolder(folder).read_metrics()), rng.randint(1, 8)
    while launcher.poll() is None and len(RunFolder(folder).read_metrics()) < before + wanted:
        time.sleep(0.05)
    time.sleep(rng.random() * 0.3)
    if launcher.poll() is not None:
        raise SystemExit(f"the run ended before it was killed: see {folder / 'log.txt'}")
    everything = descendants(launcher.pid)
    ranks = everything[-shape.processes :]  # behind the launcher and torchrun, if they are there
    victims = [rng.choice(ranks)] if alone else everything
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    status = launcher.wait(SECONDS)
    while left := [pid for pid in everything if is_running(pid)]:
        if time.monotonic() > killed_at + SECONDS:
            raise SystemExit(f"processes {left} go on after process {victims[0]} was killed")
        time.sleep(0.05)
    if status == 0:
        raise SystemExit("a run that lost a process says that all is well")
    seconds = time.monotonic() - killed_at
    what = f"process {ranks.index(victims[0])} alone" if alone else f"all {len(ranks)}"
    return f"killed {what}, over after {seconds:.1f} s"


def is_running(pid: int) -> bool:
    """Whether a process is there and no mere entry that nobody has asked for."""
    listing = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)  # noqa: S603, S607
    return bool(listing.stdout.strip()) and not listing.stdout.startswith(b"Z")


def finish(folder: Path, shape: Shape) -> None:
    """Let the run go to its end."""
    if start(folder, shape).wait():
        raise SystemExit(f"the run in {folder} failed: see {folder / 'log.txt'}")


def largest_difference(first: Path, second: Path) -> float:
    """Over all tensors, relative to the largest value of each."""
    one, other = (load_file(path / "last" / "model.safetensors") for path in (first, second))
    largest = 0.0
    for name in one:
        tensor = one[name].double()
        difference = (tensor - other[name].double()).abs().max() / tensor.abs().max().clamp(min=1e-12)
        largest = max(largest, float(difference))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--then", type=int, help="processes of the run's last part; as before if not given")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)  # noqa: S311
    then = arguments.then or arguments.processes
    accumulate = 2 if then == arguments.processes else 1
    shape = Shape(arguments.processes, accumulate, STEPS_PER_KILL * arguments.kills)
    with tempfile.TemporaryDirectory() as parent:
        whole, killed = Path(parent) / "whole", Path(parent) / "killed"
        finish(whole, shape)
        for number in range(arguments.kills):
            alone = shape.processes > 1 and number % 2 == 0
            what = kill_once(killed, shape, rng, alone=alone)
            steps = len(RunFolder(killed).read_metrics())
            print(f"{number + 1}: {what} after step {steps}", flush=True)
        finish(killed, replace(shape, processes=then))
        difference = largest_difference(whole, killed)
    allowed = 0.0 if then == arguments.processes else 1e-5
    print(f"largest relative difference of the final weights: {difference:.2e}, allowed {allowed:.0e}")
    sys.exit(difference > allowed)


if __name__ == "__main__":
    main()
