"""What a reader left out of a file is said by every command that reads files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..io.made_up import chain, pdb
from .conftest import Esmgn

TWENTY = ("MET", "LYS", "HIS", "LEU", "ALA", "GLU", "ASP", "CYS", "LYS", "SER", "GLY", "GLY")
TINY = ("--seq", "esm2_tiny")
NOTE = "residues after END were not read: 12"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files with a second chain after END, of 12 and 3 residues, and one without."""
    path = tmp_path / "files"
    path.mkdir()
    first = pdb(chain(*TWENTY))
    (path / "a.pdb").write_text(first + "END\n" + pdb(chain(*TWENTY, chain="B", shift=30.0)) + "END\n")
    (path / "b.pdb").write_text(first + "END\n" + pdb(chain("GLY", "ALA", "SER", chain="B")))
    (path / "c.pdb").write_text(first + "END\n")
    return path


GROUPED = "2 files: residues after END were not read: 3 to 12 ({})"


def test_embed_prints_notes_also_if_nothing_is_left_to_do(esmgn: Esmgn, folder: Path, tmp_path: Path) -> None:
    command = ("embed", folder, "-o", tmp_path / "out.npz", *TINY)
    for _ in range(2):
        assert f"note: {GROUPED.format('a.pdb, b.pdb')}\n" in esmgn(*command).err


def test_mutate_prints_notes_and_writes_them_with_the_table(
    esmgn: Esmgn, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    done = esmgn("mutate", folder / "a.pdb", "K2A", *TINY, "-o", out)
    assert f"note: a.pdb: {NOTE}\n" in done.err
    assert NOTE in out.read_text() + "".join(p.read_text() for p in tmp_path.glob("out.json*"))


def test_a_store_keeps_it_and_build_list_show_and_report_say_it(
    esmgn: Esmgn, folder: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    line = f"note: {GROUPED.format('a, b')}"
    assert line in esmgn("data", "build", folder, "-o", store, "--workers", 1).out.splitlines()
    listed = esmgn("data", "list", store).out.splitlines()
    assert [row.split("\t")[-1] for row in listed] == ["notes", NOTE, NOTE.replace("12", "3"), "-"]
    assert f"note           {NOTE}" in esmgn("data", "show", store, "a").out.splitlines()
    assert line in esmgn("data", "report", store).out.splitlines()
    assert GROUPED.format("a, b") in (store / "report.html").read_text()


@pytest.mark.parametrize("built", [False, True])
def test_run_and_check_say_so(esmgn: Esmgn, folder: Path, tmp_path: Path, built: bool) -> None:
    data = folder
    if built:
        data = tmp_path / "store"
        esmgn("data", "build", folder, "-o", data, "--workers", 1)
    small = ("--set", "struct.hidden_dim=8", "--set", "struct.num_layers=1", "--set", "train.max_steps=1")
    out = tmp_path / "run"
    done = esmgn(
        "run", "--data", data, *TINY, "--pretext", "residue_type", *small, "--out", out,
        "--set", "data.valid_fraction=0", "--set", "train.device=cpu", "--set", "train.trackers=[]",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert f"note: {GROUPED.format('a, b')}" in " ".join(done.err.split())
    assert GROUPED.format("a, b") in (out / "log.txt").read_text()
    checked = esmgn("check", "--data", data, "--set", "seq.name=esm2_tiny", *small)
    assert GROUPED.format("a, b") in checked.out


def test_further_models_and_data_after_end_are_counted(esmgn: Esmgn, tmp_path: Path) -> None:
    """As in the ``.pdb1`` files of assemblies."""
    model = "MODEL        {}\n" + pdb(chain(*TWENTY)) + "TER\nENDMDL\n"
    text = "".join(model.format(number) for number in (1, 2, 3)) + pdb(chain("GLY", "GLY", chain="B"))
    (tmp_path / "x.pdb1").write_text(text + "END\n")
    err = esmgn("embed", tmp_path / "x.pdb1", "-o", tmp_path / "out.npz", *TINY).err
    assert "note: x.pdb1: models after the first were not read: 2\n" in err
    assert "note: x.pdb1: residues after END were not read: 2\n" in err
