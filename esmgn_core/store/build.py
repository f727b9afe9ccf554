"""Build a store: write a plan, build its parts in several processes, pack them into large shards."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from esmgn_core.errors import DataError
from esmgn_core.io.files import as_utf8
from esmgn_core.io.folders import passed_over_text
from esmgn_core.io.formats import FORMATS, Formats
from esmgn_core.store.chains import ChainList
from esmgn_core.store.contents import record_contents
from esmgn_core.store.filters import Filters
from esmgn_core.store.index import FROM_COPY, INDEX_SUFFIX, index_rows
from esmgn_core.store.pack import pack, packed_parts, shard_files
from esmgn_core.store.parts import PartTask
from esmgn_core.store.plan import MIN_PART, Plan, write_plan
from esmgn_core.store.settings import Layout, is_store, read_manifest, write_manifest
from esmgn_core.store.sources import Item, find_items
from esmgn_core.store.workers import Progress, cannot_write, prepare, run_parts
from esmgn_core.text import is_utf8

BUILDING, PARTS, PLAN, SHARDS = "building", "parts", "plan.arrow", "shards"

Executor = Callable[[Sequence[PartTask], Callable[[Progress], None]], None]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a store is built.

    Attributes:
        layout: columns of each protein; by default that of an existing store.
        filters: conditions on proteins.
        topology: structure file with the atoms of trajectories.
        chains: chains to read; ``None`` for all chains of all files.
        append: True to add to a finished store.
        formats: the formats to read.
        workers: number of processes.
        share: ``(i, n)`` to build only every n-th part, from the i-th on, counted from 1. A last call without
            ``share`` packs the parts.
    """

    layout: Layout | None = None
    filters: Filters = field(default_factory=Filters)
    topology: Path | None = None
    chains: ChainList | None = None
    append: bool = False
    formats: Formats = field(default_factory=lambda: FORMATS)
    workers: int = 1
    share: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class BuildReport:
    """The result of a build.

    Attributes:
        planned: number of items in the plan.
        missing: number of parts that other machines still have to build.
        passed_over: number of other files in folders and archives, by ending.
    """

    planned: int
    missing: int
    passed_over: Counter[str] = field(default_factory=Counter)


def build(
    sources: Sequence[str],
    store: Path,
    options: BuildOptions,
    *,
    progress: Callable[[int, Progress], None] = lambda *_: None,
    executor: Executor | None = None,
) -> BuildReport:
    """Build a store, or resume a build.

    The same call resumes a build that was interrupted. The store is then byte for byte the same as without
    the interruption.

    Args:
        sources: see :func:`esmgn_core.store.sources.find_items`; empty to resume.
        store: folder of the store.
        options: how to build it.
        progress: called a few times a second with the number of planned items and the progress.
        executor: builds the parts; processes of this machine by default.

    Raises:
        DataError: a source or the store cannot be read or written.
    """
    if not is_utf8(store.absolute()):
        raise DataError(f"the path of the store is not UTF-8: {store}", "choose another place: -o STORE")
    try:
        with _locked(store, options):
            plan = _planned(sources, store, options, parallel=executor is None and options.workers > 1)
            if plan is None:
                return BuildReport(0, 0)
            tasks = _tasks(plan, store, options)
            waiting = [task for task in tasks if not task.file.exists()]
            done = plan.num_items - sum(task.part.size for task in waiting)
            if options.share is not None:
                index, count = options.share
                waiting = [task for task in waiting if task.part.number % count == index - 1]

            def report(state: Progress) -> None:
                progress(plan.num_items, Progress(done + state.items, state.refused))

            run = executor or (lambda todo, call: run_parts(todo, options.workers, call))
            run(waiting, report)
            missing = sum(not task.file.exists() for task in tasks)
            if not missing and options.share is None:
                _finish(plan, tasks, store)
            return BuildReport(plan.num_items, missing, plan.passed_over)
    except OSError as error:
        raise cannot_write(store, error) from error


