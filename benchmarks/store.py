"""Stores in figures: building, reading, sizes, memory.

    OMP_NUM_THREADS=1 python benchmarks/store.py FOLDER_OF_ALPHAFOLD_FILES

The folder holds .pdb.gz and .cif.gz files of AlphaFold DB; archives and large stores are made by repeating
them. Times are processor times of one core unless it says otherwise; ratios are from one run, candidates
alternating. Options: --members of the archive, --files of the memory test, --only NAME for one section.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip
from repeated import make_tar, readings, repeated

from esmgn_core.io import formats, read
from esmgn_core.io.annotate import ANNOTATIONS, annotate
from esmgn_core.io.read import read_content
from esmgn_core.store import BuildOptions, Layout, Store, build, parts
from esmgn_core.store import reading as items
from esmgn_core.store.build import SHARDS
from esmgn_core.store.contents import record_contents
from esmgn_core.store.pack import pack
from esmgn_core.store.settings import write_manifest
from esmgn_core.store.shard_builder import ShardBuilder

SECTIONS: dict[str, Callable[[Path, Path, argparse.Namespace], None]] = {}


def section(function: Callable[[Path, Path, argparse.Namespace], None]) -> Callable[..., None]:
    SECTIONS[function.__name__] = function
    return function


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--members", type=int, default=4363)  # the proteome of E. coli
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--only", choices=list(SECTIONS))
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="mdtraj")  # of headers without a unit cell, thousands of lines
    for name, function in SECTIONS.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as work:
                print(f"-- {name}")
                function(arguments.folder, Path(work), arguments)


@contextmanager
def cpu() -> Iterator[list[float]]:
    spent: list[float] = []
    start = time.process_time()
    yield spent
    spent.append(time.process_time() - start)


MDTRAJ = """
import sys, tarfile, time, warnings
from pathlib import Path
from isal import igzip
import mdtraj

warnings.filterwarnings("ignore")
archive, folder, first, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
mdtraj.load(first)
start = time.process_time()
with tarfile.open(archive) as source:
    for member in source.getmembers()[:count]:
        source.extract(member, folder, filter="data")
for file in sorted(folder.iterdir()):
    plain = file.with_suffix("")
    plain.write_bytes(igzip.decompress(file.read_bytes()))
    mdtraj.load(str(plain))
