"""Finding files, naming proteins, and recognising what is in a file."""

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pytest

from esmgn_core.errors import StructureError
from esmgn_core.io import (
    Refusal,
    find_structures,
    iter_structures,
    read_protein,
    read_structures,
    unique_names,
)

from .made_up import chain, cif, pdb

TEXT = pdb(chain("MET", "LYS"))


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b/two.PDB",
        "b/one.cif.gz",
        "a.ent",
        "c.mmcif",
        "d.bcif",
        ".hidden.pdb",
        "notes.txt",
        "e.gz",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(TEXT)
    return tmp_path


def test_a_directory_is_searched_recursively_by_ending_and_sorted(folder):
    found = [path.relative_to(folder).as_posix() for path in find_structures([folder])]
    assert found == ["a.ent", "b/one.cif.gz", "b/two.PDB", "c.mmcif", "d.bcif"]


def test_a_named_file_is_taken_whatever_its_ending(folder):
    assert find_structures([folder / "notes.txt"]) == [folder / "notes.txt"]


def test_order_of_paths_is_kept_and_no_file_comes_twice(folder):
    found = find_structures([str(folder / "c.mmcif"), folder, folder / "a.ent"])
    assert [path.name for path in found] == ["c.mmcif", "a.ent", "one.cif.gz", "two.PDB", "d.bcif"]


def test_a_missing_path_is_an_error(folder):
    with pytest.raises(StructureError, match=r"no such file or directory: .*nowhere"):
        find_structures([folder, folder / "nowhere"])


def test_a_directory_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StructureError, match=r"^cannot list .*: Permission denied$"):
        find_structures([tmp_path])


def test_an_empty_directory_has_no_files(tmp_path):
    assert find_structures([tmp_path]) == []
    assert unique_names([]) == []


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("AF-P00257-F1-model_v4.pdb.gz", "AF-P00257-F1-model_v4"),
        ("1a8o.cif", "1a8o"),
        ("pdb1a8o.ENT.GZ", "pdb1a8o"),
        ("3jqh.bcif.gz", "3jqh"),
        ("v1.2.pdb", "v1.2"),
        ("d1asha_", "d1asha_"),
        ("my.model", "my.model"),
    ],
)
def test_proteins_are_named_after_files_without_endings(file, name):
    assert unique_names([Path("somewhere", file)]) == [name]


def test_files_of_one_name_are_told_apart_by_folder_then_by_ending():
    paths = [Path(p) for p in ("x/a/1abc.pdb", "x/b/1abc.pdb", "x/b/1abc.cif", "x/b/2xyz.pdb", "x/1abc.pdb")]
    assert unique_names(paths) == ["a/1abc", "b/1abc.pdb", "b/1abc.cif", "2xyz", "1abc"]


def test_results_come_in_order_each_a_protein_or_a_refusal(folder):
    (folder / "c.mmcif").write_text("")
    results = list(iter_structures(find_structures([folder])))
    assert [type(result).__name__ for result in results] == ["Protein"] * 3 + ["Refusal", "Protein"]
    assert results[3] == Refusal(folder / "c.mmcif", "the file is empty")


@pytest.mark.parametrize("progress", [False, True])
def test_one_bad_file_does_not_stop_the_others(folder, progress, capsys):
    (folder / "a.ent").write_bytes(b"\0\1\2")
    proteins, refusals = read_structures(find_structures([folder]), progress=progress)
    assert [protein.name for protein in proteins] == ["one", "two", "c", "d"]
    assert refusals == [Refusal(folder / "a.ent", "binary data, neither PDB nor mmCIF text")]
    assert capsys.readouterr().out == ""


def test_a_file_that_vanished_is_refused(tmp_path):
    assert list(iter_structures([tmp_path / "gone.pdb"])) == [
        Refusal(tmp_path / "gone.pdb", "cannot be opened: No such file or directory")
    ]


