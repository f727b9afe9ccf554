"""Stores: proteins in flat, memory-mapped columns with an index, built from any source of structures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from esmgn_core.store.build import BuildOptions, BuildReport, build
from esmgn_core.store.settings import Layout, is_store

if TYPE_CHECKING:
    from esmgn_core.store.reader import Store

__all__ = ["BuildOptions", "BuildReport", "Layout", "Store", "build", "is_store"]


def __getattr__(name: str) -> Any:
    # Proteins are tensors, but the processes that build stores start without torch.
    if name == "Store":
        from esmgn_core.store.reader import Store

        return Store
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
