"""Splits of the proteins of a store: made, read, and checked for leaks."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esmgn_core.errors import DataError
from esmgn_core.machine.files import write_atomically, written_atomically
from esmgn_core.splits import held_out
from esmgn_core.store.reader import Store
from esmgn_core.text import read_lines

_HEADER = ("name", "split")
_MMSEQS = "mmseqs"


@dataclass(frozen=True, slots=True)
class Shares:
    """How large the held-out splits are, as shares of the clusters; the rest is ``train``."""

    valid: float = 0.1
    test: float = 0.0

    def split(self, key: str) -> str:
        """The split of a cluster; decided by its key alone, not by what else is in the store."""
        if held_out(key, self.test):
            return "test"
        return "valid" if held_out(f"valid {key}", self.valid / max(1 - self.test, 1e-9)) else "train"


def read_splits(path: Path) -> dict[str, str]:
    """Protein -> split, from a file of two columns parted by tabs.

    Raises:
        DataError: the file cannot be read, a line has another form, or a protein is in two splits.
    """
    splits: dict[str, str] = {}
    for number, (name, split) in _pairs(path):
        if (name, split) == _HEADER:
            continue
        if splits.setdefault(name, split) != split:
            raise DataError(
                f"{path}, line {number}: '{name}' is in the splits '{splits[name]}' and '{split}'"
            )
    return splits


def write_splits(path: Path, splits: Mapping[str, str]) -> None:
    """Write protein and split, parted by a tab, one a line.

    Raises:
        DataError: the file cannot be written.
    """
    lines = ("\t".join(row) + "\n" for row in (_HEADER, *splits.items()))
    write_atomically(path, "".join(lines))


def by_sequence(store: Store, shares: Shares) -> dict[str, str]:
    """Copies of one sequence in one split, nothing more."""
    hashes = store.index(["sequence_hash"]).column("sequence_hash").to_pylist()
    return {name: shares.split(str(key)) for name, key in zip(store.names, hashes, strict=True)}


def by_clusters(store: Store, clusters: Path, shares: Shares) -> dict[str, str]:
    """Proteins of one cluster in one split.

    Args:
        store: the proteins.
        clusters: file of MMseqs2 or Foldseek: representative and member, parted by a tab.
        shares: how large the splits are.

    Raises:
        DataError: the file cannot be read, or lacks proteins of the store.
    """
    representative = cluster_of(clusters)
    if lacking := [name for name in store.names if name not in representative]:
        raise DataError(
            f"{clusters} has no cluster for {len(lacking)} proteins, such as '{lacking[0]}'",
            "cluster the proteins of this store: esmgn data export STORE --fasta FILE",
        )
    return {name: shares.split(representative[name]) for name in store.names}


def by_identity(store: Store, identity: float, shares: Shares) -> dict[str, str]:
    """Like :func:`by_clusters`, with clusters by an installed MMseqs2.

    Raises:
        DataError: MMseqs2 is not installed, or fails.
    """
    program = shutil.which(_MMSEQS)
    if program is None:
        raise DataError(
            "--identity needs MMseqs2, and no program 'mmseqs' is installed",
            "see https://github.com/soedinglab/MMseqs2; or cluster elsewhere and give --clusters FILE",
        )
    with tempfile.TemporaryDirectory() as folder:
        fasta, result = Path(folder, "proteins.fasta"), Path(folder, "result")
        write_fasta(store, fasta, names=[str(row) for row in range(len(store))])
        command = [program, "easy-cluster", fasta, result, Path(folder, "tmp"), "--min-seq-id", str(identity)]
        done = subprocess.run([*map(str, command), "-c", "0.8"], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise DataError(
                f"mmseqs failed with exit status {done.returncode}", *done.stderr.splitlines()[-3:]
            )
        rows = cluster_of(Path(f"{result}_cluster.tsv"))
    return {name: shares.split(store.names[int(rows[str(row)])]) for row, name in enumerate(store.names)}


def cluster_of(path: Path) -> dict[str, str]:
    """Member -> representative, from a file of MMseqs2 or Foldseek.

    Raises:
        DataError: the file cannot be read, or a line has another form.
    """
    return {member: representative for _, (representative, member) in _pairs(path)}


def leaks(
    store: Store, splits: Mapping[str, str], clusters: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Pairs of proteins of different splits that have the same sequence, or are in one cluster.

    One pair for each sequence or cluster and pair of splits.
    """
    if clusters is None:
        keys: Sequence[object] = store.index(["sequence_hash"]).column("sequence_hash").to_pylist()
    else:
        keys = [clusters.get(name, name) for name in store.names]
    first: dict[object, dict[str, str]] = {}
    for name, key in zip(store.names, keys, strict=True):
        if name in splits:
            first.setdefault(key, {}).setdefault(splits[name], name)
    found = (list(by_split.values()) for by_split in first.values())
    return [(names[0], other) for names in found for other in names[1:]]


def sizes(splits: Mapping[str, str]) -> dict[str, int]:
    """Proteins of each split."""
    return dict(Counter(splits.values()))


def write_fasta(store: Store, path: Path, names: Sequence[str] | None = None) -> None:
    """Write the sequences of all proteins, chains joined.

    Args:
        store: the proteins.
        path: the file.
        names: what to call them; their names by default.

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
                raise DataError(f"{path}, line {number}: expected two columns parted by a tab")
            yield number, (cells[0], cells[1])
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
