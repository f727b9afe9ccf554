"""Merge several finished stores into one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from esmgn_core.errors import DataError
from esmgn_core.machine.files import locked
from esmgn_core.store.build import SHARDS
from esmgn_core.store.contents import record_contents
from esmgn_core.store.index import INDEX_SUFFIX
from esmgn_core.store.pack import shard_files
from esmgn_core.store.reader import Store
from esmgn_core.store.settings import write_manifest
from esmgn_core.store.workers import cannot_write


def merge_stores(paths: Sequence[Path], out: Path) -> None:
    """Merge stores of one layout into a new store by copying their shards.

    Raises:
        DataError: the stores differ in layout, share names, or are not finished; or ``out`` exists or
            cannot be written.
        RunError: another process writes ``out``.
    """
    stores = [Store(path) for path in paths]
    if unfinished := [store for store in stores if not store.is_finished]:
        raise DataError(f"{unfinished[0].path} is not finished", f"esmgn data build -o {unfinished[0].path}")
    if len({store.layout for store in stores}) > 1:
        raise DataError(
            "the stores differ in atoms, coordinates or further columns", "see: esmgn data info STORE"
        )
    seen: dict[str, Path] = {}
    for store in stores:
        for name in store.names:
            if name in seen:
                hint = "build one store from the sources of both, which makes names unique"
                raise DataError(f"'{name}' is in both {seen[name]} and {store.path}", hint)
            seen[name] = store.path
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    busy = f"another process writes {out}"
    with locked(
        out.with_name(f".{out.name}.lock"), busy, "wait for its end, or choose another place: -o STORE"
    ):
        _merge(stores, out)


def _merge(stores: Sequence[Store], out: Path) -> None:
    if out.exists():
        raise DataError(f"{out} exists", "choose another place: -o STORE")
    partial = out.with_name(f"{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / SHARDS).mkdir(parents=True)
        number = count()
        for store in stores:
            for shard in shard_files(store.path / SHARDS):
                target = partial / SHARDS / f"{next(number):05d}{shard.suffix}"
                shutil.copyfile(shard, target)
                shutil.copyfile(shard.with_suffix(INDEX_SUFFIX), target.with_suffix(INDEX_SUFFIX))
        write_manifest(partial, stores[0].layout, record_contents(partial / SHARDS))
        partial.rename(out)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
