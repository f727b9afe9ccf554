"""Files read per second by one process, or an account of what a folder gives.

python benchmarks/read_structures.py [FOLDER]            files/s, peers in the same run
python benchmarks/read_structures.py --account [FOLDER]  files read and refused, with the reasons
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import gemmi
from isal import igzip

from esmgn_core.io import Refusal, find_structures, formats, iter_structures, read_protein

STRUCTURES = Path(__file__).parents[2] / "shared" / "data" / "structures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=STRUCTURES / "afdb")
    parser.add_argument("--pattern", default="*.pdb.gz", help="files to time (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--account", action="store_true", help="read every structure file once and count")
    arguments = parser.parse_args()
    if arguments.account:
        account(arguments.folder)
    else:
        speed(sorted(arguments.folder.rglob(arguments.pattern)), arguments.repeats)


def speed(files: list[Path], repeats: int) -> None:
    if not files:
        raise SystemExit("no files to read")
    residues = sum(len(read_protein(path)) for path in files)
    print(f"{len(files)} files, {residues} residues, one process, medians of {repeats} runs")
    few = files[:: max(1, len(files) // 8)]  # mdtraj takes long
    ours = report("esmgn.read_protein", read_protein, files, repeats)
    with mock.patch.multiple(formats, read_by_stride=no_columns, read_aligned_mmcif=no_columns):
        by_gemmi = report("esmgn, all by gemmi", read_protein, files, repeats)
    print(f"{'':24} fixed columns / gemmi {ours / by_gemmi:5.2f}")
    parsed = report("gemmi, parsing alone", parse_with_gemmi, files, repeats)
    print(f"{'':24} esmgn / gemmi {ours / parsed:5.2f}")
    try:
        import mdtraj
    except ImportError:
        return
    warnings.simplefilter("ignore")
    ours = report(f"esmgn, {len(few)} of the files", read_protein, few, repeats)
    theirs = report(f"mdtraj, {len(few)} of the files", lambda path: mdtraj.load(str(path)), few, 1)
    print(f"{'':24} esmgn / mdtraj {ours / theirs:4.1f}")


def no_columns(*_: bytes) -> None:
    """In the place of the readers of fixed columns, which leave other text to gemmi."""


def parse_with_gemmi(path: Path) -> gemmi.Structure:
    content = path.read_bytes()
    return gemmi.read_structure_string(igzip.decompress(content) if path.suffix == ".gz" else content)  # type: ignore[no-untyped-call]  # the library does not annotate it


def report(name: str, read: Callable[[Path], object], files: list[Path], repeats: int) -> float:
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        for path in files:
            read(path)
        rates.append(len(files) / (time.perf_counter() - start))
    print(f"{name:24} {statistics.median(rates):7.1f} files/s")
    return statistics.median(rates)


def account(folder: Path) -> None:
    paths = find_structures([folder])
    start = time.perf_counter()
    results = list(iter_structures(paths))
    seconds = time.perf_counter() - start
    refused = [result for result in results if isinstance(result, Refusal)]
    proteins = [result for result in results if not isinstance(result, Refusal)]
    residues, predicted = sum(map(len, proteins)), sum(protein.plddt is not None for protein in proteins)
    print(f"{len(paths)} files in {seconds:.1f} s: {len(proteins)} read, {len(refused)} refused")
    print(f"{residues} residues; {predicted} predicted models with pLDDT")
    for reason, count in Counter(refusal.reason for refusal in refused).most_common():
        print(f"{count:6}  {reason}")


if __name__ == "__main__":
    main()
