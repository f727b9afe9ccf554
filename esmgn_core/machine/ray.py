"""The machines of a Ray cluster."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from esmgn_core.errors import DataError


def require_ray() -> Any:
    """The module ray.

    Raises:
        DataError: the package is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise DataError("--executor ray needs the package ray", "pip install 'esmgn[ray]'") from error


@contextmanager
def joined_cluster(ray: Any, num_cpus: int) -> Iterator[None]:
    """Join the cluster in ``RAY_ADDRESS``, or start one on this machine; leave it after the block.

    Args:
        ray: the module, from :func:`require_ray`.
        num_cpus: processors of a cluster that is started here.
    """
    started_here = not ray.is_initialized()
    if started_here:
        address = os.environ.get("RAY_ADDRESS")
        ray.init(address=address, num_cpus=None if address else num_cpus, log_to_driver=False)
    try:
        yield
    finally:
        if started_here:
            ray.shutdown()
