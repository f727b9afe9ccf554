"""Every entry of a folder and every member of an archive is in the store, refused or counted."""

from __future__ import annotations

import bz2
import gzip
import os
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from esmgn_core.errors import DataError
from esmgn_core.io.write import pdb_text
from esmgn_core.store import BuildOptions, Store, build

from .conftest import tar
from .test_build import reasons


def test_one_account_per_entry(tmp_path, make, proteins):
    """Pipes, broken links, unread formats and unreadable folders do not end the build."""
    folder = tmp_path / "mixed"
    (folder / "empty.d").mkdir(parents=True)
    text = pdb_text(proteins[0]).encode()
    read = {
        "1abc.pdb1.gz": gzip.compress(text),
        "b.pdb.bz2": bz2.compress(text),
        "c.pdb2": text,
        "d1asha_": text,
        "z.pdbqt": text,
    }
    for name, content in {**read, "x.pqr": text, "x.mmtf": b"", "old.bak": text, "README.md": b"x"}.items():
        (folder / name).write_bytes(content)
    (folder / "broken.pdb").symlink_to("nowhere")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe.pdb")
    store = make(folder)
    assert store.names == ["1abc.pdb1", "b", "c.pdb2", "d1asha_", "z"]
    refused = reasons(store)
    assert refused["pipe.pdb"] == "a named pipe, not a file"
    assert refused["broken.pdb"] == "a link to nowhere, which does not exist"
    assert refused["loop"] == f"a link to the folder {folder}, which is searched already"
    assert refused.keys() == {"broken.pdb", "loop", "old.bak", "pipe.pdb", "x.mmtf", "x.pqr"}


def test_files_of_other_kinds_are_counted_also_after_an_interruption(folder, tmp_path):
    for name in ("a.tsv", "b.tsv", "README.md"):
        (folder / name).write_text("x")
    expected = {".tsv": 2, ".md": 1}
    report = build([str(folder)], tmp_path / "one", BuildOptions())
    assert report.passed_over == expected
    build([str(folder)], tmp_path / "two", BuildOptions(share=(1, 2)))
    assert build([], tmp_path / "two", BuildOptions()).passed_over == expected


def test_a_name_that_is_not_utf_8_is_read_stored_escaped_and_known_again(tmp_path, make, proteins):
    folder = tmp_path / "names"
    folder.mkdir()
    text = pdb_text(proteins[0])
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.pdb")).write_text(text)
        (inner := Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for place in (folder, inner):  # the same name twice: it is made longer by the folder's
        (place / "x.pdb").write_text(text)
    store = make(folder)
    assert store.names == [r"caf\xe9", "x", r"\xff/x"] or sorted(store.names) == sorted(
        [r"caf\xe9", "x.pdb", r"\xff/x"]
    )
    assert store.index(["source"]).column("source")[0].as_py() == rf"{folder}/caf\xe9.pdb"
    assert build([str(folder)], tmp_path / "store", BuildOptions(append=True)).planned == 0
    assert len(make(inner, name="inner")) == 1


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_of_archives_are_accounted_for_too(kind, tmp_path, proteins):
    text = pdb_text(proteins[0]).encode()
    members = {
        "1abc.pdb1.gz": gzip.compress(text),
        "b.pdb.bz2": bz2.compress(text),
        "dir/x.mol2": b"",
        "x.pdb.zst": b"",
        "inner.tar": b"",
        "x_confidences.json": b"{}",
        "README": b"",
    }
    archive = tmp_path / f"all.{kind}"
    if kind == "tar":
        tar(archive, members)
    else:
        with zipfile.ZipFile(archive, "w") as opened:
            for name, content in members.items():
                opened.writestr(name, content)
    report = build([str(archive)], tmp_path / "store", BuildOptions())
    store = Store(tmp_path / "store")
    assert store.names == ["1abc.pdb1", "b"]
    refused = reasons(store)
    assert refused.pop("inner.tar") == "an archive inside an archive: unpack it first"
    assert refused.pop("x.pdb.zst") == "packed with zstd: unpack it first (unzstd)"
    assert refused.pop("x.mol2").startswith("MOL2 format is not read")
    assert refused == {}
    assert report.passed_over == {".json": 1, "without a known ending": 1}


def test_tar_members_with_names_that_are_not_utf_8_keep_apart(tmp_path, make, proteins):
    text = pdb_text(proteins[0]).encode()
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", encoding="latin-1", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("\xe9.pdb", "\xe8.pdb"):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, fileobj=BytesIO(text))
    assert make(path).names == [r"\xe9", r"\xe8"]


def test_what_cannot_be_opened_in_a_folder_costs_itself_alone(make, folder, proteins, monkeypatch):
    """Foldcomp files without the package, a damaged ATOM3D data set, an archive that is none."""
    monkeypatch.setitem(sys.modules, "foldcomp", None)
    (folder / "x.fcz").write_bytes(b"FCMP")
    (folder / "set").mkdir()
    (folder / "set" / "data.mdb").write_bytes(b"\0" * 5000)
    (folder / "x.zip").write_bytes(b"PK")
    store = make(folder)
    assert len(store) == len(proteins)
    refused = reasons(store)
    assert "pip install 'esmgn[foldcomp]'" in refused["x.fcz"]
    assert refused["x.zip"].startswith("a damaged zip archive")
    assert refused.keys() == {"empty", "x.fcz", "set", "x.zip"}


def test_a_named_pipe_is_refused_at_once(tmp_path, make):
    os.mkfifo(tmp_path / "pipe.pdb")
    assert reasons(make(tmp_path / "pipe.pdb")) == {"pipe.pdb": "a named pipe, not a file"}


def test_nothing_but_other_files_says_which(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.tsv").write_text("x")
    with pytest.raises(DataError) as caught:
        build([str(tmp_path / "in")], tmp_path / "store", BuildOptions())
    assert caught.value.hints[-1] == "1 other file passed over (1 .tsv)"


def test_a_store_has_a_path_in_utf_8(folder, tmp_path):
    store = Path(os.fsdecode(os.fsencode(tmp_path) + b"/st\xe9"))
    with pytest.raises(DataError, match="the path of the store is not UTF-8"):
        build([str(folder)], store, BuildOptions())
    assert not store.exists()


def test_a_broken_link_that_a_glob_found_is_refused(folder, make, proteins):
    (folder / "gone.pdb").symlink_to("nowhere")
    store = make(folder / "*.pdb", folder / "gone.pdb")
    assert len(store) == len(proteins)
    assert reasons(store)["gone.pdb"] == "a link to nowhere, which does not exist"


def test_what_is_named_twice_is_read_once(folder, make, proteins):
    """Also below a folder that is named; a file that the folder would pass over is read."""
    (folder / "x.dat").write_text(pdb_text(proteins[0]))
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "y.pdb").write_text(pdb_text(proteins[0]))
    first = folder / f"{proteins[0].name}.pdb"
    store = make(first, folder, folder / "empty.pdb", folder, folder / ".hidden")
    assert sorted(store.names) == sorted([*(protein.name for protein in proteins), "y"])
