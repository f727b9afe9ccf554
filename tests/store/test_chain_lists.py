"""Lists of single chains: every listed name is in the store or among the refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from esmgn_core.io.write import mmcif_text
from esmgn_core.store import BuildOptions, Store, build
from esmgn_core.store.chains import read_chains
from esmgn_core.testing import example_proteins

COPIES = ("A-1", "A-2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """1abc with two copies of chain A, and 2xyz-a with the chains 1 and 2."""
    place = tmp_path / "structures"
    place.mkdir()
    for name, chains in (("1abc", COPIES), ("2xyz-a", ("1", "2"))):
        protein = replace(example_proteins()[0], name=name, chains=chains)
        (place / f"{name}.cif").write_text(mmcif_text(protein))
    return place


def built(folder: Path, names: str) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Chains of each protein in the store, and the reasons of those refused."""
    file = folder.parent / "chains.txt"
    file.write_text(names.replace(" ", "\n"))
    place = folder.parent / "store"
    build([str(folder)], place, BuildOptions(chains=read_chains(file), workers=1))
    store = Store(place)
    refused = store.index(["name", "reason"], refused=True).to_pylist()
    return {protein.name: protein.chains for protein in store}, {r["name"]: r["reason"] for r in refused}


def test_a_copy_of_a_chain_has_a_name_in_a_list(folder: Path) -> None:
    """``1ABC-A-1`` is chain A-1 of 1abc, ``2XYZ-A-1`` chain 1 of 2xyz-a."""
    found, refused = built(folder, "1ABC-A-1 1abc_A-2 2XYZ-A-1 2xyz-a-2 3QRS-A-1")
    assert found == {"1ABC-A-1": ("A-1",), "1abc_A-2": ("A-2",), "2XYZ-A-1": ("1",), "2xyz-a-2": ("2",)}
    assert refused == {"3QRS-A-1": "no file of this name"}


def test_a_chain_with_copies_is_not_guessed(folder: Path) -> None:
    found, refused = built(folder, "1ABC-A 1ABC-B 1ABC-A-1")
    assert found == {"1ABC-A-1": ("A-1",)}
    assert refused == {
        "1ABC-A": "it has chain A 2 times: name A-1 or A-2",
        "1ABC-B": "it has no chain B, only A-1, A-2",
    }


def test_a_name_that_fits_two_files_is_refused(folder: Path) -> None:
    (folder / "1abc-a.cif").write_bytes((folder / "2xyz-a.cif").read_bytes())
    found, refused = built(folder, "1ABC-A-1 1ABC-A-2")
    assert not found
    assert refused["1ABC-A-1"] == (
        "the list names chain 1 of 1abc-a.cif and chain A-1 of 1abc.cif: rename a file"
    )


def test_one_chain_under_two_names_is_there_twice(folder: Path) -> None:
    found, refused = built(folder, "1ABC-A-1 1abc_A-1 1ABC-A-1")
    assert found == {"1ABC-A-1": ("A-1",), "1abc_A-1": ("A-1",)}
    assert not refused