print((time.process_time() - start) / count)
"""


@section
def tar_to_store(folder: Path, work: Path, arguments: argparse.Namespace) -> None:
    """A store from a tar, against mdtraj in a process of its own, where nothing else is loaded."""
    archive = make_tar(folder, work / "set.tar", arguments.members)
    files = sorted(folder.glob("*.pdb.gz"))
    ours, theirs = [], []
    for round_ in range(5):
        with cpu() as spent:
            build([str(archive)], work / f"store{round_}", BuildOptions())
        ours.append(spent[0] / arguments.members)
        extracted = work / f"extracted{round_}"
        command = (sys.executable, "-c", MDTRAJ, archive, extracted, files[0], str(len(files)))
        theirs.append(float(subprocess.check_output(command)))  # noqa: S603
    length = Store(work / "store0").lengths.mean()
    print(f"tar of {arguments.members} .pdb.gz, mean {length:.0f} residues, N, CA, C, O, sequence, pLDDT:")
    print(f"  extract, gunzip, mdtraj.load: {1e3 * statistics.median(theirs):.1f} ms each")
    mine, ratios = statistics.median(ours), sorted(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"  esmgn data build: {1e3 * mine:.2f} ms each, {1 / mine:.0f} structures/s on one core;")
    print(f"    {statistics.median(ratios):.0f} times, by rounds {', '.join(f'{r:.0f}' for r in ratios)}")


@section
def stages(folder: Path, work: Path, arguments: argparse.Namespace) -> None:
    """Where the time of ``tar_to_store`` goes: each stage timed inside a whole build."""
    archive = make_tar(folder, work / "set.tar", arguments.members)
    seconds: dict[str, float] = {}

    def timed(what: str, owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def outer(*values: Any, **named: Any) -> Any:
            with cpu() as spent:
                result = inner(*values, **named)
            seconds[what] = seconds.get(what, 0) + spent[0]
            return result

        setattr(owner, name, outer)

    builds = importlib.import_module("esmgn_core.store.build")
    timed("find the members, write the plan", builds, "_planned")
    timed("join the parts", builds, "_finish")
    timed("read the member", items.ItemReader, "_content")
    timed("SHA-256 of the member", items, "sha256")
    timed("inflate, recognise", read, "unpacked_text")
    timed("take apart the columns of the lines", formats, "read_by_stride")
    timed("row of the index, account", parts, "accepted")
    timed("encode the columns", ShardBuilder, "_flush")
    timed("write the parts (and encode the last of each)", parts, "commit")
    with cpu() as total:
        build([str(archive)], work / "store", BuildOptions())
    seconds["everything else"] = total[0] - sum(seconds.values())
    for what, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"  {1e3 * spent / arguments.members:.2f} ms  {what}")
    print(f"  {1e3 * total[0] / arguments.members:.2f} ms  in all")


@section
def mmcif(folder: Path, _work: Path, _arguments: argparse.Namespace) -> None:
    import mdtraj

    files = sorted(folder.glob("*.cif.gz"))[:12]
    ours, theirs = [], []
    for _ in range(3):
        with cpu() as spent:
            for file in files:
                read_content(file.read_bytes(), file.name)
        ours.append(spent[0])
        with cpu() as spent:
            for file in files:
                mdtraj.load(str(file))
        theirs.append(spent[0])
    mine, other = statistics.median(ours) / len(files), statistics.median(theirs) / len(files)
    print(f"{len(files)} .cif.gz: {1e3 * mine:.2f} ms each")
    print(f"  mdtraj.load: {1e3 * other:.0f} ms; ratio {other / mine:.0f}")


@section
def processes(folder: Path, work: Path, arguments: argparse.Namespace) -> None:
    archive = make_tar(folder, work / "set.tar", 4 * arguments.members)
    clock, busiest = {}, {}
    for workers in (1, 2):
        out = str(work / f"store{workers}")
        command = (sys.executable, "-m", "esmgn_cli", "data", "build", str(archive), "-o", out)
        start = time.perf_counter()
        with subprocess.Popen(  # noqa: S603
            (*command, "--workers", str(workers)), start_new_session=True, stdout=subprocess.DEVNULL
        ) as build_:
            seconds = watched(build_)
        clock[workers] = time.perf_counter() - start
        main_ = seconds.pop(build_.pid)
        busiest[workers] = main_ + max(seconds.values(), default=0)
        others = ", ".join(f"{one:.1f}" for one in seconds.values())
        print(f"  --workers {workers}: processor time of main {main_:.1f} s, of others {others or 'none'}")
    print(f"{4 * arguments.members} structures by esmgn data build, its start included:")
    for what, taken in (("by the clock", clock), ("processor time, main and busiest process", busiest)):
        one, two = taken[1], taken[2]
        print(f"  {what}: one process {one:.1f} s, two {two:.1f} s; ratio {one / two:.2f}")


def watched(process: subprocess.Popen[bytes]) -> dict[int, float]:
    """Processor time, until the end, of each process of the session of one."""
    seconds = {}
    while process.poll() is None:
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = file.read_text().rpartition(")")[2].split()
                if int(fields[3]) == process.pid:
                    ticks = int(fields[11]) + int(fields[12])
                    seconds[int(file.parent.name)] = ticks / os.sysconf("SC_CLK_TCK")
        time.sleep(0.05)
    return seconds


@section
def random_reads(folder: Path, work: Path, _arguments: argparse.Namespace) -> None:
    draw = np.random.default_rng(0)
    for layout in (Layout(), Layout("ca")):
        store = repeated(work / layout.atoms, readings(folder), 20_000, layout)
        lengths, few, many, single, crops, raw, ca = store.lengths, [], [], [], [], [], []
        for first in range(0, len(store), 500):  # warm: every page is in memory and mapped
            store.batch(range(first, first + 500))
        for _ in range(15):
            rows = draw.integers(0, len(store), 500)
            for size, spent_each in ((64, few), (500, many)):
                batches = draw.integers(0, len(store), (3200 // size, size))
                with cpu() as spent:
                    for batch in batches:
                        store.batch(batch)
                spent_each.append(spent[0] / batches.size)
            with cpu() as spent:
                for row in rows.tolist():
                    store[row]
            single.append(spent[0] / 500)
            for one, spent_each in ((store.record, raw), (store.ca, ca)):
                with cpu() as spent:
                    for row in rows.tolist():
                        one(row)
                spent_each.append(spent[0] / 500)
            rows = draw.choice(np.flatnonzero(lengths >= 100), 96)
            start = draw.integers(0, lengths[rows] - 99)
            with cpu() as spent:
                for _ in range(10):
                    store.batch(rows, start, np.full(96, 100))
            crops.append(spent[0] / 10)
        print(f"20,000 proteins, mean {lengths.mean():.0f} residues, atoms '{layout.atoms}', warm:")
        print(f"  one at a time, as stored, not decoded: {1 / statistics.median(raw):,.0f} proteins/s")
        print(f"  one at a time, CA as float32: {1 / statistics.median(ca):,.0f} proteins/s")
        print(f"  whole proteins as tensors, 64 at once: {1 / statistics.median(few):,.0f} proteins/s")
        print(f"  whole proteins as tensors, 500 at once: {1 / statistics.median(many):,.0f} proteins/s")
        print(f"  one at a time, as tensors: {1 / statistics.median(single):,.0f} proteins/s")
        print(f"  96 crops of 100 residues as a batch: {1e3 * statistics.median(crops):.2f} ms")


@section
def annotations(folder: Path, _work: Path, _arguments: argparse.Namespace) -> None:
    found = sorted(readings(folder), key=lambda reading: len(reading.residues))
    annotate(found[0].residues, found[0].structure, ANNOTATIONS)  # imports mdtraj
    for reading in found[:: max(1, len(found) // 8)]:
        spent = []
        for column in ANNOTATIONS:
            with cpu() as one:
                annotate(reading.residues, reading.structure, [column])
            spent.append(f"{column} {1e3 * one[0]:.1f} ms")
        print(f"  {len(reading.residues)} residues: {', '.join(spent)}")


@section
def sizes(folder: Path, work: Path, _arguments: argparse.Namespace) -> None:
    import foldcomp

    residues = dict.fromkeys(("pdb.gz", "cif.gz", "foldcomp"), 0)
    size = dict.fromkeys(residues, 0)
    for form in ("pdb.gz", "cif.gz"):
        for file in sorted(folder.glob(f"*.{form}")):
            content = file.read_bytes()
            length = len(read_content(content, file.name).residues)
            residues[form] += length
            size[form] += len(content)
            if form == "pdb.gz":
                try:
                    packed = foldcomp.compress(file.name, igzip.decompress(content).decode())
                except foldcomp.error:
                    continue
                residues["foldcomp"] += length
                size["foldcomp"] += len(packed)
    for form, total in size.items():
        print(f"  {form}: {total / residues[form]:.1f} bytes per residue")
    for layout in (Layout(), Layout("ca"), Layout("backbone", "float32"), Layout("ca", "float32")):
        store = work / f"{layout.atoms}-{layout.coordinates}"
        build([str(folder / "*.pdb.gz")], store, BuildOptions(layout=layout))
        columns, index = Store(store).num_bytes
        total = int(Store(store).lengths.sum())
        print(
            f"  store {layout.atoms}, {layout.coordinates}: {columns / total:.2f}, index {index / total:.2f}"
        )


class Memory(threading.Thread):
    """The most memory, in bytes, that this process and its children held together, shared pages once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_bytes = self.peak = self.now()
        self.done = threading.Event()

    def now(self) -> int:
        total = 0
        for pid in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            anonymous = [line for line in lines if line.startswith("Pss_Anon:")]
            total += 1024 * sum(int(line.split()[1]) for line in anonymous)
        return total

    def run(self) -> None:
        while not self.done.wait(0.1):
            self.peak = max(self.peak, self.now())


