"""Stores built from made-up proteins, small enough to look at every residue."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from esmgn_core.batch import Protein
from esmgn_core.io.write import pdb_text
from esmgn_core.store import BuildOptions, Store, build
from esmgn_core.testing import example_proteins

Build = Callable[..., Store]


@pytest.fixture
def proteins() -> list[Protein]:
    """Two chains, gaps in the numbering, missing atoms, pLDDT; coordinates of three decimals."""
    return [
        replace(protein, backbone=(protein.backbone.double() * 1000).round().div(1000).float())
        for protein in example_proteins()
    ]


@pytest.fixture
def folder(tmp_path: Path, proteins: list[Protein]) -> Path:
    """The proteins as files, and one file that is none."""
    path = tmp_path / "structures"
    path.mkdir()
    for protein in proteins:
        (path / f"{protein.name}.pdb").write_text(pdb_text(protein))
    (path / "empty.pdb").write_text("")
    return path


@pytest.fixture
def make(tmp_path: Path) -> Build:
    """Build a store from sources and open it."""

    def make(*sources: Path, name: str = "store", **options: Any) -> Store:
        build([str(source) for source in sources], tmp_path / name, BuildOptions(**options))
        return Store(tmp_path / name)

    return make


def tar(path: Path, files: dict[str, bytes]) -> Path:
    """An uncompressed archive of these files."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, fileobj=BytesIO(content))
    return path


def zipped(protein: Protein) -> bytes:
    """Gzipped PDB text."""
    return gzip.compress(pdb_text(protein).encode())
