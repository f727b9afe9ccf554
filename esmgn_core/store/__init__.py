"""Stores: proteins in memory-mapped columns with an index, built from any source of structures."""

from __future__ import annotations

from esmgn_core.store.build import BuildOptions, BuildReport, build
from esmgn_core.store.reader import Store
from esmgn_core.store.sequences import read_sequences, related_to
from esmgn_core.store.settings import Layout, is_store
from esmgn_core.store.splits import read_splits, sequence_hashes

__all__ = [
    "BuildOptions",
    "BuildReport",
    "Layout",
    "Store",
    "build",
    "is_store",
    "read_sequences",
    "read_splits",
    "related_to",
    "sequence_hashes",
]
