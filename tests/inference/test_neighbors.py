"""Both backends find the nearest proteins."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from json import dumps
from pathlib import Path

import h5py
import numpy as np
import pytest
from torch.profiler import ProfilerActivity, profile

from esmgn_core.errors import EsmgnError, RunError
from esmgn_core.inference.embed.files import read_metadata, read_proteins, write_embeddings
from esmgn_core.inference.embed.job import Options, embed_files
from esmgn_core.inference.embed.search import nearest, neighbors_of

from .conftest import SMALL

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(300, 24)).astype(np.float32)
QUERY = RNG.normal(size=24).astype(np.float32)


def by_definition(metric: str) -> tuple[list[int], list[float]]:
    vectors, query = VECTORS.astype(np.float64), QUERY.astype(np.float64)
    if metric == "cosine":
        scores = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
        order = np.argsort(-scores)[:7]
    else:
        scores = np.linalg.norm(vectors - query, axis=1)
        order = np.argsort(scores)[:7]
    return order.tolist(), scores[order].tolist()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("backend", ["faiss", "torch"])
def test_faiss_and_torch_give_the_neighbours_of_the_definition(backend: str, metric: str) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss")
    rows, scores = by_definition(metric)
    found = nearest(VECTORS, QUERY, 7, metric=metric, backend=backend)
    assert [row for row, _ in found] == rows
    assert [score for _, score in found] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_search_by_torch_makes_no_copy_of_the_vectors(metric: str) -> None:
    vectors = np.zeros((200_000, 64), np.float32)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        nearest(vectors, vectors[0], 5, metric=metric, backend="torch")
    assert max(event.self_cpu_memory_usage for event in measured.key_averages()) < vectors.nbytes / 8


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    out = tmp_path / "out.h5"
    embed_files(SMALL, [folder], out, Options(level="protein", file_format="hdf5", devices=("cpu",)))
    return out


@pytest.mark.parametrize("moved", [False, True])
def test_a_structure_file_of_the_embeddings_is_not_its_own_neighbour(
    moved: bool, file: Path, folder: Path, tmp_path: Path
) -> None:
    """By its path, and elsewhere by its name and its embedding."""
    query = folder / "protein3.pdb"
    if moved:
        query = query.rename(tmp_path / "protein3.pdb")
    found = neighbors_of(str(query), file, count=3, device="cpu")
    assert found.itself == "protein3"
    assert found.neighbors == neighbors_of("protein3", file, count=3).neighbors
    assert len(found.neighbors) == 3


def test_another_protein_of_the_same_name_is_a_neighbour(file: Path, folder: Path, tmp_path: Path) -> None:
    query = tmp_path / "protein3.pdb"
    query.write_bytes((folder / "protein4.pdb").read_bytes())
    found = neighbors_of(str(query), file, count=100, device="cpu")
    assert found.itself is None
    assert [found.neighbors[0].name, len(found.neighbors)] == ["protein4", 6]
    assert found.neighbors[0].score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("file_format", ["parquet", "npz", "hdf5", "safetensors"])
def test_every_format_keeps_the_paths_of_proteins(file_format: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed_files(SMALL, [folder], out, Options(level="protein", file_format=file_format, devices=("cpu",)))
    table = read_proteins(out)
    assert table.paths == [str(folder / f"{name}.pdb") for name in table.names]
    assert repr(table) == "ProteinTable(6 proteins, width 48)"


def test_random_weights_are_named(file: Path) -> None:
    found = neighbors_of("protein3", file)
    assert found.random_parts == ("sequence encoder", "structure encoder")


def test_a_protein_of_the_file_is_not_its_own_neighbour(file: Path) -> None:
    found = neighbors_of("protein3", file, count=100).neighbors
    assert sorted(item.name for item in found) == [f"protein{number}" for number in (0, 1, 2, 4, 5)]
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)


def test_an_unknown_query_is_named(file: Path) -> None:
    with pytest.raises(RunError) as caught:
        neighbors_of("protien3", file)
    assert str(caught.value).splitlines()[:2] == [
        "no such file or protein: 'protien3'",
        "  did you mean: protein3?",
    ]


def test_a_query_by_a_model_that_changed_is_refused(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmgn_core.inference.model.__version__", "9.9")
    with pytest.raises(RunError, match="has changed: seq esm2_tiny, struct gearnet, fuse serial"):
        neighbors_of(str(folder / "protein3.pdb"), file, device="cpu")


@pytest.mark.parametrize("change", [{"metric": "cosin"}, {"backend": "fais"}])
def test_wrong_names_are_named(change: dict[str, str], file: Path) -> None:
    with pytest.raises(EsmgnError, match=r"did you mean: (cosine|faiss)"):
        neighbors_of("protein0", file, **change)


def test_the_name_of_a_model_survives_its_record() -> None:
    name = replace(SMALL, folder="runs/x")
    assert type(name).from_record(name.record()) == name


DAMAGED = Path(__file__).parents[3] / "shared" / "cases" / "damaged"
FORMATS = {"parquet": "parquet", "hdf5": "h5", "npz": "npz", "safetensors": "safetensors"}


def embeddings(folder: Path, file_format: str) -> Path:
    """An embedding file of three proteins, written without a model."""
    vectors = {"protein": np.eye(3, 8, dtype=np.float32)}
    texts = {"name": np.array(["a", "b", "c"]), "path": np.array(["a.pdb", "b.pdb", "c.pdb"])}
    assembled = made_up_content(vectors["protein"], {**texts, "num_residues": np.array([5, 6, 7])})
    path = folder / f"made.{FORMATS[file_format]}"
    write_embeddings(assembled, path, file_format, {"model": {}})
    return path


class made_up_content:  # noqa: N801 - replaces EmbeddingColumns
    vectors = ["protein"]  # noqa: RUF012
    residues: dict[str, np.ndarray] = {}  # noqa: RUF012

    def __init__(self, rows: np.ndarray, proteins: dict[str, np.ndarray]) -> None:
        self.rows, self.proteins = rows, proteins
        self.width, self.num_rows = rows.shape[1], {"protein": len(rows)}

    def blocks(self, _: str):
        yield 0, self.rows


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("seed", range(25))
def test_a_damaged_file_is_an_error_that_names_it(file_format: str, seed: int, tmp_path: Path) -> None:
    path = embeddings(tmp_path, file_format)
    draw = random.Random(seed)  # noqa: S311
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 2, 8])):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content[: draw.randrange(len(content)) if seed % 4 == 0 else len(content)])
    try:
        table = read_proteins(path)
        assert len(table.names) == len(table.vectors) == len(table.paths)
    except RunError as error:
        assert str(path) in error.message  # noqa: PT017
    read_metadata(path)


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"PAR1", b"PK\3\4", b"\x89HDF\r\n\x1a\n", b"\2" + b"\0" * 9, b"[" * 99]
)
def test_a_file_of_another_kind_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(RunError, match=r"cannot read .*x: "):
        read_proteins(tmp_path / "x")


@pytest.mark.parametrize("file_format", FORMATS)
def test_metadata_of_any_form_are_an_error(file_format: str, tmp_path: Path) -> None:
    path = embeddings(tmp_path, file_format)
    assert len(read_proteins(path).names) == 3
    assembled = made_up_content(np.eye(3, 8, dtype=np.float32), {"num_residues": np.array([5, 6, 7])})
    for metadata in ("[" * 100_000 + "]" * 100_000, "[]"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("esmgn_core.inference.embed.files.json.dumps", dumps_first(metadata))
            write_embeddings(assembled, path, file_format, {})
        with pytest.raises(RunError, match="cannot read"):
            read_proteins(path)


def dumps_first(text: str):
    """``json.dumps`` whose first result is ``text``."""
    results = [text]
    return lambda value, **options: results.pop() if results else dumps(value, **options)


def test_fewer_names_than_embeddings_are_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", name=["a"], path=["a"], protein=np.eye(3, dtype=np.float32), esmgn="{}")
    with pytest.raises(RunError, match="it has 1 names for 3 embeddings"):
        read_proteins(tmp_path / "x.npz")


def test_a_file_of_no_protein_is_an_error(tmp_path: Path) -> None:
    none = np.array([], dtype="U1")
    np.savez(tmp_path / "x.npz", name=none, path=none, protein=np.zeros((0, 3), np.float32), esmgn="{}")
    with pytest.raises(RunError, match="holds no proteins"):
        neighbors_of("a", tmp_path / "x.npz")


def test_an_npz_inflates_to_a_bounded_size(tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "x.npz", esmgn="{}", protein=np.zeros((3, 1 << 25), np.float32), name=list("abc")
    )
    with pytest.raises(RunError, match=r"protein\.npy inflates to 402,653,\d+ bytes: damaged, or a zip bomb"):
        read_proteins(tmp_path / "x.npz")


def test_rows_that_are_not_finite_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[2, 0] = np.nan
    names = ["a", "b", "odd", "d"]
    np.savez(tmp_path / "x.npz", name=names, path=names, protein=vectors, esmgn='{"summary": {}}')
    found = neighbors_of("a", tmp_path / "x.npz", backend="torch")
    assert [neighbor.name for neighbor in found.neighbors] == ["b", "d"]
    assert "skipped 1 protein whose embeddings are not finite: odd" in caplog.text
    with pytest.raises(RunError, match="no such file or protein: 'odd'"):
        neighbors_of("odd", tmp_path / "x.npz", backend="torch")
    np.savez(tmp_path / "x.npz", name=names, path=names, protein=vectors * np.nan, esmgn="{}")
    with pytest.raises(RunError, match=r"no embedding in .* is finite"):
        neighbors_of("a", tmp_path / "x.npz", backend="torch")


def test_a_file_without_metadata_of_a_model_is_an_error(tmp_path: Path, folder: Path) -> None:
    names = ["a", "b"]
    np.savez(tmp_path / "x.npz", name=names, path=names, protein=np.eye(2, dtype=np.float32), esmgn="{}")
    with pytest.raises(RunError, match="does not describe its model"):
        neighbors_of(str(folder / "protein3.pdb"), tmp_path / "x.npz")


def test_links_out_of_an_hdf5_file_are_not_followed(tmp_path: Path) -> None:
    other = embeddings(tmp_path, "hdf5").rename(tmp_path / "other.h5")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["esmgn"] = "{}"
        file["name"] = file["path"] = ["a", "b", "c"]
        file["protein"] = h5py.ExternalLink(str(other), "/protein")
    with pytest.raises(RunError, match="'protein' is a link or is kept in another file"):
        read_proteins(tmp_path / "x.h5")


@pytest.mark.skipif(not DAMAGED.is_dir(), reason=f"needs the damaged files in {DAMAGED}")
def test_the_damaged_embedding_files() -> None:
    for file in sorted(DAMAGED.rglob("*.npz")):
        try:
            neighbors_of("1EQT-A", file, backend="torch")
        except EsmgnError as error:
            assert str(file) in str(error)  # noqa: PT017


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    """Opening a pipe without a writer would block forever."""
    os.mkfifo(tmp_path / "pipe.npz")
    for path, kind in ((tmp_path / "pipe.npz", "a named pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(RunError, match=f"cannot read {path}: {kind}, not a file"):
            read_proteins(path)
        assert read_metadata(path) is None
