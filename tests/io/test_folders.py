"""Every entry of a folder is read, refused with the reason, or counted; none ends the search or blocks it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import socket
from pathlib import Path

import pytest

from esmgn_core.errors import StructureError
from esmgn_core.io import find_structures, read_protein, read_structures
from esmgn_core.io.folders import nothing_found, passed_over_text, search
from esmgn_core.io.names import structure_name

from .made_up import chain, cif, pdb

TEXT = pdb(chain("MET", "LYS"))
CASE = Path(__file__).parents[3] / "shared" / "cases" / "assembly-and-other-endings-in-a-folder" / "asm"


def put(folder, **files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def account(folder):
    """Names of the files read, and the reason of each refusal by name."""
    found = search([folder])
    return (
        [path.relative_to(folder).as_posix() for path in found.files],
        {item.path.relative_to(folder).as_posix(): item.reason for item in found.refused},
        found.passed_over,
    )


READ = {
    "1abc.pdb1": TEXT.encode(),
    "1abc.pdb12": TEXT.encode(),
    "1abc.pdb1.gz": gzip.compress(TEXT.encode()),
    "2abc.PDB1.GZ": gzip.compress(TEXT.encode()),
    "a b#1.PDB": TEXT.encode(),
    "b.pdb.bz2": bz2.compress(TEXT.encode()),
    "c.cif.xz": lzma.compress(cif(chain("MET", "LYS")).encode()),
    "dock.pdbqt": TEXT.replace("           C\n", "    -0.300 C \n").encode(),
    "d1asha_": TEXT.encode(),
    "e.ent.bz2": bz2.compress(TEXT[:400].encode()) + bz2.compress(TEXT[400:].encode()),
    "f.pdb.xz": lzma.compress(TEXT[:400].encode()) + bytes(8) + lzma.compress(TEXT[400:].encode()),
}


@pytest.mark.parametrize("name", READ)
def test_assemblies_packed_files_and_other_cases_are_read(name, tmp_path):
    put(tmp_path, **{name: READ[name]})
    assert account(tmp_path) == ([name], {}, {})
    assert read_protein(tmp_path / name).sequence == "MK"


def test_a_folder_of_assemblies_alone_has_structures(tmp_path):
    put(tmp_path, **{"1abc.pdb1.gz": READ["1abc.pdb1.gz"], "2abc.pdb1.gz": READ["1abc.pdb1.gz"]})
    proteins, refused = read_structures(find_structures([tmp_path]))
    assert [protein.name for protein in proteins] == ["1abc.pdb1", "2abc.pdb1"]
    assert refused == []


@pytest.mark.skipif(not CASE.is_dir(), reason=f"needs {CASE}")
def test_the_folder_of_a_bug_report_is_read_whole():
    proteins, refused = read_structures(search([CASE]).files)
    assert len(proteins) == 7
    assert {len(protein) for protein in proteins} == {10}
    assert refused == []


def test_packed_files_are_named_without_their_endings():
    names = ["x.pdb.bz2", "x.cif.xz", "1abc.pdb1.gz", "X.PDBQT"]
    assert [structure_name(name) for name in names] == ["x", "x", "1abc.pdb1", "X"]


OTHER = {
    "x.mmtf": (b"\xde\x00'\xabmmtfVersion", "MMTF format is not read: get the entry as mmCIF"),
    "x.pqr": (TEXT.encode(), "PQR format has charges and radii instead of occupancy and B-factor"),
    "x.gro": (b"title\n    0\n", "GRO format of GROMACS is not read: convert it"),
    "x.mol2": (b"@<TRIPOS>MOLECULE\n", "MOL2 format is not read"),
    "x.sdf.gz": (b"", "SDF/MOL format, for small molecules"),
    "x.xyz": (b"1\n\nC 0.0 0.0 0.0\n", "XYZ format has no residues"),
    "x.pdb.zst": (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it first"),
    "x.ent.Z": (b"\x1f\x9d", "packed with compress"),
    "x.pdb.lz4": (b"", "packed with lz4"),
    "x.xtc": (b"", "a trajectory: name it and its structure, esmgn data build FILE --topology"),
    "x.pse": (b"", "a PyMOL session is not read: save it as PDB or mmCIF"),
    "x.7z": (b"7z\xbc\xaf", "an archive packed with 7z"),
    "x.json": (b' {"data_1ABC": {}}', "mmJSON format is not read: get the entry as mmCIF"),
    "x.json.gz": (gzip.compress(b'{\n"data_1ABC": {}}'), "mmJSON format is not read"),
    "x.xml": (b"<?xml version='1.0'?>\n<PDBx:datablock>", "PDBML .PDB as XML. is not read: get the entry"),
    "x.pdb.bak": (TEXT.encode(), "begins like PDB, but files ending with '.bak' are read only if named"),
    "x.txt.gz": (gzip.compress(TEXT.encode()), "begins like PDB, but files ending with '.gz'"),
    "x.bz2": (bz2.compress(TEXT.encode()), "begins like PDB, but files ending with '.bz2'"),
    "x.xz": (lzma.compress(TEXT.encode()), "begins like PDB, but files ending with '.xz'"),
    "x.txz": (b"", "an archive; build a store from it"),
    "x.cif~": (cif(chain("MET")).encode(), "begins like mmCIF, but files ending with '.cif~'"),
    "x.tar": (b"", "an archive; build a store from it: esmgn data build"),
    "x.zip": (b"", "an archive; build a store from it"),
    "x.fcz": (b"FCMP", "an archive; build a store from it"),
}


@pytest.mark.parametrize("name", OTHER)
def test_what_looks_like_a_structure_and_is_not_read_is_refused(name, tmp_path):
    content, reason = OTHER[name]
    put(tmp_path, **{name: content, "ok.pdb": TEXT})
    found = search([tmp_path])
    assert [path.name for path in found.files] == ["ok.pdb"]
    (refusal,) = found.refused
    assert refusal.path.name == name
    with pytest.raises(StructureError, match=reason):
        raise StructureError(refusal.reason)


def test_other_files_are_counted(tmp_path):
    confidences = {f"x{i}_confidences.json": '{"atom_plddts": [1.0]}' for i in range(3)}
    put(tmp_path, **confidences, **{"README.md": "# x", "t.tsv": "a\tb", "LICENSE": "x", "scores.npz": b"PK"})
    files, refused, others = account(tmp_path)
    assert (files, refused) == ([], {})
    expected = "7 other files passed over (3 .json, 1 without a known ending, 1 .md, 1 .npz, 1 .tsv)"
    assert passed_over_text(others) == expected
    error = nothing_found([tmp_path], search([tmp_path]))
    assert error.hints == ("looked for PDB and mmCIF files by their ending", expected)


def test_a_folder_without_one_readable_structure_says_why(tmp_path):
    put(tmp_path, **{f"{i}.mol2": "x" for i in range(5)})
    error = nothing_found([tmp_path], search([tmp_path]))
    assert error.message.endswith("none of 5 files that look like structures can be read")
    assert error.hints[0] == f"{tmp_path}/0.mol2: MOL2 format is not read: convert it to PDB or mmCIF first"
    assert error.hints[-1] == "... and 2 more"


def test_linked_folders_are_searched_once(tmp_path):
    """Also where links make a circle, lead to the searched folder, above it, or to a hidden folder."""
    put(tmp_path, **{"out/a.pdb": TEXT, "in/b.pdb": TEXT, "in/.hidden/c.pdb": TEXT})
    folder = tmp_path / "in"
    for name, target in {
        "1": "../out",
        "2": "../out",
        "3": ".",
        "4": "..",
        "5": ".hidden",
        "6": "b.pdb",
    }.items():
        (folder / name).symlink_to(target)
    (tmp_path / "out" / "back").symlink_to(folder)
    (folder / "6").rename(folder / "6.pdb")
    files, refused, _ = account(folder)
    assert files == ["6.pdb", "b.pdb", "1/a.pdb", "5/c.pdb"]
    assert refused == {
        "2": f"a link to the folder {tmp_path}/out, which is searched already",
        "3": f"a link to the folder {folder}, which is searched already",
        "4": f"a link to the folder {tmp_path}, which is above the searched folder",
        "1/back": f"a link to the folder {folder}, which is searched already",
    }


def test_broken_and_special_entries_are_refused_at_once(tmp_path):
    put(tmp_path, **{"ok.pdb": TEXT})
    (tmp_path / "dangling.pdb").symlink_to("gone.pdb")
    (tmp_path / "loop.pdb").symlink_to("loop.pdb")
    os.mkfifo(tmp_path / "pipe.pdb")
    (tmp_path / "zero.pdb").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        server.bind("socket.pdb")
        os.chdir(here)
        files, refused, _ = account(tmp_path)
    assert files == ["ok.pdb"]
    assert refused == {
        "dangling.pdb": "a link to gone.pdb, which does not exist",
        "loop.pdb": "cannot be opened: Too many levels of symbolic links",
        "pipe.pdb": "a named pipe, not a file",
        "socket.pdb": "a socket, not a file",
        "zero.pdb": "a device, not a file",
    }


def test_a_pipe_that_is_named_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.pdb")
    with pytest.raises(StructureError, match=r"pipe\.pdb: a named pipe, not a file"):
        read_protein(tmp_path / "pipe.pdb")


def test_a_folder_inside_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    put(tmp_path, **{"a/x.pdb": TEXT, "closed/y.pdb": TEXT, "z.pdb": TEXT})
    scandir = os.scandir

    def closed(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    files, refused, _ = account(tmp_path)
    assert files == ["a/x.pdb", "z.pdb"]
    assert refused == {"closed": "the folder cannot be listed: Permission denied"}


def test_names_that_are_not_utf_8_are_escaped(tmp_path):
    try:
        for name in (b"caf\xe9.pdb", b"new\nline.pdb"):
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(TEXT)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    proteins, refused = read_structures(search([tmp_path]).files)
    assert [protein.name for protein in proteins] == [r"caf\xe9", "new\nline"]
    assert refused == []


def test_an_atom3d_data_set_in_a_folder_needs_a_store(tmp_path):
    put(tmp_path, **{"set/data.mdb": b"\0", "set/lock.mdb": b"\0", "x.pdb": TEXT})
    files, refused, others = account(tmp_path)
    assert files == ["x.pdb"]
    assert refused == {
        "set/data.mdb": f"an ATOM3D data set; build a store from it: esmgn data build {tmp_path}/set"
    }
    assert others == {}


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_a_bomb_is_not_unfolded(pack, tmp_path, monkeypatch):
    monkeypatch.setattr("esmgn_core.io.files._MAX_INFLATED", 1 << 16)
    path = tmp_path / "x.pdb"
    path.write_bytes(pack(bytes(1 << 18)))
    with pytest.raises(StructureError, match=r"inflates to more than 0 MiB: damaged, or a \w+ bomb"):
        read_protein(path)


def test_a_broken_link_that_a_shell_found_is_refused(tmp_path):
    put(tmp_path, **{"ok.pdb": TEXT})
    (tmp_path / "gone.pdb").symlink_to("nowhere")
    found = search([tmp_path / "gone.pdb", tmp_path / "ok.pdb"])
    assert found.files == [tmp_path / "ok.pdb"]
    assert [item.reason for item in found.refused] == ["a link to nowhere, which does not exist"]


def test_folders_may_be_deeper_than_the_stack(tmp_path):
    here, depth = Path.cwd(), 600
    try:
        os.chdir(tmp_path)
        for _ in range(depth):
            Path("d").mkdir()
            os.chdir("d")
        Path("x.pdb").write_text(TEXT)
    finally:
        os.chdir(here)
    (file,) = search([tmp_path]).files
    assert len(file.relative_to(tmp_path).parts) == depth + 1
