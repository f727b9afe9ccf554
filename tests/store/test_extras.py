"""What needs an extra package: Foldcomp's files, Ray's machines."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from esmgn_core.errors import DataError
from esmgn_core.io import read_protein
from esmgn_core.store import BuildOptions, Store, build
from esmgn_core.store.executors import named_executor

STRUCTURES = Path(__file__).parents[3] / "shared" / "data" / "structures"
real = pytest.mark.skipif(not STRUCTURES.is_dir(), reason=f"needs the structure files in {STRUCTURES}")


@real
def test_a_foldcomp_file_gives_the_model_within_what_foldcomp_loses(make):
    pytest.importorskip("foldcomp")
    store = make(STRUCTURES / "formats" / "test_af.fcz")
    expected = read_protein(STRUCTURES / "afdb" / "AF-A0A0B7P221-F1-model_v2.pdb.gz")
    assert store[0].sequence == expected.sequence
    assert (store[0].backbone - expected.backbone).abs().nan_to_num().max() < 0.25
    assert (store[0].plddt - expected.plddt).abs().max() < 0.5


@real
def test_a_foldcomp_database_is_read_entry_by_entry(make, tmp_path):
    pytest.importorskip("foldcomp")
    entries = {name: (STRUCTURES / "formats" / f"{name}.fcz").read_bytes() for name in ("test_af", "7m0y")}
    offsets = [0, len(entries["test_af"])]
    (tmp_path / "db").write_bytes(b"".join(entries.values()))
    (tmp_path / "db.dbtype").write_bytes(b"\0\0\0\0")
    (tmp_path / "db.index").write_text(
        "".join(
            f"{number}\t{offset}\t{len(content)}\n"
            for number, (offset, content) in enumerate(zip(offsets, entries.values(), strict=True))
        )
    )
    (tmp_path / "db.lookup").write_text("0\ttest_af\t0\n1\t7m0y\t0\n")
    store = make(tmp_path / "db")
    single = make(STRUCTURES / "formats" / "7m0y.fcz", name="single")
    assert store.names == ["test_af", "7m0y"]
    assert torch.equal(store[1].backbone.nan_to_num(), single[0].backbone.nan_to_num())


def test_without_the_package_the_extra_is_named(make, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "foldcomp", None)
    (tmp_path / "x.fcz").write_bytes(b"FCMP")
    with pytest.raises(DataError, match=r"pip install 'esmgn\[foldcomp\]'"):
        make(tmp_path / "x.fcz")


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DataError, match=r"pip install 'esmgn\[ray\]'"):
        named_executor("ray", 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_local_ray_makes_the_same_store(folder, make, tmp_path):
    pytest.importorskip("ray")
    for copy in range(70):
        os.link(folder / "pair.pdb", folder / f"copy{copy}.pdb")
    make(folder, name="one")
    build([str(folder)], tmp_path / "two", BuildOptions(), executor=named_executor("ray", 2))
    names = [Store(tmp_path / name).names for name in ("one", "two")]
    assert names[0] == names[1]
    shards = [tmp_path / name / "shards" / "00000.safetensors" for name in ("one", "two")]
    assert shards[0].read_bytes() == shards[1].read_bytes()
