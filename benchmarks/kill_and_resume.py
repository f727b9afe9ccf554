"""Kill a run at random moments, resume it each time, and compare it with one that was left alone.

    python benchmarks/kill_and_resume.py --kills 10 --processes 1

With one process the final weights must be the same to the last bit; a run that changes the number of
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
from pathlib import Path

from safetensors.torch import load_file

from esmgn_core.engine.run_folder import RunFolder

GLOBAL_BATCH = 8
SETTINGS = (
    "seq.name=esm2_tiny",
    "struct.hidden_dim=16",
    "struct.num_layers=2",
    "data.num_proteins=40",
    "data.max_length=40",
    "train.max_steps=40",
    "train.checkpoint_every=3",
    "train.trackers=[]",
    "optim.ema_decay=0.9",
    "optim.eps=0.001",
)


def command(folder: Path, processes: int, accumulate: int) -> list[str]:
    """Start a run, or go on with it."""
    size = GLOBAL_BATCH // (accumulate * processes)
    split = (f"train.accumulate={accumulate}", f"train.proteins_per_batch={size}")
    program = [sys.executable, "-m", "esmgn_cli", "run"]
    if processes > 1:
        program += ["--processes", str(processes)]
    begun = (folder / "last").is_dir() or (folder / "previous").is_dir()
    program += ["--resume", str(folder)] if begun else ["--out", str(folder)]
    changes = split if begun else (*SETTINGS, *split)
    return [*program, *(argument for text in changes for argument in ("--set", text))]


def start(folder: Path, processes: int, accumulate: int) -> subprocess.Popen[bytes]:
    """A session of its own, so that all of it can be killed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(  # noqa: S603
        command(folder, processes, accumulate),
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


def kill_once(folder: Path, processes: int, accumulate: int, rng: random.Random) -> str:
    """Start the run, kill all of it or one of its processes at a random moment, and wait for the rest."""
    process = start(folder, processes, accumulate)
    before, wanted = len(RunFolder(folder).read_metrics()), rng.randint(1, 8)
    while process.poll() is None and len(RunFolder(folder).read_metrics()) < before + wanted:
        time.sleep(0.05)
    time.sleep(rng.random() * 0.3)
    if process.poll() is not None:
        return "it was over already"
    everything = descendants(process.pid)
    victims = everything if processes == 1 or rng.random() < 0.5 else everything[-1:]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    return f"killed {len(victims)} of {len(everything)} processes"


def finish(folder: Path, processes: int, accumulate: int) -> None:
    """Let the run go to its end."""
    if start(folder, processes, accumulate).wait():
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
    with tempfile.TemporaryDirectory() as parent:
        whole, killed = Path(parent) / "whole", Path(parent) / "killed"
        finish(whole, arguments.processes, accumulate)
        for number in range(arguments.kills):
            what = kill_once(killed, arguments.processes, accumulate, rng)
            steps = len(RunFolder(killed).read_metrics())
            print(f"{number + 1}: {what} after step {steps}", flush=True)
        finish(killed, then, accumulate)
        difference = largest_difference(whole, killed)
    allowed = 0.0 if then == arguments.processes == 1 else 1e-5
    print(f"largest relative difference of the final weights: {difference:.2e}, allowed {allowed:.0e}")
    sys.exit(difference > allowed)


if __name__ == "__main__":
    main()
