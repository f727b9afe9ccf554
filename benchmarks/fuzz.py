"""Damaged files of every kind that is read: our own errors, no crash, no hang.

    OMP_NUM_THREADS=1 python benchmarks/fuzz.py --count 20000

Each target makes small valid files, changes one of them by a seeded draw, and reads it as the program would.
Prints for each target how many files were read all the same, how many were refused, and every failure with
its seed. A failure is an error of another kind, a call that takes longer than a minute, or the end of the
process. Options: --only TARGET, --first SEED, --count SEEDS of each target.
"""

from __future__ import annotations

import argparse
import faulthandler
import gzip
import json
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lmdb
import numpy as np

from esmgn_core.engine.runs import find_runs
from esmgn_core.errors import EsmgnError
from esmgn_core.inference.embed.files import read_metadata, read_proteins, write_embeddings
from esmgn_core.inference.fasta import read_fasta
from esmgn_core.inference.mutate.assays import find_assays, read_measurements
from esmgn_core.io.atom3d import Atom3DRecords, atoms_to_residues
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.read import read_content
from esmgn_core.io.trajectory import frame, num_frames
from esmgn_core.io.write import mmcif_text, pdb_text
from esmgn_core.machine import child
from esmgn_core.store import BuildOptions, Store, build
from esmgn_core.store.chains import read_chains
from esmgn_core.store.reader import store_problems
from esmgn_core.store.reading import ItemReader
from esmgn_core.store.sources import Item, find_items
from esmgn_core.store.splits import read_clusters, read_splits
from esmgn_core.testing import example_proteins

LIMIT = 60.0
"""Seconds after which a file counts as a hang."""

