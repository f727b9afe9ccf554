"""Starting a run as several processes, and as a job of a cluster."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from esmgn_cli.render import echo
from esmgn_core.errors import RunError, SettingsError
from esmgn_core.machine.parse import read_record

_REPORT = "ESMGN_LAUNCH_REPORT"
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_OWN_FLAGS = ("--gpus", "--processes")


def check_counts(gpus: int | None, processes: int | None) -> None:
    """Refuse numbers of processes that cannot be had.

    Raises:
        SettingsError: both are given, or this is a process of a run already.
        RunError: this machine does not have so many GPUs.
    """
    if gpus and processes:
        raise SettingsError(
            "--gpus and --processes exclude each other", "--processes is for machines without GPUs"
        )
    if "WORLD_SIZE" in os.environ and (gpus or processes):
        raise SettingsError(
            "--gpus and --processes start processes, but this one was started by torchrun or srun",
            "leave the flag out",
        )
    if gpus:
        import torch

        found = torch.cuda.device_count()
        if gpus > found:
            hint = "on the CPU: --processes N" if not found else f"use --gpus {found}"
            raise RunError(f"--gpus {gpus}: this machine has {found} CUDA devices", hint)


def run_processes(number: int, *, on_cpu: bool) -> int:
    """Run this command as ``number`` processes under torchrun; returns its exit status.

    Signals go to the main process of the run, which stops all of them after the running step: torchrun itself
    would give them 30 seconds. A run that fell short of memory goes on with smaller passes.
    """
    arguments = without_own_flags(sys.argv[1:])
    if on_cpu and "--resume" not in arguments:
        arguments += ["--set", "train.device=cpu"]
    while True:
        with tempfile.TemporaryDirectory(prefix="esmgn-") as folder:
            report = Path(folder) / "report.json"
            status = _torchrun(number, arguments, report)
            said = read_record(report)
        run = said.get("run")
        if not (status and run and _fell_short(Path(run), said)):
            if status and run and "status" not in said and (Path(run) / "last").is_dir():
                hint = f"go on from its last checkpoint: esmgn run --resume {shlex.quote(run)}"
                echo("the main process of the run was killed", f"  {hint}", err=True)
            return int(said.get("status") or status)
        echo(f"out of memory: going on from the last checkpoint of {run} with smaller passes", err=True)
        arguments = ["run", "--resume", run]


def _torchrun(number: int, arguments: Sequence[str], report: Path) -> int:
    command = [sys.executable, "-m", "esmgn_cli.torchrun", "--standalone"]
    command += ["--nproc-per-node", str(number), "-m", "esmgn_cli", *arguments]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, _REPORT: str(report)}
    # A session of its own: Ctrl-C on the terminal reaches this process alone.
    process = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603

    def forward(received: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
        try:
            os.kill(read_record(report)["pid"], received)
        except (KeyError, ProcessLookupError):  # not started yet, or over
            process.send_signal(signal.SIGTERM)

    previous: dict[int, Any] = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        return process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def without_own_flags(arguments: Sequence[str]) -> list[str]:
    """Arguments without ``--gpus N`` and ``--processes N``.

    >>> without_own_flags(["run", "--gpus", "4", "--seq", "esm2_8m", "--processes=2"])
    ['run', '--seq', 'esm2_8m']
    """
    kept, skip = [], False
    for argument in arguments:
        if skip or argument.startswith(tuple(f"{flag}=" for flag in _OWN_FLAGS)):
            skip = False
        elif argument in _OWN_FLAGS:
            skip = True
        else:
            kept.append(argument)
    return kept


def _fell_short(run: Path, said: dict[str, Any]) -> bool:
    """Whether the run recorded a shortage of memory since it started, and can be resumed."""
    try:
        recorded = (run / "out_of_memory.json").stat().st_mtime_ns
    except OSError:
        return False
    return recorded > said.get("started", 0) and (run / "last").is_dir()


def reporting(program: Callable[[], None]) -> None:
    """Run the program; report its process number and how it ended to the process that launched it."""
    report_to_launcher(pid=os.getpid())
    try:
        program()
    except SystemExit as ended:
        report_to_launcher(status=ended.code if isinstance(ended.code, int) else 1)
        raise


def report_to_launcher(**values: Any) -> None:
    """Add values to the report for the launching process, if there is one."""
    report = os.environ.get(_REPORT)
    if report and os.environ.get("RANK") == "0":
        from esmgn_core.machine.files import write_atomically

        path = Path(report)
        write_atomically(path, json.dumps({**read_record(path), **values}))


def sbatch_file(arguments: Sequence[str], *, gpus: int, out: Path | None) -> str:
    """A job file for SLURM that starts the run, or goes on with it after it was requeued.

    Raises:
        SettingsError: the run has no fixed folder.
    """
    if out is None:
        raise SettingsError(
            "a job that may be requeued needs a run folder of its own (--slurm)", "name it: --out DIR"
        )
    kept = [argument for argument in without_own_flags(arguments) if argument != "--slurm"]
    return _SBATCH.format(
        gpus=gpus,
        folder=shlex.quote(str(out.absolute())),
        directory=shlex.quote(str(Path.cwd())),
        python=shlex.quote(sys.executable),
        arguments=shlex.join(kept),
    )


_SBATCH = """\
#!/bin/bash
#SBATCH --job-name=esmgn
#SBATCH --nodes=1                 # more nodes: raise this number, nothing else
#SBATCH --ntasks-per-node={gpus}       # one process for each GPU
#SBATCH --gpus-per-node={gpus}
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@180         # three minutes before the end: save and stop
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.txt

cd {directory} || exit 1
folder={folder}
if [ -d "$folder/last" ] || [ -d "$folder/previous" ]; then
    arguments=(run --resume "$folder")
else
    arguments=({arguments})
fi

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) OMP_NUM_THREADS=1
export STOPPED="$folder.stopped-$SLURM_JOB_ID"

short="$folder/out_of_memory.json"
before=$(stat --format=%Y "$short" 2>/dev/null)

# srun passes signals on to every process. One that fails takes the others with it, which would wait for it
# for minutes; one that was stopped does not.
srun --kill-on-bad-exit=1 bash -c '
    trap : USR1 TERM
    RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS "$@"
    status=$?
    if [ "$status" -eq 75 ]; then touch "$STOPPED"; exit 0; fi
    exit "$status"' \\
    bash {python} -m esmgn_cli "${{arguments[@]}}"
status=$?

# Saved and ready to go on, or short of memory and ready to take half as much at a time.
if [ -e "$STOPPED" ] || [ "$before" != "$(stat --format=%Y "$short" 2>/dev/null)" ]; then
    rm -f "$STOPPED"
    scontrol requeue "$SLURM_JOB_ID"
    exit 75
fi
exit "$status"
"""
