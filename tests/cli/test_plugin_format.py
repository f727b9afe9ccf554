"""A structure format that a plugin declares is read wherever structure files are."""

from __future__ import annotations

import gzip
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from esmgn_core import ComponentSpec, Kind
from esmgn_core.batch import Protein
from esmgn_core.errors import PluginError, StructureError
from esmgn_core.formats import structure_formats
from esmgn_core.host.registry import discover
from esmgn_core.inference.embed.job import Options, embed_files
from esmgn_core.inference.inputs import find_inputs
from esmgn_core.inference.model import load_model, plan_model
from esmgn_core.inference.mutate.assays import find_assays
from esmgn_core.io import FORMATS, find_structures, read_protein, read_structure
from esmgn_core.io.folders import search
from esmgn_core.io.write import pdb_text
from esmgn_core.store import Store
from esmgn_core.testing.claims import Claims
from esmgn_core.testing.formats import check_format

from ..conftest import PluginHost
from ..inference.conftest import SMALL
from .conftest import Esmgn
from .madeup_format import FIRST_LINE, MADEUP

WITH_PLUGIN = {**FORMATS, "madeup": MADEUP}
SPEC = ComponentSpec(Kind.FORMAT, "madeup", f"{MADEUP.read.__module__}:MADEUP", "PDB after a line")


@pytest.fixture
def plugin(host: PluginHost) -> PluginHost:
    host.install("madeup", SPEC)
    return host


@pytest.fixture
def files(tmp_path: Path, proteins: list[Protein]) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    content = FIRST_LINE + pdb_text(proteins[0]).encode()
    (folder / "a.madeup").write_bytes(content)
    (folder / "b.MADEUP.gz").write_bytes(gzip.compress(content))
    (folder / "c.pdb").write_text(pdb_text(proteins[1]))
    return folder


def test_readers_take_the_formats_as_an_argument(files: Path, proteins: list[Protein]) -> None:
    protein, report = read_structure(files / "a.madeup", formats=WITH_PLUGIN)
    assert (protein.name, protein.sequence) == ("a", proteins[0].sequence)
    assert report.format == "madeup"
    assert [path.name for path in find_structures([files])] == ["c.pdb"]
    assert [path.name for path in find_structures([files], WITH_PLUGIN)] == [
        "a.madeup",
        "b.MADEUP.gz",
        "c.pdb",
    ]
    assert search([files], WITH_PLUGIN).passed_over == {}


def test_a_file_is_known_by_its_content_whatever_its_name(files: Path) -> None:
    renamed = (files / "a.madeup").rename(files / "x.cif")
    assert read_structure(renamed, formats=WITH_PLUGIN)[1].format == "madeup"


def test_the_reason_of_the_format_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "x.madeup"
    path.write_bytes(FIRST_LINE)
    with pytest.raises(StructureError, match=r"cannot read .*x\.madeup: no atoms after the first line"):
        read_protein(path, formats=WITH_PLUGIN)


def test_a_repeated_residue_is_refused(tmp_path: Path, proteins: list[Protein]) -> None:
    atoms = "".join(line for line in pdb_text(proteins[0]).splitlines(keepends=True) if line[:4] == "ATOM")
    path = tmp_path / "x.madeup"
    path.write_bytes(FIRST_LINE + 2 * atoms.encode())
    with pytest.raises(StructureError, match="two residues of a chain share a number"):
        read_protein(path, formats=WITH_PLUGIN)


