"""Start a run as several processes, or as a SLURM job."""

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
_LAUNCH_FLAGS = ("--gpus", "--processes")


def check_counts(gpus: int | None, processes: int | None) -> None:
    """Refuse numbers of processes that cannot be started.

    Raises:
        SettingsError: both are given, or this process was started by torchrun or srun.
        RunError: this machine has fewer GPUs.
    """
    if gpus and processes:
        raise SettingsError(
            "--gpus and --processes cannot be combined", "use --processes on machines without GPUs"
        )
    if "WORLD_SIZE" in os.environ and (gpus or processes):
        raise SettingsError(
            "--gpus and --processes cannot be used under torchrun or srun, which start the processes",
            "leave the flag out",
        )
    if gpus:
        import torch

        available = torch.cuda.device_count()
        if gpus > available:
            hint = f"use --gpus {available}" if available else "on the CPU: --processes N"
            raise RunError(f"--gpus {gpus}: this machine has {available} CUDA devices", hint)


def run_processes(number: int, *, on_cpu: bool) -> int:
    """Run this command as ``number`` processes under torchrun; return its exit status.

    Signals are forwarded to the main process of the run, which stops all processes after the current step.
    torchrun itself would kill them after 30 seconds. A run that ran out of memory is resumed with smaller
    passes.
    """
    arguments = without_launch_flags(sys.argv[1:])
    if on_cpu and "--resume" not in arguments:
        arguments += ["--set", "train.device=cpu"]
    while True:
        with tempfile.TemporaryDirectory(prefix="esmgn-") as folder:
            path = Path(folder) / "report.json"
            status = _torchrun(number, arguments, path)
            report = read_record(path)
        run = report.get("run")
        if not (status and run and _ran_out_of_memory(Path(run), report)):
            if status and run and "status" not in report and (Path(run) / "last").is_dir():
                hint = f"resume from its last checkpoint: esmgn run --resume {shlex.quote(run)}"
                echo("the main process of the run was killed", f"  {hint}", err=True)
            return int(report.get("status") or status)
        echo(f"out of memory: resuming {run} from its last checkpoint with smaller passes", err=True)
        arguments = ["run", "--resume", run]


def _torchrun(number: int, arguments: Sequence[str], report: Path) -> int:
    command = [sys.executable, "-m", "esmgn_cli.torchrun", "--standalone"]
    command += ["--nproc-per-node", str(number), "-m", "esmgn_cli", *arguments]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, _REPORT: str(report)}
    # In a new session, so that Ctrl-C on the terminal reaches this process only.
    process = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603

    def forward(received: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
        try:
            os.kill(read_record(report)["pid"], received)
        except (KeyError, ProcessLookupError):  # not started yet, or ended
            process.send_signal(signal.SIGTERM)

    previous: dict[int, Any] = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        return process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def without_launch_flags(arguments: Sequence[str]) -> list[str]:
    """Arguments without ``--gpus N`` and ``--processes N``.

    >>> without_launch_flags(["run", "--gpus", "4", "--seq", "esm2_8m", "--processes=2"])
    ['run', '--seq', 'esm2_8m']
    """
    kept, skip = [], False
    for argument in arguments:
        if skip or argument.startswith(tuple(f"{flag}=" for flag in _LAUNCH_FLAGS)):
            skip = False
        elif argument in _LAUNCH_FLAGS:
            skip = True
        else:
            kept.append(argument)
    return kept


def _ran_out_of_memory(run: Path, report: dict[str, Any]) -> bool:
    """True if the run recorded an out-of-memory error since it started, and can be resumed."""
    try:
        recorded = (run / "out_of_memory.json").stat().st_mtime_ns
    except OSError:
        return False
    return recorded > report.get("started", 0) and (run / "last").is_dir()


def run_reporting(program: Callable[[], None]) -> None:
    """Run the program; report its process id and exit status to the process that launched it."""
    report_to_launcher(pid=os.getpid())
    try:
        program()
    except SystemExit as ended:
        report_to_launcher(status=ended.code if isinstance(ended.code, int) else 1)
        raise


def report_to_launcher(**values: Any) -> None:
    """Add values to the report for the launching process; does nothing without one, or in other ranks."""
    report = os.environ.get(_REPORT)
    if report and os.environ.get("RANK") == "0":
        from esmgn_core.machine.files import write_atomically

        path = Path(report)
        write_atomically(path, json.dumps({**read_record(path), **values}))


def sbatch_file(arguments: Sequence[str], *, gpus: int, out: Path | None) -> str:
    """Job file for SLURM that starts the run, or resumes it after the job was requeued.

    Raises:
        SettingsError: no run folder is named.
    """
    if out is None:
        raise SettingsError("--slurm needs a run folder, to resume a requeued job", "name it: --out DIR")
    kept = [argument for argument in without_launch_flags(arguments) if argument != "--slurm"]
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
#SBATCH --nodes=1                 # for more nodes, change only this number
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

# srun forwards signals to every process. If one fails, all are killed: they would wait for it for minutes.
# A process that was stopped ends with status 0, so that the others can stop too.
srun --kill-on-bad-exit=1 bash -c '
    trap : USR1 TERM
    RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS "$@"
    status=$?
    if [ "$status" -eq 75 ]; then touch "$STOPPED"; exit 0; fi
    exit "$status"' \\
    bash {python} -m esmgn_cli "${{arguments[@]}}"
status=$?

# Requeue a run that was stopped and saved, or that ran out of memory and will use smaller passes.
if [ -e "$STOPPED" ] || [ "$before" != "$(stat --format=%Y "$short" 2>/dev/null)" ]; then
    rm -f "$STOPPED"
    scontrol requeue "$SLURM_JOB_ID"
    exit 75
fi
exit "$status"
"""