_CHILD_LIMIT = 2.0  # seconds; the child has 30 in use
_WHOLE = ("labels", "scans", "store", "old_store", "run_folders")
"""Targets whose files are read together; the others read the changed file alone."""
_ODD = (
    *(b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff", b"\x80", b"-1", b"nan", b"1e999", b"[" * 2000),
    *(b"\r", b'"', b"'"),
)
PROTEINS = [protein for protein in example_proteins() if protein.name in ("two_chains", "predicted")]
Files = dict[str, bytes]


def changed(content: bytes, draw: random.Random) -> bytes:
    """The content with a few bytes set, flipped, cut, repeated or inserted."""
    result = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        if not result:
            break
        at, kind = draw.randrange(len(result)), draw.random()
        if kind < 0.35:
            result[at] = draw.randrange(256)
        elif kind < 0.6:
            result[at] ^= 1 << draw.randrange(8)
        elif kind < 0.7:
            del result[at:]
        elif kind < 0.8:
            del result[at : at + draw.randrange(1, 200)]
        elif kind < 0.9:
            odd = draw.choice(_ODD)
            result[at : at + len(odd) * draw.randrange(2)] = odd
        else:
            result[at:at] = result[at : at + draw.randrange(1, 2000)]
    return bytes(result)


def structures() -> Files:
    pdb, cif = pdb_text(PROTEINS[0]).encode(), mmcif_text(PROTEINS[1]).encode()
    return {
        "a.pdb": pdb,
        "b.cif": cif,
        "c.pdb.gz": gzip.compress(pdb, mtime=0),
        "AF-X.pdb": pdb_text(PROTEINS[1]).encode(),
    }


def read_structures(folder: Path, name: str) -> None:
    reading = read_content((folder / name).read_bytes(), name)
    reading.origin()
    reading.chains()


def archives() -> Files:
    tar, zipped = BytesIO(), BytesIO()
    with (
        tarfile.open(fileobj=tar, mode="w") as archive,
        zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for name, content in structures().items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
            other.writestr(zipfile.ZipInfo(name), content)
    return {"a.tar": tar.getvalue(), "b.zip": zipped.getvalue()}


def read_items(folder: Path, name: str, topology: Path | None = None) -> None:
    refusals = []
    with ItemReader() as reader:
        for item in find_items([str(folder / name)], topology=topology):
            try:
                reader.read(item)
            except UnreadableError as error:
                refusals.append(error)
    if refusals:
        raise refusals[0]


def fasta() -> Files:
    text = b"".join(f">{p.name} x\n{p.sequence}\n".encode() for p in PROTEINS)
    return {"a.fasta": text, "b.fasta.gz": gzip.compress(text, mtime=0)}


def tables() -> Files:
    return {
        "splits.tsv": b"name\tsplit\na\ttrain\nb\tvalid\nc\ttest\n",
        "clusters.tsv": b"a\ta\na\tb\nc\tc\n",
        "chains.txt": b"1ABC-A\n2DEF_B 3.0\n# none\n",
    }


def read_table(folder: Path, name: str) -> None:
    {"splits": read_splits, "clusters": read_clusters, "chains": read_chains}[name.partition(".")[0]](
        folder / name
    )


def labels() -> Files:
    """Tables of labels beside the structures they name, for the dataset ``csv``."""
    table = (
        b'file,label,number,split\n"two_chains.pdb","GO:1,GO:2",0.5,train\n'
        b'long.pdb,"GO:1,GO:2",1.5,train\npair.pdb,GO:1,-2e3,valid\n'
    )
    structures = {f"{protein.name}.pdb": pdb_text(protein).encode() for protein in example_proteins()}
    return {
        "labels.csv": table,
        **{name: structures[name] for name in ("two_chains.pdb", "long.pdb", "pair.pdb")},
    }


def read_labels(folder: Path, _: str) -> None:
    from esmgn_datasets.table import Table

    errors = []
    for kind, column in (("multilabel", "label"), ("classification", "label"), ("regression", "number")):
        try:
            Table(Table.Settings(table=folder / "labels.csv", kind=kind, labels=(column,)))
        except EsmgnError as error:
            errors.append(error)
    if len(errors) == 3:
        raise errors[0]


def scans() -> Files:
    """Scans in the formats of ProteinGym and MaveDB, and the sequence of one."""
    return {
        "gym.csv": b"mutant,DMS_score\nM1C,0.5\nK2A,1.5\nT3A:Y5W,-2e3\nA4V,0\n",
        "gym.fasta": b">gym\nMKTAYIAKQR\n",
        "mave.csv": b"accession,hgvs_pro,score\nurn:1#1,p.Met1Cys,0.5\nurn:1#2,p.Lys2Ala,1.5\n",
    }


def read_scans(folder: Path, _: str) -> None:
    problems = []
    for assay in find_assays(folder):
        problems += [assay.problem] if assay.problem else []
        read_measurements(assay)
    if problems:
        raise UnreadableError(problems[0])


def run_folders() -> Files:
    steps = [{"step": step, "loss": 1 / step, "valid_loss": 2 / step} for step in range(1, 20)]
    return {
        "metrics.jsonl": "".join(json.dumps(step) + "\n" for step in steps).encode(),
        "config.toml": b'[seq]\nname = "onehot"\n[train]\nepochs = 3\nbetas = [0.9, 0.99]\n',
        "environment.json": json.dumps(
            {"packages": {"torch": "2.5"}, "plugins": [], "device": "cpu"}
        ).encode(),
        "log.txt": b"2026-01-01 00:00:00 finished at step 20\n",
        "results.json": json.dumps({"metric": None, "step": 3, "sets": {}}).encode(),
    }


def read_run(folder: Path, _: str) -> None:
    from esmgn_core.pages.run import run_page

    items, notes = find_runs(folder)
    for item in items:
        item.settings()
        item.curves()
        run_page(item)
    if notes:
        raise UnreadableError(notes[0])


def store() -> Files:
    with tempfile.TemporaryDirectory() as place:
        for protein in PROTEINS:
            Path(place, f"{protein.name}.pdb").write_text(pdb_text(protein))
        Path(place, "empty.pdb").write_text("")
        build([place], Path(place, "store"), BuildOptions())
        return {
            str(file.relative_to(Path(place, "store"))): file.read_bytes()
            for file in sorted(Path(place, "store").rglob("*"))
            if file.is_file()
        }


def old_store() -> Files:
    """As esmgn 0.1.0 wrote it, without a record of its files."""
    files = store()
    values = json.loads(files["store.json"])
    return {
        **files,
        "store.json": json.dumps(
            {key: values[key] for key in values if key not in ("files", "shards", "proteins")}
        ).encode(),
    }


def read_store(folder: Path, _: str) -> None:
    with suppress(EsmgnError):
        store_problems(folder)
    opened = Store(folder)
    for number in range(len(opened)):
        opened.ca(number)
        opened[number].sequence  # noqa: B018
    opened.batch(range(len(opened)))
    opened.index()
    list(opened.notes())


def embeddings() -> Files:
    rows = np.eye(3, 8, dtype=np.float32)
    texts = {name: np.array(["a", "b", "c"]) for name in ("name", "path")}
    content: Any = SimpleNamespace(
        vectors=["protein"],
        residues={},
        proteins={**texts, "num_residues": np.array([5, 6, 7])},
        width=8,
        num_rows={"protein": 3},
        blocks=lambda _: iter([(0, rows)]),
    )
    files = {}
    with tempfile.TemporaryDirectory() as place:
        for form, name in (
            ("parquet", "a.parquet"),
            ("npz", "a.npz"),
            ("safetensors", "a.safetensors"),
            ("hdf5", "a.h5"),
        ):
            write_embeddings(content, Path(place, name), form, {"model": {}, "summary": {}})
            files[name] = Path(place, name).read_bytes()
    return files


def read_embeddings(folder: Path, name: str) -> None:
    read_metadata(folder / name)
    read_proteins(folder / name)


def records() -> Files:
    columns = ["model", "chain", "hetero", "insertion_code", "residue", "resname", "x", "y", "z", "name"]
    rows = [[0, "A", " ", " ", number, "GLY", 3.8 * number, 0.0, 0.0, "CA"] for number in range(1, 6)]
    record = {"atoms": {"columns": columns, "data": rows}, "id": "x"}
    with tempfile.TemporaryDirectory() as place:
        with lmdb.open(place, map_size=1 << 20) as environment, environment.begin(write=True) as put:
            put.put(b"num_examples", b"12")
            put.put(b"serialization_format", b"json")
            for number in range(12):
                put.put(str(number).encode(), gzip.compress(json.dumps(record).encode(), mtime=0))
        return {"data.mdb": Path(place, "data.mdb").read_bytes()}


def read_records(folder: Path, _: str) -> None:
    found = Atom3DRecords(folder)
    for number in range(len(found)):
        atoms_to_residues(found[number].get("atoms"))  # type: ignore[arg-type]  # the type is checked where it is read


def trajectories() -> Files:
    import mdtraj

    files = {}
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(action="ignore"):
        topology = Path(place, "topology.pdb")
        topology.write_text(pdb_text(PROTEINS[0]))
        one = mdtraj.load(str(topology))
        frames = mdtraj.join([one, one, one])
        for suffix in ("dcd", "xtc", "trr", "nc"):
            frames.save(str(Path(place, f"t.{suffix}")))
            files[f"t.{suffix}"] = Path(place, f"t.{suffix}").read_bytes()
        return files


def read_trajectory(folder: Path, name: str) -> None:
    topology = folder.parent / "topology.pdb"
    if not topology.exists():
        topology.write_text(pdb_text(PROTEINS[0]))
    for number in range(min(num_frames(folder / name, topology), 3)):
        frame(folder / name, topology, number)


def foldcomp_files() -> Files:
    import foldcomp

    return {"a.fcz": foldcomp.compress("a", pdb_text(PROTEINS[1]))}


def read_foldcomp(folder: Path, name: str) -> None:
    with ItemReader() as reader:
        reader.read(Item("foldcomp", str(folder / name), name=name))


TARGETS: dict[str, tuple[Callable[[], Files], Callable[[Path, str], None]]] = {
    "structures": (structures, read_structures),
    "archives": (archives, read_items),
    "fasta": (fasta, lambda folder, name: [*read_fasta(folder / name)] and None),
    "tables": (tables, read_table),
    "labels": (labels, read_labels),
    "scans": (scans, read_scans),
    "run_folders": (run_folders, read_run),
    "store": (store, read_store),
    "old_store": (old_store, read_store),
    "embeddings": (embeddings, read_embeddings),
    "lmdb": (records, read_records),
    "trajectories": (trajectories, read_trajectory),
    "foldcomp": (foldcomp_files, read_foldcomp),
}
"""What makes the files of a target, and what reads one of them."""


def attempts(target: str, seeds: range, work: Path) -> Iterator[tuple[int, str]]:
    """The outcome of each seed: ``read``, ``refused``, or the failure in words."""
    make, read = TARGETS[target]
    files = make()
    names = sorted(files)
    for seed in seeds:
        draw = random.Random(f"{target} {seed}")  # noqa: S311
        name = names[seed % len(names)]
        folder = work / target
        shutil.rmtree(folder, ignore_errors=True)
        for other, content in files.items():
            if other == name or target in _WHOLE:
                (folder / other).parent.mkdir(parents=True, exist_ok=True)
                (folder / other).write_bytes(changed(content, draw) if other == name else content)
        start = time.monotonic()
        yield seed, "begun"
        try:
            read(folder, name)
            outcome = "read"
        except (EsmgnError, UnreadableError):
            outcome = "refused"
        except Exception as error:  # noqa: BLE001 - what the fuzzer looks for
            last = error.__traceback__
            while last and last.tb_next:
                last = last.tb_next
            place = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last else ""
            outcome = f"{type(error).__name__} at {place}: {error}"[:200]
        if time.monotonic() - start > LIMIT:
            outcome = "hang"
        yield seed, outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", choices=list(TARGETS))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.only, range(arguments.first, arguments.first + arguments.count))
        return
    num_failures = 0
    for target in [arguments.only] if arguments.only else TARGETS:
        num_failures += outside(target, arguments.first, arguments.count)
    sys.exit(bool(num_failures))


def inside(target: str, seeds: range) -> None:
    """What a process does: one line for each outcome."""
    child.LIMIT = _CHILD_LIMIT
    faulthandler.enable()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as work:
        for seed, outcome in attempts(target, seeds, Path(work)):
            faulthandler.dump_traceback_later(2 * LIMIT, exit=True)
            print(json.dumps([seed, outcome]), flush=True)


def outside(target: str, first: int, count: int) -> int:
    """Run the seeds in processes that may end; the number of failures, which are printed."""
    outcomes: Counter[str] = Counter()
    failures: dict[int, str] = {}
    start, seed = time.monotonic(), first
    while seed < first + count:
        command = [sys.executable, __file__, "--inside", "--only", target, "--first", str(seed)]
        done = subprocess.run(  # noqa: S603 - this file
            [*command, "--count", str(first + count - seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        last = None
        for line in done.stdout.splitlines():
            number, outcome = json.loads(line)
            last, seed = (number, outcome), number + 1
            if outcome not in ("begun", "read", "refused"):
                failures[number] = outcome
            if outcome != "begun":
                outcomes[outcome if outcome in ("read", "refused") else "failed"] += 1
        if last is None:
            raise SystemExit(f"{target}: cannot start")
        if last[1] == "begun":
            failures[last[0]] = f"the process ended: {done.returncode}"
            outcomes["failed"] += 1
    seconds = time.monotonic() - start
    print(
        f"{target}: {outcomes['read']:,} read, {outcomes['refused']:,} refused, {len(failures)} failed, "
        f"{seconds:.0f} s",
        flush=True,
    )
    for number, reason in list(failures.items())[:20]:
        print(f"  seed {number}: {reason}")
    return len(failures)


if __name__ == "__main__":
    main()
