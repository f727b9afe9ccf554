"""Peak memory of embedding a folder of structures, against the bound that the docs state.

    OMP_NUM_THREADS=1 python benchmarks/embed.py FOLDER --count 1000

The first N files below FOLDER are embedded per residue and per protein into a safetensors file, in a
process of its own. Peak memory is that process's resident set.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from esmgn_core.io import find_structures

MODEL = ("--seq", "esm2_tiny", "--struct", "gearnet", "--fuse", "serial")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000, help="files to embed")
    parser.add_argument("--max-residues", type=int, default=4096)
    arguments = parser.parse_args()
    files = find_structures([arguments.folder])[: arguments.count]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.safetensors"
        command = [sys.executable, "-m", "esmgn_cli", "embed", *map(str, files), "-o", str(out), *MODEL]
        command += ["--devices", "cpu", "--max-residues", str(arguments.max_residues)]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own program
        seconds = time.perf_counter() - started
        size = out.stat().st_size
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.stdout.splitlines()[0])
    print(f"file        {size / 1e9:8.2f} GB")
    print(f"peak memory {used.ru_maxrss * 1024 / 1e9:8.2f} GB")
    print(f"processor   {used.ru_utime + used.ru_stime:8.0f} s, {seconds:.0f} s on the clock")


if __name__ == "__main__":
    main()
