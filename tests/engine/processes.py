"""Runs of several real processes, without paying for their imports one by one."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch

from esmgn_core.engine.session import resume_run, start_run
from esmgn_core.host.registry import discover

from .conftest import small_config

SECONDS = 240


class Job(NamedTuple):
    """A run: its settings in ``--set`` style, its folder, whether it goes on in it, and what comes before."""

    changes: tuple[str, ...]
    out: Path
    resume: bool = False
    before: Callable[[], None] | None = None


def start_together(jobs: Sequence[Job], *, world_size: int) -> list[BaseProcess]:
    """Start jobs, one after the other, each with ``world_size`` processes that talk over gloo."""
    context = multiprocessing.get_context("forkserver")
    # The optimisers import dynamo with their first step.
    context.set_forkserver_preload([__name__, "torch._dynamo"])
    ports = [_free_port() for _ in jobs]
    processes: list[BaseProcess] = [
        context.Process(target=_work, args=(rank, world_size, jobs, ports), daemon=True)
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    return processes


def run_together(jobs: Sequence[Job], *, world_size: int) -> None:
    """Run jobs as :func:`start_together` to their ends."""
    processes = start_together(jobs, world_size=world_size)
    for process in processes:
        process.join(SECONDS)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * world_size


def _work(rank: int, world_size: int, jobs: Sequence[Job], ports: Sequence[int]) -> None:
    torch.set_num_threads(1)
    if world_size > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)}
    for job, port in zip(jobs, ports, strict=True):
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        run_alone(job)


def run_alone(job: Job) -> None:
    """Run a job in this process."""
    if job.before:
        job.before()
    if job.resume:
        from esmgn_core.host.configure import parse_assignments

        resume_run(discover(), job.out, changes=parse_assignments(job.changes))
    else:
        start_run(discover(), small_config(*job.changes), out=job.out)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
