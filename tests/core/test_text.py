"""Text as editors, spreadsheets and Windows leave it is read like plain UTF-8."""

from __future__ import annotations

import bz2
import codecs
import gzip
import logging
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esmgn_core.errors import DataError, RunError, SettingsError, StructureError
from esmgn_core.host.configure import data_tables, read_run_file
from esmgn_core.host.presets import read_registry
from esmgn_core.host.registry import discover
from esmgn_core.inference.fasta import read_fasta
from esmgn_core.inference.mutate.assays import find_assays, read_measurements
from esmgn_core.inference.outputs import check_writable
from esmgn_core.store.chains import read_chains
from esmgn_core.store.fetch import _entries
from esmgn_core.store.splits import read_clusters, read_splits
from esmgn_core.text import read_lines, read_text
from esmgn_datasets.cells import Mistakes, read_rows
from esmgn_datasets.function import read_ec_annotation, read_identities
from esmgn_datasets.table_labels import TableLabels

HABITS = {
    "as it is": lambda text: text.encode(),
    "byte order mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16, little end first": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16, big end first": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "CR LF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "CR, no last line end": lambda text: text.rstrip("\n").replace("\n", "\r").encode(),
    "the end of file of DOS": lambda text: text.replace("\n", "\r\n").encode() + b"\x1a",
    "gzip": lambda text: gzip.compress(codecs.BOM_UTF8 + text.encode()),
    "bzip2": lambda text: bz2.compress(text.replace("\n", "\r\n").encode()),
    "xz": lambda text: lzma.compress(text.encode()),
}

EC_FILE = "comment\n1.1.1.1\t2.2.2.2\nchain\tnumbers\n1ABC-A\t2.2.2.2\n"


def assay(file: Path) -> object:
    return read_measurements(find_assays(file.parent)[0])


def classes(file: Path) -> object:
    return TableLabels([], Mistakes(file), kind="classification", columns=["label"], classes=file).names


def rows(file: Path) -> object:
    return read_rows(file)