@contextmanager
def _locked(store: Path, options: BuildOptions) -> Iterator[None]:
    """Lock the store for the block: against all builds, or against the same share of a shared build."""
    building = store / BUILDING
    if store.exists() and not (is_store(store) or building.is_dir() or _is_empty(store)):
        raise DataError(f"{store} exists and is not a store", "choose another place: -o STORE")
    building.mkdir(parents=True, exist_ok=True)
    name = "lock" if options.share is None else "lock-{}-of-{}".format(*options.share)
    try:
        with FileLock(building / name, timeout=0):
            try:
                yield
            finally:
                if not any(building.glob("plan.*")):  # nothing to resume
                    shutil.rmtree(building, ignore_errors=True)
                if _is_empty(store):
                    store.rmdir()
    except Timeout as error:
        raise DataError(f"another process is building {store}", "wait for it, or stop it") from error


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _planned(sources: Sequence[str], store: Path, options: BuildOptions, *, parallel: bool) -> Plan | None:
    """Open the plan to resume, or write a new one; ``None`` if there is nothing to do."""
    if is_store(store):
        layout = read_manifest(store).layout
        if options.layout not in (None, layout):
            raise DataError(f"{store} has {_described(layout)}", "build another store for another layout")
    file = store / BUILDING / PLAN
    with FileLock(store / BUILDING / "lock-of-plan"):  # machines that share a build start at the same time
        if not file.exists() and not _write_plan(file, sources, store, options, parallel=parallel):
            return None
    if not is_store(store):
        write_manifest(store, options.layout or Layout())
    plan = Plan(file)
    hint = f"finish that first: esmgn data build -o {store}"
    if sources and tuple(map(_absolute, sources)) != plan.sources:
        raise DataError(f"{store} is being built from {', '.join(plan.sources)}", hint)
    if sources and options.filters != plan.filters:
        raise DataError(f"{store} is being built with {plan.filters.options()}", hint)
    return plan


def _write_plan(
    file: Path, sources: Sequence[str], store: Path, options: BuildOptions, *, parallel: bool
) -> bool:
    """Write a new plan; return False if the store has all items already."""
    finished = bool(shard_files(store / SHARDS))
    if not sources and finished:
        return False
    if not sources:
        raise DataError(
            f"nothing to resume in {store}", "name what to read: esmgn data build SOURCE... -o STORE"
        )
    if finished and not options.append:
        raise DataError(f"{store} is finished", "add to it: --append; or choose another place: -o STORE")
    contents = read_manifest(store).contents if is_store(store) else None
    # Items lost from a damaged store would be added as new ones.
    if contents and (problem := next(contents.differences(store / SHARDS, is_building=False), None)):
        raise DataError(f"{store} is damaged: {problem}", f"esmgn data verify {store}", FROM_COPY)
    known, names = _contents(store)
    passed_over = Counter[str]()
    items = find_items(
        sources,
        topology=options.topology,
        chains=options.chains,
        passed_over=passed_over,
        formats=options.formats,
    )
    new: Iterator[Item] = (
        item for item in items if (as_utf8(item.source), as_utf8(item.member), item.chain) not in known
    )
    if parallel:
        new = _preparing(new)
    absolute = [_absolute(source) for source in sources]
    count = write_plan(file, absolute, new, options.filters, taken=names, passed_over=passed_over)
    if not count:
        file.unlink()
        if not known:
            hint = "looked for PDB and mmCIF files and archives by their endings"
            others = [text] if (text := passed_over_text(passed_over)) else []
            raise DataError(f"no structures in {', '.join(sources)}", hint, *others)
    return bool(count)


def _preparing(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items; start the process server while the search goes on, once there are several parts."""
    for number, item in enumerate(items):
        if number == MIN_PART:
            prepare()
        yield item


def _absolute(source: str) -> str:
    return str(Path(source).expanduser().absolute())


def _described(layout: Layout) -> str:
    kept = f"atoms '{layout.atoms}' and coordinates '{layout.coordinates}'"
    return ", ".join((kept, *layout.annotations))


def _contents(store: Path) -> tuple[set[tuple[str, ...]], list[str]]:
    """Read source, member and chain of the items in a store, and their names."""
    items: set[tuple[str, ...]] = set()
    names: list[str] = []
    for shard in shard_files(store / SHARDS):
        columns = ["source", "member", "chain", "name"]
        table = index_rows(shard.with_suffix(INDEX_SUFFIX), columns)
        items.update(zip(*(table.column(name).to_pylist() for name in columns[:3]), strict=True))
        names += table.column("name").to_pylist()
    return items, names


def _tasks(plan: Plan, store: Path, options: BuildOptions) -> list[PartTask]:
    folder = store / BUILDING / PARTS
    folder.mkdir(exist_ok=True)
    if options.share is None:
        for left_over in folder.glob("*.partial"):
            left_over.unlink()
    layout = read_manifest(store).layout
    first = packed_parts(store / SHARDS, plan.fingerprint)
    return [
        PartTask(plan.path, part, folder, layout, plan.filters, options.formats, {})
        for part in plan.parts[first:]
    ]


def _finish(plan: Plan, tasks: Sequence[PartTask], store: Path) -> None:
    """Pack the parts and record the files. Each step can be repeated if the build is killed in between.

    The plan is removed last but one: until then the build counts as unfinished and is resumed here.
    """
    (store / SHARDS).mkdir(exist_ok=True)
    for left_over in (store / SHARDS).glob("*.partial"):
        left_over.unlink()
    pack([task.file for task in tasks], store / SHARDS, plan.fingerprint)
    manifest = read_manifest(store)
    write_manifest(store, manifest.layout, record_contents(store / SHARDS, manifest.contents))
    plan.path.unlink()
    shutil.rmtree(store / BUILDING, ignore_errors=True)


def default_workers() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
