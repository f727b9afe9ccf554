"""Start the runs of a study: on this machine, by Ray, or as an array of SLURM jobs."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from esmgn_core.machine.files import write_atomically
from esmgn_core.machine.ray import joined_cluster, require_ray
from esmgn_core.study.folder import StudyFolder
from esmgn_core.study.plan import Cell

EXECUTORS = ("processes", "ray", "slurm")


class Process(Protocol):
    """A run that was started."""

    def poll(self) -> int | None:
        """Exit status; ``None`` while it runs."""

    def terminate(self) -> None:
        """Ask the run to save and stop."""

    def wait(self) -> int:
        """Wait for its end; returns the exit status."""


Launcher = Callable[[Sequence[str], Path, Mapping[str, str]], Process]
"""Start a command line with a log file and changes of the environment."""


def local_process(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
    """Start a process of this machine, in another session: Ctrl-C on the terminal does not reach it."""
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )


def _run_and_wait(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
    """Run a process on a machine of the cluster; cancelling the task stops it."""
    process = local_process(arguments, log, environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        return process.wait()


class _RayProcess:
    """A run in a task of Ray."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference

    def poll(self) -> int | None:
        done, _ = self._ray.wait([self._reference], timeout=0)
        return self.wait() if done else None

    def terminate(self) -> None:
        self._ray.cancel(self._reference)

    def wait(self) -> int:
        try:
            return int(self._ray.get(self._reference))
        except (self._ray.exceptions.TaskCancelledError, self._ray.exceptions.WorkerCrashedError):
            return -15


@contextmanager
def ray_launcher(jobs: int, gpus: int) -> Iterator[Launcher]:
    """Start runs as tasks of Ray inside the block.

    All machines need the folder of the study, the data, and esmgn at the same paths.

    Args:
        jobs: processors of a cluster that is started here.
        gpus: GPUs of a run.

    Raises:
        DataError: the package ray is not installed.
    """
    ray = require_ray()
    with joined_cluster(ray, jobs):
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_run_and_wait)

        def launch(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
            return _RayProcess(ray, remote.remote(list(arguments), log.absolute(), dict(environment)))

        yield launch


def write_slurm_jobs(
    cells: Sequence[Cell], folder: StudyFolder, command: Sequence[str], *, jobs: int, gpus: int
) -> Path:
    """Write a script that submits the cells as job arrays, one array for each stage after the other.

    Args:
        cells: the cells to run.
        folder: the folder of the study.
        command: the command line that runs a cell, without its id at the end.
        jobs: tasks of an array at a time.
        gpus: GPUs of a run.

    Returns:
        The script.
    """
    place = folder.path.absolute() / "slurm"
    with suppress(FileExistsError):
        place.mkdir(parents=True)
    lines = [
        "#!/bin/bash",
        "# Submit the cells of a study; each array waits for the one before it.",
        "set -e",
        "last=",
    ]
    for number, names in enumerate(_levels(cells), 1):
        ids, job = place / f"cells-{number}.txt", place / f"array-{number}.sbatch"
        write_atomically(ids, "".join(f"{name}\n" for name in names))
        write_atomically(job, _array(ids, len(names), shlex.join(command), jobs=jobs, gpus=gpus))
        lines.append(
            f"last=$(sbatch --parsable ${{last:+--dependency=afterany:$last}} {shlex.quote(str(job))})"
        )
        lines.append(f'echo "{len(names)} cells: job $last"')
    script = place / "submit.sh"
    write_atomically(script, "\n".join([*lines, ""]))
    return script


def _levels(cells: Sequence[Cell]) -> list[list[str]]:
    """Ids of the cells by the number of cells before them."""
    levels: dict[int, list[str]] = {}
    for cell in cells:
        depth, parent = 0, cell.parent
        while parent:
            depth, parent = depth + 1, parent.parent
        levels.setdefault(depth, []).append(cell.id)
    return [levels[depth] for depth in sorted(levels)]


def _array(ids: Path, number: int, command: str, *, jobs: int, gpus: int) -> str:
    return f"""\
#!/bin/bash
#SBATCH --job-name=esmgn-study
#SBATCH --array=1-{number}%{jobs}
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus={gpus}
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180        # three minutes before the end: save and stop
#SBATCH --requeue
#SBATCH --output={shlex.quote(str(ids.parent))}/%x-%A_%a.txt

cd {shlex.quote(str(Path.cwd()))} || exit 1
cell=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {shlex.quote(str(ids))})
{command} "$cell" &
trap "kill -TERM $!" USR1 TERM
wait $!
status=$?
# A trapped signal ends the first wait; the second one gives the status of the run.
wait $! 2>/dev/null && status=0 || {{ second=$?; [ "$second" -ne 127 ] && status=$second; }}
if [ "$status" -eq 75 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$status"
"""