def test_the_kit_checks_formats() -> None:
    check_format(Claims("it"), MADEUP)
    for changed, message in (
        (replace(MADEUP, suffixes=(".cif",)), r"ending '\.cif' belongs to a format of the core"),
        (replace(MADEUP, suffixes=("gro",)), "ending 'gro' is not like '.abc'"),
        (replace(MADEUP, sniff=lambda _: True), "sniff accepts PDB text"),
        (replace(MADEUP, sniff=lambda _: False), "sniff and read must be functions of a module"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_format(Claims("it"), changed)


@pytest.mark.usefixtures("plugin")
def test_a_store_is_built_from_it(files: Path, tmp_path: Path, esmgn: Esmgn) -> None:
    done = esmgn("data", "build", files, "-o", tmp_path / "store", "--workers", "1")
    assert done.status == 0, done.err
    assert sorted(protein.name for protein in Store(tmp_path / "store")) == ["a", "b", "c"]


@pytest.mark.usefixtures("plugin")
def test_files_are_embedded_and_predicted(files: Path, tmp_path: Path) -> None:
    summary = embed_files(SMALL, [files], tmp_path / "out.npz", Options(file_format="npz", devices=("cpu",)))
    assert (summary.num_embedded, summary.num_refused) == (3, 0)
    assert len(list(load_model(SMALL, device="cpu").embed_many([files]))) == 3
    inputs = find_inputs([files], sequence_only=False, formats=plan_model(SMALL).formats)
    assert [isinstance(item.read(), Protein) for item in inputs] == [True] * 3


@pytest.mark.usefixtures("plugin")
def test_a_folder_of_them_is_a_dataset(files: Path) -> None:
    registry = discover()
    folder: type = registry.load(registry.component(Kind.DATA, "folder"))
    assert len(folder(folder.Settings(path=[files]))) == 3  # type: ignore[attr-defined]  # any dataset


@pytest.mark.usefixtures("plugin")
def test_a_table_of_them_is_a_dataset(files: Path) -> None:
    table = files / "labels.csv"
    table.write_text("file,label,chain,split\na,x,a-A,train\nb.MADEUP.gz,y,A,valid\n")
    registry = discover()
    csv: type = registry.load(registry.component(Kind.DATA, "csv"))
    dataset = csv(csv.Settings(table=table, chain_column="chain"))  # type: ignore[attr-defined]  # any dataset
    assert (dataset.refused, len(dataset)) == ((), 2)


@pytest.mark.usefixtures("plugin")
def test_the_structure_of_a_scan_is_found(files: Path) -> None:
    (files / "c.pdb").unlink()
    (files / "a.csv").write_text("mutant,DMS_score\nA1C,0.5\n")
    assert [assay.structure for assay in find_assays(files)] == [files / "a.madeup"]


@pytest.mark.usefixtures("plugin")
def test_mutations_are_scored(files: Path, esmgn: Esmgn, proteins: list[Protein]) -> None:
    first = f"{proteins[0].sequence[0]}{int(proteins[0].residue_index[0])}"
    variant = f"{first}{'A' if first[0] != 'A' else 'G'}"
    values = ("weights=random", "num_layers=1", "embed_dim=8", "attention_heads=2")
    changes = [part for value in values for part in ("--set", f"seq.{value}")]
    done = esmgn("mutate", files / "a.madeup", variant, "--seq", "esm2", *changes)
    assert done.status == 0, done.err
    assert variant in done.out


@pytest.mark.usefixtures("plugin")
def test_formats_are_listed_and_shown(esmgn: Esmgn) -> None:
    assert "madeup  plugin madeup  PDB after a line" in esmgn("list", "format").out
    assert esmgn("show", "madeup").out.startswith("structure format 'madeup': PDB after a line")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, name="pdb"), "there are two structure formats 'pdb'"),
        (replace(SPEC, target="esmgn_core.io:FORMATS"), "esmgn_core.io:FORMATS is not a Format"),
    ],
)
def test_a_wrong_declaration_names_the_plugin(host: PluginHost, spec: ComponentSpec, message: str) -> None:
    host.install("madeup", spec)
    with pytest.raises(PluginError, match=message) as caught:
        structure_formats(discover())
    assert caught.value.hints == ("switch the plugin off: ESMGN_DISABLE=madeup",)


def test_readers_and_formats_import_no_torch() -> None:
    code = "import sys, esmgn_core.formats, esmgn_core.io; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