@section
def memory(folder: Path, work: Path, arguments: argparse.Namespace) -> None:
    files = sorted(folder.glob("*.pdb.gz"))
    (work / "in").mkdir()
    for number in range(arguments.files):
        source = files[number % len(files)]
        if number < len(files):
            shutil.copyfile(source, work / "in" / f"AF-Q{number:06d}-F1-model_v4.pdb.gz")
        else:
            first = work / "in" / f"AF-Q{number % len(files):06d}-F1-model_v4.pdb.gz"
            os.link(first, work / "in" / f"AF-Q{number:06d}-F1-model_v4.pdb.gz")
    for workers in (1, 2):
        watch = Memory()
        watch.start()
        build([str(work / "in")], work / f"store{workers}", BuildOptions(workers=workers))
        watch.done.set()
        over = (watch.peak - watch.start_bytes) / 1e6
        print(f"  {arguments.files} files, {workers} process(es): at most {over:.0f} MB over the start")


@section
def opening(folder: Path, work: Path, _arguments: argparse.Namespace) -> None:
    piece = 5_000
    short = [reading for reading in readings(folder) if len(reading.residues) < 140]
    repeated(work / "piece", short, piece, Layout("ca"))
    first = next((work / "piece" / SHARDS).glob("*.safetensors"))
    parts = work / "parts"
    parts.mkdir()
    for number in range(365_000 // piece):  # the same shard again and again: names repeat, sizes are real
        for suffix in (".safetensors", ".parquet"):
            os.link(first.with_suffix(suffix), parts / f"{number:06d}{suffix}")
    (work / "store" / SHARDS).mkdir(parents=True)
    pack(sorted(parts.glob("*.safetensors")), work / "store" / SHARDS, "benchmark")
    write_manifest(work / "store", Layout("ca"), record_contents(work / "store" / SHARDS))
    before = Memory()
    start = time.perf_counter()
    store = Store(work / "store")
    total = int(store.lengths.sum())
    seconds = time.perf_counter() - start
    held = (before.now() - before.start_bytes) / 1e6
    print(f"  {len(store):,} proteins, {total:,} residues: opened in {seconds:.3f} s, {held:.0f} MB")
    start = time.perf_counter()
    store[200_000]
    held = (before.now() - before.start_bytes) / 1e6
    print(f"  first protein after {time.perf_counter() - start:.3f} s, {held:.0f} MB in all")


if __name__ == "__main__":
    main()