READERS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "FASTA": (read_fasta, "x.fasta", ">a first\nMKV\nLA\n>b\nGG\n"),
    "run file": (read_run_file, "run.toml", "[train]\nmax_steps = 2\n"),
    "registry": (read_registry, "registry.toml", 'schema = 1\ndisabled = ["x"]\n'),
    "clusters": (read_clusters, "clusters.tsv", "p0\tp0\np0\tp1\n"),
    "splits": (read_splits, "splits.tsv", "name\tsplit\np0\ttrain\np1\tvalid\n"),
    "chains": (read_chains, "chains.txt", "1ABC-A\n2XYZ_B\n"),
    "identifiers": (lambda file: list(_entries(file)), "ids.txt", "1ABC\nP00257\n"),
    "scan": (assay, "scan.csv", "mutant,DMS_score\nA1G,0.5\nK2E,-1\n"),
    "classes": (classes, "classes.txt", "alpha\nbeta\n"),
    "table": (rows, "table.csv", "file,label\na.pdb,alpha\nb.pdb,beta\n"),
    "annotation": (read_ec_annotation, "annotation.tsv", EC_FILE),
    "identities": (read_identities, "identities.csv", "chain,<30%,<40%\n1ABC-A,1,0\n"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("habit", HABITS)
def test_every_text_of_a_user_reads_the_same(reader: str, habit: str, tmp_path: Path) -> None:
    """What Notepad, Excel and old editors add to a file changes nothing."""
    read, name, text = READERS[reader]
    folders = [tmp_path / "plain", tmp_path / "other"]
    results: list[Any] = []
    for folder, content in zip(folders, (text.encode(), HABITS[habit](text)), strict=True):
        folder.mkdir()
        (folder / name).write_bytes(content)
        results.append(read(folder / name))
    if reader == "scan":
        assert len(results[1].variants) == 2
    assert results[0] == results[1]
    assert results[0]


def test_a_latin_letter_is_read_and_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The other letters of the file keep their UTF-8."""
    file = tmp_path / "x.txt"
    file.write_bytes("ångström\n".encode() + "naïve\nMüller\n".encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        assert list(read_lines(file)) == ["ångström", "naïve", "Müller"]
    assert caplog.messages == [f"{file}, line 2 is not UTF-8; read as Latin-1: naïve"]


def test_line_ends_are_those_of_editors_alone(tmp_path: Path) -> None:
    """A form feed or a Unicode separator does not end a line, unlike in str.splitlines."""
    file = tmp_path / "x.txt"
    file.write_bytes("a\x0bb\x0cc\u2028d\x85e\n".encode())
    assert list(read_lines(file)) == ["a\x0bb\x0cc\u2028d\x85e"]
    assert read_text(file).count("\n") == 1


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("byte", [2, -6])
def test_streams_are_read_one_after_another_and_none_is_lost(pack, byte: int, tmp_path: Path) -> None:
    first, second, file = pack(b"a\n"), bytearray(pack(b"b\n")), tmp_path / "x.txt"
    file.write_bytes(first + bytes(8) + second)
    assert read_text(file) == "a\nb\n"
    second[byte] ^= 0xFF
    file.write_bytes(first + second)
    with pytest.raises(ValueError, match="the packed stream is cut off or damaged"):
        read_text(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04\x14\x00", "it is not text but a zip archive or an Excel workbook"),
        (
            "a\tb\n".encode("utf-16-le"),
            "line 1 is not text .it has the character 0x00.: save the file as UTF-8",
        ),
        (b"\xff\xfea", "truncated data"),
        (gzip.compress(b"a" * 1000, mtime=0)[:-9], "the packed stream is cut off or damaged"),
        (bz2.compress(b"a" * 1000)[:-9], "the packed stream is cut off or damaged"),
        (lzma.compress(b"a" * 1000)[:-9], "the packed stream is cut off or damaged"),
        (b"\x1f\x8bnothing", "the packed stream is cut off or damaged"),
    ],
)
def test_a_file_that_is_not_text_is_refused_with_the_reason(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_text(file)


def test_a_gzip_bomb_is_not_unfolded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmgn_core.text._MAX_INFLATED", 1 << 20)
    file = tmp_path / "x.fasta.gz"
    file.write_bytes(gzip.compress(b">a\n" + b"A" * (1 << 21)))
    with pytest.raises(StructureError, match="inflates to more than 1 MiB: unpack it first"):
        read_fasta(file)


def test_a_binary_file_costs_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "book.xlsx"
    file.write_bytes(b"PK\x03\x04\0\0")
    for read, kind in ((read_chains, DataError), (read_run_file, SettingsError), (read_clusters, DataError)):
        with pytest.raises(kind, match="save the table as CSV"):
            read(file)


def test_paths_that_are_not_utf_8_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    """A run file and the files of libraries could not hold them."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    try:
        path.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(SettingsError, match="is not UTF-8 and cannot be written to a run file"):
        data_tables(discover(), str(path))
    with pytest.raises(RunError, match="is not UTF-8"):
        check_writable(path / "x.npz", flag="--out")


CASE = Path(__file__).parents[3] / "shared" / "cases" / "byte-order-mark"


@pytest.mark.skipif(not CASE.is_dir(), reason=f"needs {CASE}")
def test_the_files_of_a_bug_report() -> None:
    """A cluster keeps its representative, the first chain and class their names."""
    assert read_clusters(CASE / "clu_bom.tsv") == read_clusters(CASE / "clu.tsv")
    assert next(read_lines(CASE / "classes_bom.txt")) == "alpha"
    assert read_run_file(CASE / "bom.toml").keys() >= {"seq"}
    assert len(read_fasta(CASE / "bom.fasta")) == 2
    assert len(read_fasta(CASE / "latin.fasta")) == 1
    assert not any("\ufeff" in entry for entry in read_chains(CASE / "chains_bom.txt"))


def test_a_line_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a device took all memory."""
    monkeypatch.setattr("esmgn_core.text._MAX_LINE", 1 << 20)
    with pytest.raises(ValueError, match="line 1 is not text"):
        read_text(Path("/dev/zero"))


def test_lines_up_to_the_limit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmgn_core.text._MAX_LINE", 4)
    (tmp_path / "x").write_text("abc\nab\nabc\r\nabc")
    assert list(read_lines(tmp_path / "x")) == ["abc", "ab", "abc", "abc"]
