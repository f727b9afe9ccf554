"""What a process uses of its machine while it trains."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from contextlib import suppress

import torch

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of ``ru_maxrss``."""


def usage(device: torch.device) -> dict[str, float]:
    """Most memory in use so far, in GB, and on a GPU how busy it is, where that can be told.

    Returns:
        ``memory_gb``: of the GPU what torch allocated, on the CPU what the process had resident.
        ``gpu_percent``: share of the last second in which the GPU computed; needs the package
        ``nvidia-ml-py``.
    """
    if device.type != "cuda":
        return {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / 1e9}
    found = {"memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    with suppress(ModuleNotFoundError, RuntimeError):
        found["gpu_percent"] = float(torch.cuda.utilization(device))
    return found


def balance(busy: Sequence[float]) -> dict[str, float]:
    """Which process the others wait for; nothing for one process.

    Args:
        busy: seconds of a step that each process needed for itself.

    Returns:
        ``slowest_rank``, and ``idle_percent``: how long a process waits for it, in the mean over all.
    """
    longest = max(busy)
    if len(busy) == 1 or not longest:
        return {}
    return {
        "slowest_rank": float(busy.index(longest)),
        "idle_percent": 100 * (1 - sum(busy) / (len(busy) * longest)),
    }
