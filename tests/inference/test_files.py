"""Embedding files of four formats hold the same data, and other libraries can read them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from esmgn_core.errors import RunError
from esmgn_core.inference.embed.files import FORMATS, format_of, read_metadata, read_proteins, residue_file
from esmgn_core.inference.embed.job import Options, embed_files

from .conftest import SMALL

OPTIONS = {name: Options(file_format=name, devices=("cpu",)) for name in FORMATS}


@pytest.fixture
def written(folder: Path, tmp_path: Path) -> dict[str, Path]:
    """The same embeddings in every format; one protein has two chains and insertion codes."""
    text = (folder / "protein0.pdb").read_text().splitlines()
    half = len(text) // 2
    moved = [line[:21] + "B" + line[22:26] + "C" + line[27:] for line in text[half - half % 4 : -1]]
    (folder / "protein0.pdb").write_text("\n".join([*text[: half - half % 4], *moved, "END", ""]))
    files = {name: tmp_path / f"out.{name}" for name in FORMATS}
    for name, file in files.items():
        embed_files(SMALL, [folder], file, OPTIONS[name])
    return files


def test_all_formats_hold_the_same_data(written: dict[str, Path]) -> None:
    with np.load(written["npz"]) as file:
        expected = dict(file)
    assert {"A", "B"} == set(expected["chain"])
    assert {"", "C"} == set(expected["insertion_code"])
    arrays = load_file(written["safetensors"])
    assert arrays.keys() == expected.keys() - {"esmgn"}
    with h5py.File(written["hdf5"]) as file:
        assert set(file) == arrays.keys()
        for name, array in expected.items():
            if name == "esmgn":
                continue
            text = array.dtype.kind == "U"
            stored = file[name].asstr()[()] if text else file[name][()]
            codes = arrays[name]
            tensors = [bytes(row).rstrip(b"\0").decode() for row in codes] if text else codes
            assert np.array_equal(stored, array, equal_nan=name == "plddt"), name
            assert np.array_equal(tensors, array, equal_nan=name == "plddt"), name
    proteins = pq.read_table(written["parquet"])
    assert proteins["name"].to_pylist() == expected["name"].tolist()
    assert np.array_equal(np.array(proteins["embedding"].to_pylist(), np.float32), expected["protein"])
    residues = pq.read_table(residue_file(written["parquet"]))
    assert np.array_equal(np.array(residues["embedding"].to_pylist(), np.float32), expected["residue"])
    for name in ("chain", "residue_number", "insertion_code", "residue_letter"):
        assert residues[name].to_pylist() == expected[name].tolist()
    assert residues["name"].to_pylist() == np.repeat(expected["name"], expected["num_residues"]).tolist()


def test_every_format_is_read_back(written: dict[str, Path]) -> None:
    tables = [read_proteins(path) for path in written.values()]
    for table in tables[1:]:
        assert table.names == tables[0].names
        assert np.array_equal(table.vectors, tables[0].vectors)
        assert table.metadata["fingerprint"] == tables[0].metadata["fingerprint"]
    assert tables[0].metadata["model"] == SMALL.record() | {"changes": list(SMALL.changes)}


def test_a_file_of_residues_alone_is_refused_if_proteins_are_needed(folder: Path, tmp_path: Path) -> None:
    for name in FORMATS:
        out = tmp_path / f"residues.{name}"
        embed_files(SMALL, [folder], out, Options(level="residue", file_format=name, devices=("cpu",)))
        with pytest.raises(RunError, match="holds embeddings of residues only"):
            read_proteins(out)


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", protein=np.zeros((2, 3)))
    (tmp_path / "text.h5").write_text("nothing")
    for file in tmp_path.iterdir():
        assert read_metadata(file) is None
        with pytest.raises(RunError):
            read_proteins(file)


@pytest.mark.parametrize(
    ("file", "named", "expected"),
    [("a.h5", None, "hdf5"), ("a.PARQUET", None, "parquet"), ("a", "npz", "npz"), ("a.h5", "npz", "npz")],
)
def test_the_suffix_or_the_flag_selects_the_format(file: str, named: str | None, expected: str) -> None:
    assert format_of(Path(file), named) == expected


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(RunError) as caught:
        format_of(Path("out.csv"), None)
    assert str(caught.value).splitlines()[0] == "out.csv has an unknown suffix (--out)"
    with pytest.raises(RunError, match="did you mean: parquet"):
        format_of(Path("out.csv"), "parket")
