"""Nearest proteins are the nearest, whoever searches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from esmgn_core.errors import EsmgnError, RunError
from esmgn_core.inference.job import Options, embed_files
from esmgn_core.inference.neighbors import nearest, neighbors_of
from esmgn_core.inference.stored import read_proteins

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
def test_every_format_keeps_where_proteins_are_from(file_format: str, folder: Path, tmp_path: Path) -> None:
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


def test_a_query_that_is_neither_is_named(file: Path) -> None:
    with pytest.raises(RunError) as caught:
        neighbors_of("protien3", file)
    assert str(caught.value).splitlines()[:2] == [
        "no such file or protein: 'protien3'",
        "  did you mean: protein3?",
    ]


def test_a_query_by_a_model_that_changed_is_refused(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmgn_core.__version__", "9.9")
    with pytest.raises(RunError, match="is no longer the same: seq esm2_tiny, struct gearnet, fuse serial"):
        neighbors_of(str(folder / "protein3.pdb"), file, device="cpu")


@pytest.mark.parametrize("change", [{"metric": "cosin"}, {"backend": "fais"}])
def test_wrong_names_are_named(change: dict[str, str], file: Path) -> None:
    with pytest.raises(EsmgnError, match=r"did you mean: (cosine|faiss)"):
        neighbors_of("protein0", file, **change)  # type: ignore[arg-type]


def test_the_name_of_a_model_survives_its_record() -> None:
    name = replace(SMALL, folder="runs/x")
    assert type(name).from_record(name.record()) == name
