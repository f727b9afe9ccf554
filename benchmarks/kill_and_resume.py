"""Kill a run at random moments, resume it each time, and compare it with one that was left alone.

    python benchmarks/kill_and_resume.py --kills 10 --processes 1
    python benchmarks/kill_and_resume.py --kills 3 --mode all

Modes: the cache of features in each precision, LoRA, FSDP (2 processes), a signal during validation, a kill
while a checkpoint is written, and a data file that is deleted while the run goes on, which must not change
it, but has to be named by a resume.

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

from esmgn_core.io.write import pdb_text
from esmgn_core.run_folder import RunFolder
from esmgn_datasets.sample import Sample

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
CACHED = ("pretext.name=distance", "pretext.crop_length=0", "optim.seq_lr_scale=0")
MODES: dict[str, tuple[str, ...]] = {
    "plain": (),
    "cache-fp32": (*CACHED, "cache.features=fp32"),
    "cache-bf16": (*CACHED, "cache.features=bf16"),
    "cache-fp16": (*CACHED, "cache.features=fp16"),
    "lora": ("optim.lora_rank=2",),
    "fsdp": ("train.strategy=fsdp",),
    "validation": ("data.valid_fraction=0.6",),
    "checkpoint": ("train.checkpoint_every=1",),
    "deleted-file": (),
}
"""What a run is set to besides, by name; those after ``fsdp`` differ in the moment of the kill."""


@dataclass(frozen=True)
class Shape:
    """How many processes a run has, and how many passes and steps."""

    processes: int
    accumulate: int
    steps: int
    mode: str = "plain"


def command(folder: Path, shape: Shape) -> list[str]:
    """Start a run, or go on with it."""
    size = GLOBAL_BATCH // (shape.accumulate * shape.processes)
    split = (f"train.accumulate={shape.accumulate}", f"train.proteins_per_batch={size}")
    program = [sys.executable, "-m", "esmgn_cli", "run"]
    if shape.processes > 1:
        program += ["--processes", str(shape.processes)]
    begun = (folder / "last").is_dir() or (folder / "previous").is_dir()
    program += ["--resume", str(folder)] if begun else ["--out", str(folder)]
    mode = MODES[shape.mode]
    if shape.mode.startswith("cache"):
        mode += (f"cache.path={folder.with_name(f'{folder.name}-cache')}",)
    changes = split if begun else (*SETTINGS, f"train.max_steps={shape.steps}", *mode, *split)
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
    await_moment(launcher, folder, shape, rng)
    if launcher.poll() is not None:
        raise SystemExit(f"the run ended before it was killed: see {folder / 'log.txt'}")
    everything = descendants(launcher.pid)
    ranks = everything[-shape.processes :]  # behind the launcher and torchrun, if they are there
    victims = [rng.choice(ranks)] if alone else everything
    number = signal.SIGTERM if shape.mode == "validation" else signal.SIGKILL
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
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


def await_moment(launcher: subprocess.Popen[bytes], folder: Path, shape: Shape, rng: random.Random) -> None:
    """Wait for the moment of the kill that the mode is about; a random one by default."""
    if shape.mode == "checkpoint":
        while launcher.poll() is None and not (folder / ".last.new").exists():
            pass  # it is there for some milliseconds
    elif shape.mode == "validation":
        steps = steps_per_epoch(folder)
        while launcher.poll() is None and (len(RunFolder(folder).read_metrics()) + 1) % steps:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.05)  # the step, and the validation that is logged with it
    else:
        time.sleep(rng.random() * 0.3)


def steps_per_epoch(folder: Path) -> int:
    """Steps of the first epoch of a run."""
    while True:
        epochs = [line["epoch"] for line in RunFolder(folder).read_metrics()]
        if 2 in epochs:
            return epochs.count(1)
        time.sleep(0.01)


def deleted_file(parent: Path, shape: Shape) -> float:
    """Delete a structure while a run goes on; the difference of its weights from those of one left alone."""
    structures = parent / "structures"
    structures.mkdir()
    proteins = Sample(Sample.Settings(num_proteins=24, max_length=40))
    for number in range(24):
        (structures / f"p{number:02}.pdb").write_text(pdb_text(proteins[number]))
    common = ("data.name=folder", f"data.path={structures}", "data.valid_fraction=0")
    settings = [text for text in SETTINGS if not text.startswith("data.")]
    runs = []
    for name in ("whole", "deleted"):
        runs.append(parent / name)
        program = [sys.executable, "-m", "esmgn_cli", "run", "--out", str(runs[-1])]
        changes = (*settings, *common, f"train.max_steps={shape.steps}")
        program += [argument for text in changes for argument in ("--set", text)]
        run = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        if name == "deleted":
            while not RunFolder(runs[-1]).read_metrics() and run.poll() is None:
                time.sleep(0.01)
            (structures / "p00.pdb").unlink()
        if run.wait():
            raise SystemExit(f"the run in {runs[-1]} failed: see {runs[-1] / 'log.txt'}")
    difference = largest_difference(*runs)
    longer = ["run", "--resume", str(runs[1]), "--set", f"train.max_steps={shape.steps + 1}"]
    subprocess.run([sys.executable, "-m", "esmgn_cli", *longer], check=True, capture_output=True)  # noqa: S603
    log = RunFolder(runs[1]).log_file.read_text(encoding="utf-8")
    [told] = [line.partition("  ")[2] for line in log.splitlines() if "the data changed" in line]
    print(f"resumed: {told}", flush=True)
    return difference


def is_running(pid: int) -> bool:
    """Whether a process is there and no mere entry that nobody has asked for."""
    listing = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)  # noqa: S603, S607
    return bool(listing.stdout.strip()) and not listing.stdout.startswith(b"Z")


def finish(folder: Path, shape: Shape) -> None:
    """Let the run go to its end."""
    if start(folder, shape).wait():
        raise SystemExit(f"the run in {folder} failed: see {folder / 'log.txt'}")


def largest_difference(first: Path, second: Path) -> float:
    """Over the losses of all steps and all tensors, relative to the largest value of each tensor.

    The tensors are the last ones; of a sharded run, whose last ones are spread over files, the best.
    """
    whole = (first / "last" / "model.safetensors").exists()
    one, other = (
        load_file((path / "last" if whole else path) / "model.safetensors") for path in (first, second)
    )
    curves = [[line["loss"] for line in RunFolder(path).read_metrics()] for path in (first, second)]
    largest = max(abs(a - b) / abs(a) for a, b in zip(*curves, strict=True))
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
    parser.add_argument("--mode", choices=[*MODES, "all"], default="plain")
    arguments = parser.parse_args()
    names = list(MODES) if arguments.mode == "all" else [arguments.mode]
    sys.exit(max([compare(arguments, name) for name in names]))


def compare(arguments: argparse.Namespace, mode: str) -> bool:
    """Run one mode; True if the weights differ by more than is allowed."""
    processes = 2 if mode == "fsdp" else arguments.processes
    rng = random.Random(arguments.seed)  # noqa: S311
    then = arguments.then or processes
    accumulate = 2 if then == processes else 1
    shape = Shape(processes, accumulate, (STEPS_PER_KILL + 5) * arguments.kills, mode)
    print(f"mode {mode}", flush=True)
    with tempfile.TemporaryDirectory() as parent:
        if mode == "deleted-file":
            difference = deleted_file(Path(parent), shape)
        else:
            difference = killed_and_resumed(
                Path(parent), shape, replace(shape, processes=then), rng, arguments.kills
            )
    allowed = 0.0 if then == processes else 1e-5
    print(
        f"largest relative difference of the final weights: {difference:.2e}, allowed {allowed:.0e}",
        flush=True,
    )
    return difference > allowed


def killed_and_resumed(parent: Path, shape: Shape, last: Shape, rng: random.Random, kills: int) -> float:
    """The difference of a run that was killed again and again from one that was left alone."""
    whole, killed = parent / "whole", parent / "killed"
    finish(whole, shape)
    for number in range(kills):
        alone = shape.processes > 1 and number % 2 == 0
        what = kill_once(killed, shape, rng, alone=alone)
        steps = len(RunFolder(killed).read_metrics())
        print(f"{number + 1}: {what} after step {steps}", flush=True)
    finish(killed, last)
    return largest_difference(whole, killed)


if __name__ == "__main__":
    main()