PACKED = gzip.compress(TEXT.encode() * 40, mtime=0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b" \n\t\r\n", "only white space"),
        (gzip.compress(b"", mtime=0), "zero bytes"),
        (gzip.compress(b"\n", mtime=0), "only white space"),
        (PACKED[:-20], "the gzip stream is cut off"),
        (PACKED[:-4], "the gzip stream is cut off"),
        (PACKED[:5], "the gzip stream is cut off"),
        (PACKED[:-8] + bytes(8), "the gzip stream is damaged"),
        (PACKED[:-8] + bytes(4) + PACKED[-4:], "the gzip stream is damaged"),  # only the checksum differs
        (PACKED[:-4] + b"\1\0\0\0", "the gzip stream is damaged"),  # only the size differs
        (PACKED[:-4] + b"\xff\xff\xff\xff", "the gzip stream is damaged"),
        (PACKED[:20] + b"\xff" * 30 + PACKED[50:], "the gzip stream is damaged"),
        (bz2.compress(TEXT.encode())[:-9], "the bzip2 stream is cut off"),
        (b"BZh9" + b"x" * 40, "the bzip2 stream is damaged"),
        (bz2.compress(b""), "the bzip2 file holds zero bytes"),
        (lzma.compress(TEXT.encode())[:-9], "the xz stream is cut off"),
        (b"\xfd7zXZ\0\1\2" + bytes(40), "the xz stream is damaged"),
        (b"\x28\xb5\x2f\xfd\x04", "packed with zstd: unpack it first"),
        (gzip.compress(b"a.pdb".ljust(257, b"\0") + b"ustar\0", mtime=0), "a tar archive"),
        (b"<!DOCTYPE html>\n<html></html>", "an HTML page"),
        (b"\n  <html>", "an HTML page"),
        (b"<?xml version='1.0'?><PDBx:datablock/>", "XML"),
        (bytes(range(256)), "binary data"),
        (b"FCMP\x0c\0", "Foldcomp format: unpack it with `foldcomp decompress`"),
        (b"\xde\x00'\xabmmtfVersion\xa50.2.0", "MMTF format is not read"),
        (
            b"\x83\xa7encoder\xaemol*/ciftools\xa7version\xa50.3.0\xaadataBlocks\x91",
            "the BinaryCIF data are damaged",
        ),
    ],
)
def test_content_that_is_no_structure_text_is_named(tmp_path, content, reason):
    path = tmp_path / "a.pdb"
    path.write_bytes(content)
    with pytest.raises(StructureError, match=r"cannot read .*a\.pdb: .*" + reason):
        read_protein(path)


def test_gzip_members_one_after_another_are_one_file(tmp_path):
    path = tmp_path / "a.pdb.gz"
    lines = TEXT.encode().splitlines(keepends=True)
    path.write_bytes(b"".join(gzip.compress(line) for line in lines))
    assert read_protein(path).sequence == "MK"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("byte", [2, -6])
def test_a_damaged_second_stream_is_refused(tmp_path, pack, byte):
    path = tmp_path / "a.pdb"
    first, second = pack(TEXT[:400].encode()), bytearray(pack(TEXT[400:].encode()))
    second[byte] ^= 0xFF
    path.write_bytes(first + second)
    with pytest.raises(StructureError, match=r"stream is (damaged|cut off)"):
        read_protein(path)


@pytest.mark.parametrize("start", ["", "# comment\n\n", "\n\n"])
def test_mmcif_may_begin_with_comments(tmp_path, start):
    path = tmp_path / "a.pdb"
    path.write_text(start + cif(chain("MET", "LYS")))
    assert read_protein(path).sequence == "MK"


def test_of_several_mmcif_blocks_the_first_with_atoms_is_read(tmp_path):
    path = tmp_path / "a.cif"
    path.write_text("data_HEAD\n_entry.id HEAD\n" + cif(chain("MET", "LYS")))
    assert read_protein(path).sequence == "MK"
