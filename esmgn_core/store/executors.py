"""Run the parts of a build by local processes, or by Ray on many machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from esmgn_core.errors import check_choice
from esmgn_core.machine.ray import joined_cluster, require_ray
from esmgn_core.store.build import Executor
from esmgn_core.store.parts import PartTask, build_part
from esmgn_core.store.workers import Progress, cannot_write

EXECUTORS = ("processes", "ray")


def named_executor(name: str, num_workers: int) -> Executor | None:
    """Return the executor with this name; ``None`` for processes of this machine.

    ``ray`` runs each part as a task of Ray. All machines of the cluster need access to the sources and the
    store. It joins the cluster in ``RAY_ADDRESS``, or starts one with ``num_workers`` processors. Ray repeats
    a part whose process dies.

    Raises:
        SettingsError: an unknown name.
        DataError: the package ray is not installed.
    """
    check_choice("executor", name, EXECUTORS, "--executor")
    if name == "processes":
        return None
    return partial(_run_on_ray, require_ray(), num_workers)


def _run_on_ray(
    ray: Any, num_workers: int, tasks: Sequence[PartTask], report: Callable[[Progress], None]
) -> None:
    """Build all parts.

    Raises:
        DataError: a part cannot be written.
    """
    with joined_cluster(ray, num_workers):
        remote = ray.remote(num_cpus=1, max_retries=3)(build_part)
        running = {remote.remote(task): task for task in tasks}
        waiting, items = list(running), 0
        while waiting:
            done, waiting = ray.wait(waiting)
            for reference in done:
                try:
                    ray.get(reference)
                except OSError as error:
                    raise cannot_write(running[reference].folder, error) from error
                items += running[reference].part.size
                report(Progress(items, 0))
