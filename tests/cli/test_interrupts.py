"""Ctrl-C at any moment, and a terminal that closes before the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from esmgn_core.testing import example_proteins
from esmgn_core.testing.files import write_pdb

START = """
import importlib.abc, os, signal, sys

class Presser(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Presser())
from esmgn_cli.__main__ import main
sys.argv = ["esmgn", "list"]
main()
"""


@pytest.mark.parametrize("module", ["esmgn_cli.app", "typer", "esmgn_esm2", "esmgn_core.host.registry"])
def test_ctrl_c_while_the_program_starts_ends_it_without_a_traceback(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START.format(module=module)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_files_are_written_before_a_terminal_that_closes_early(tmp_path: Path) -> None:
    """``esmgn mutate ... | head -0``: the table and the picture are written."""
    write_pdb(example_proteins()[4], tmp_path / "p.pdb")
    out, picture = tmp_path / "scan.csv", tmp_path / "scan.svg"
    model = ["--seq", "esm2_tiny", "--set", "seq.lm_head=true"]
    command = [sys.executable, "-m", "esmgn_cli", "mutate", str(tmp_path / "p.pdb"), "--all", *model]
    reading, writing = os.pipe()
    os.close(reading)
    files = ["-o", str(out), "--picture", str(picture), "--device", "cpu"]
    done = subprocess.run([*command, *files], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert out.is_file(), done.stderr
    assert picture.is_file()
    assert "Traceback" not in done.stderr
