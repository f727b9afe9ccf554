"""Make, read and check splits of the proteins of a store."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esmgn_core.errors import DataError, did_you_mean
from esmgn_core.machine.files import write_atomically, written_atomically
from esmgn_core.printable import counted
from esmgn_core.related import SHARED, Groups, divided, related
from esmgn_core.splits import Shares, assign
from esmgn_core.store.reader import Store
from esmgn_core.text import read_lines

_HEADER = ("name", "split")
_SPLITS = ("train", "valid", "test")
_MMSEQS = "mmseqs"


def read_splits(path: Path) -> dict[str, str]:
    """Read protein -> split from a file of two columns separated by tabs.

    Raises:
        DataError: the file cannot be read, a line is malformed or has another split than ``train``,
            ``valid`` and ``test``, or a protein is in two splits.
    """
    splits: dict[str, str] = {}
    for number, (name, split) in _pairs(path):
        if (name, split) == _HEADER:
            continue
        if split not in _SPLITS:
            raise DataError(
                f"{path}, line {number}: '{name}' is in the split '{split}', expected {', '.join(_SPLITS)}",
                *did_you_mean(split, _SPLITS),
            )
        if splits.setdefault(name, split) != split:
            raise DataError(
                f"{path}, line {number}: '{name}' is in the splits '{splits[name]}' and '{split}'"
            )
    return splits


def write_splits(path: Path, splits: Mapping[str, str]) -> None:
    """Write one line per protein: name, tab, split.

    Raises:
        DataError: the file cannot be written.
    """
    lines = ("\t".join(row) + "\n" for row in (_HEADER, *splits.items()))
    write_atomically(path, "".join(lines))


def related_rows(
    store: Store, *, shared: float = SHARED, clusters: Iterable[tuple[str, str]] = ()
) -> NDArray[np.int64]:
    """Compute the group of each protein, int64 [P], see :func:`esmgn_core.related.related`.

    Args:
        store: the proteins.
        shared: smallest share of 5-mers of similar chains; 0 to compare none.
        clusters: pairs of representative and member, which are related as well.
    """
    groups = Groups(len(store))
    groups.join_equal(related(store.names, sequence_hashes(store), store.chains(), shared=shared).tolist())
    row = {name: number for number, name in enumerate(store.names)}
    first: dict[str, int] = {}
    pairs = [
        (first.setdefault(representative, row[member]), row[member])
        for representative, member in clusters
        if member in row
    ]
    groups.join(*np.array(pairs, dtype=np.int64).reshape(-1, 2).T)
    return groups.number


def split_store(store: Store, groups: NDArray[np.int64], shares: Shares) -> dict[str, str]:
    """Assign each group of related proteins to one split; see :func:`esmgn_core.splits.assign`."""
    splits = assign(groups.tolist(), sequence_hashes(store), shares)
    return dict(zip(store.names, splits, strict=True))


def sequence_hashes(store: Store) -> list[int]:
    """Read the sequence hash of each protein, equal for identical sequences."""
    hashes: list[int] = store.index(["sequence_hash"]).column("sequence_hash").to_pylist()
    return hashes


def read_clusters(path: Path, names: Collection[str] = ()) -> list[tuple[str, str]]:
    """Read pairs of representative and member from a cluster file of MMseqs2 or Foldseek.

    Args:
        path: a file of two columns, separated by a tab.
        names: proteins that must be members of a cluster.

    Raises:
        DataError: the file cannot be read, a line is malformed, or a protein is missing.
    """
    pairs = [pair for _, pair in _pairs(path)]
    members = {member for _, member in pairs}
    if lacking := [name for name in names if name not in members]:
        raise DataError(
            f"{path} has no cluster for {counted(len(lacking), 'protein')}, such as '{lacking[0]}'",
            "cluster the proteins of this store: esmgn data export STORE --fasta FILE",
        )
    return pairs


def clusters_by_identity(store: Store, identity: float) -> list[tuple[str, str]]:
    """Cluster the proteins with an installed MMseqs2; returns pairs as :func:`read_clusters`.

    Raises:
        DataError: MMseqs2 is not installed, or fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        fasta, result = Path(folder, "proteins.fasta"), Path(folder, "result")
        write_fasta(store, fasta, names=[str(row) for row in range(len(store))])
        run_mmseqs("easy-cluster", fasta, result, Path(folder, "tmp"), identity=identity)
        rows = read_clusters(Path(f"{result}_cluster.tsv"))
    return [(store.names[int(one)], store.names[int(other)]) for one, other in rows]


def run_mmseqs(command: str, *files: Path, identity: float) -> None:
    """Run an installed MMseqs2 at a sequence identity, with 80 % coverage.

    Raises:
        DataError: MMseqs2 is not installed, or fails.
    """
    program = shutil.which(_MMSEQS)
    if program is None:
        raise DataError(
            "a sequence identity needs MMseqs2, and the program 'mmseqs' is not installed",
            "see https://github.com/soedinglab/MMseqs2; without it, chains are compared by their 5-mers",
            "esmgn data split takes the clusters of another program: --clusters FILE",
        )
    options = ["--min-seq-id", str(identity), "-c", "0.8"]
    arguments = [program, command, *map(str, files), *options]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise DataError(f"mmseqs failed with exit status {done.returncode}", *done.stderr.splitlines()[-3:])


def leaks(store: Store, splits: Mapping[str, str], groups: NDArray[np.int64]) -> list[tuple[str, str]]:
    """Find pairs of related proteins in different splits, see :func:`esmgn_core.related.divided`.

    Raises:
        DataError: no protein of the store is in the splits.
    """
    rows = [row for row, name in enumerate(store.names) if name in splits]
    names = [store.names[row] for row in rows]
    if not rows:
        example = f"such as '{next(iter(splits))}'" if splits else "it is empty"
        raise DataError(
            f"no protein of the splits is in {store.path}: {example}", f"see: esmgn data list {store.path}"
        )
    pairs = divided(groups[rows].tolist(), [splits[name] for name in names])
    return [(names[one], names[other]) for one, other in pairs]


def group_sizes(groups: NDArray[np.int64]) -> tuple[int, int]:
    """Return the number of groups and the size of the largest one."""
    counts = np.bincount(groups) if len(groups) else np.zeros(1, np.int64)
    return int(np.count_nonzero(counts)), int(counts.max())


def unmatched(store: Store, splits: Mapping[str, str]) -> Iterator[str]:
    """Yield warnings about proteins that are only in the store, or only in the splits."""
    names = set(store.names)
    for where, lacking in (
        ("of the store in no split", [name for name in store.names if name not in splits]),
        ("of the splits not in the store", [name for name in splits if name not in names]),
    ):
        if lacking:
            yield f"not compared: {counted(len(lacking), 'protein')} {where}, such as '{lacking[0]}'"


def write_fasta(store: Store, path: Path, names: Sequence[str] | None = None) -> None:
    """Write the sequences of all proteins as FASTA, with chains joined.

    Args:
        store: the proteins.
        path: the file.
        names: names in the file; those of the store by default.

    Raises:
        DataError: the file cannot be written.
    """
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWYX", dtype=np.uint8)
    with written_atomically(path) as temporary, temporary.open("wb") as file:
        for name, residue_type in zip(names or store.names, store.residue_types(), strict=True):
            file.write(b">" + name.encode() + b"\n" + letters[residue_type].tobytes() + b"\n")


def _pairs(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    try:
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            cells = line.split("\t")
            if len(cells) != 2:
                raise DataError(f"{path}, line {number}: expected two columns separated by a tab")
            yield number, (cells[0], cells[1])
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
