"""Where the parts of a build are made: processes here, or Ray for many machines."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from esmgn_core.errors import DataError, check_choice
from esmgn_core.store.build import Executor
from esmgn_core.store.parts import PartTask, build_part
from esmgn_core.store.workers import Progress, cannot_write

EXECUTORS = ("processes", "ray")


def named_executor(name: str, num_workers: int) -> Executor | None:
    """What makes the parts; ``None`` stands for processes of this machine.

    Raises:
        SettingsError: an unknown name.
        DataError: the package ray is not installed.
    """
    check_choice("executor", name, EXECUTORS, "--executor")
    return RayExecutor(num_workers) if name == "ray" else None


class RayExecutor:
    """Makes each part as a task of Ray, on any machine of the cluster that sees the sources and the store.

    Joins the cluster that ``RAY_ADDRESS`` names, else starts one here. A part whose process dies is made
    anew, by Ray, elsewhere.

    Args:
        num_workers: processors of a cluster started here.

    Raises:
        DataError: the package ray is not installed.
    """

    def __init__(self, num_workers: int) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise DataError("--executor ray needs the package ray", "pip install 'esmgn[ray]'") from error
        self._num_workers = num_workers

    def __call__(self, tasks: Sequence[PartTask], report: Callable[[Progress], None]) -> None:
        """Make all parts.

        Raises:
            DataError: a part cannot be written.
        """
        ray = self._ray
        started_here = not ray.is_initialized()
        if started_here:
            address = os.environ.get("RAY_ADDRESS")
            ray.init(
                address=address, **({} if address else {"num_cpus": self._num_workers}), log_to_driver=False
            )
        try:
            remote = ray.remote(num_cpus=1, max_retries=3)(_make)
            sizes = {remote.remote(task): task for task in tasks}
            waiting, items = list(sizes), 0
            while waiting:
                done, waiting = ray.wait(waiting)
                for reference in done:
                    try:
                        ray.get(reference)
                    except OSError as error:
                        raise cannot_write(sizes[reference].folder, error) from error
                    items += sizes[reference].part.size
                    report(Progress(items, 0))
        finally:
            if started_here:
                ray.shutdown()


def _make(task: PartTask) -> None:
    build_part(task)
