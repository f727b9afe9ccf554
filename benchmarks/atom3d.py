"""ATOM3D records read through the child process against LMDB opened in this process.

    OMP_NUM_THREADS=1 python benchmarks/atom3d.py FOLDER_WITH_DATA_MDB

Both read every record to a protein, as the datasets ``psr`` and ``msp`` do before training, in turns. Times
are processor times of this process and the child together. The child is started once; its start is printed by
itself. The ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb

from esmgn_core.errors import StructureError
from esmgn_core.io.atom3d import Atom3DRecords, _columns, atoms_to_protein
from esmgn_core.machine import child

TABLES = ("atoms", "original_atoms", "mutated_atoms")


def direct(folder: Path) -> Iterator[Any]:
    """Records as version 0.1.0 read them: the file opened for each."""

    def value(key: bytes) -> bytes:
        environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
        with environment, environment.begin() as transaction:
            found: bytes = transaction.get(key)
            return found

    for number in range(int(value(b"num_examples"))):
        record = json.loads(gzip.decompress(value(str(number).encode())))
        yield {name: _columns(content) for name, content in record.items()}


def by_child(folder: Path) -> Iterator[Any]:
    yield from Atom3DRecords(folder)


def spent() -> float:
    """Processor time of this process and its child, in seconds."""
    fields = Path(f"/proc/{child.call(os.getpid)}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def timed(read: Callable[[Path], Iterator[Any]], folder: Path) -> tuple[float, int]:
    start, count = spent(), 0
    for record in read(folder):
        for table in TABLES:
            if table in record:
                try:
                    atoms_to_protein(record[table], "x")
                except StructureError:
                    continue
        count += 1
    return spent() - start, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {"direct": [], "by_child": []}
    count, start = 0, time.perf_counter()
    Atom3DRecords(arguments.folder)
    print(f"start of the child: {time.perf_counter() - start:.2f} s")
    for _ in range(arguments.rounds):
        for read in (direct, by_child):
            seconds, count = timed(read, arguments.folder)
            times[read.__name__].append(seconds)
    medians = {name: statistics.median(values) / count * 1e3 for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name}: {value:.2f} ms for each of {count} records")
    print(f"throughput by the child: {medians['direct'] / medians['by_child']:.3f} of direct")


if __name__ == "__main__":
    main()
