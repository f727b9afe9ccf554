"""``esmgn plugin new``."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from esmgn_cli.scaffold import Project, esmgn_range
from esmgn_core.errors import DataError, StructureError
from esmgn_core.io import read_protein
from esmgn_core.spec import Kind

from ..conftest import PluginHost
from .conftest import Esmgn

LINES_TO_READ = 40


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project of every kind, called after its kind."""
    folder = tmp_path_factory.mktemp("projects")
    for kind in Kind:
        Project(f"new_{kind}", kind).write(folder)
    return folder


def test_it_writes_a_project_and_prints_what_to_do_next(esmgn: Esmgn, tmp_path: Path) -> None:
    status, out, err = esmgn("plugin", "new", "rings", "--kind", "struct", "--dir", tmp_path)
    assert (status, err) == (0, "")
    folder = tmp_path / "esmgn-rings"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        ".github/workflows/test.yml",
        ".gitignore",
        "README.md",
        "esmgn_rings/__init__.py",
        "esmgn_rings/encoder.py",
        "esmgn_rings/py.typed",
        "pyproject.toml",
        "tests/test_rings.py",
    ]
    first, *rest = out.splitlines()
    assert first == f"wrote {folder}: edit esmgn_rings/encoder.py"
    assert rest[:3] == ["", "next:", f'  cd "{folder}"']
    assert "  esmgn run --seq onehot --struct rings --data sample --set train.max_steps=2" in rest
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("kind", Kind)
def test_the_author_reads_at_most_40_lines(projects: Path, kind: Kind) -> None:
    package = projects / f"esmgn-new-{kind}" / f"esmgn_new_{kind}"
    lines = [line for path in package.glob("*.py") for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) <= LINES_TO_READ


def test_projects_pass_ruff(projects: Path) -> None:
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, projects], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", Kind)
def test_every_setting_has_a_docstring(projects: Path, kind: Kind) -> None:
    package = projects / f"esmgn-new-{kind}" / f"esmgn_new_{kind}"
    settings = [
        node
        for path in package.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    ]
    assert len(settings) == (kind is not Kind.FORMAT)
    for node in settings:
        names, texts = node.body[::2], node.body[1::2]
        assert len(names) == len(texts) > 0
        assert all(isinstance(text, ast.Expr) for text in texts)


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("a.pdb,train,hot", "could not convert string to float: 'hot'"),
        ("a.pdb,validation,1", "'validation'"),
        ("a.pdb", "None"),
    ],
)
def test_the_dataset_names_the_line_of_a_wrong_row(
    projects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, wrong: str
) -> None:
    monkeypatch.syspath_prepend(projects / "esmgn-new-data")
    dataset = importlib.import_module("esmgn_new_data.dataset").NewDataDataset
    table = tmp_path / "labels.csv"
    table.write_text(f"file,split,label\na.pdb,train,\n{row}\n")
    with pytest.raises(DataError) as raised:
        dataset(dataset.Settings(table=table))
    assert str(raised.value) == f"{table}, line 3: wrong split or label: {wrong}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#new_format\n", "no atoms in the first model"),
        (b"#new_format\nA 1 GLY 1.0 2.0 3.0\nA 2 GLY 1.0\n", "line 3 is not like 'A 12 GLY 1.0 2.5 -3.0'"),
    ],
)
def test_the_format_names_the_line_that_it_cannot_read(
    projects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.syspath_prepend(projects / "esmgn-new-format")
    known = importlib.import_module("esmgn_new_format.format").FORMAT
    file = tmp_path / "peptide.new_format"
    file.write_bytes(content)
    with pytest.raises(StructureError) as raised:
        read_protein(file, formats={"new_format": known})
    assert str(raised.value) == f"cannot read {file}: {reason}"


@pytest.mark.parametrize(
    ("text", "name"),
    [("rings", "rings"), ("esmgn-rings", "rings"), ("esmgn_rings2", "rings2"), ("My Rings", "my_rings")],
)
def test_a_name_is_adapted(esmgn: Esmgn, tmp_path: Path, text: str, name: str) -> None:
    assert esmgn("plugin", "new", text, "--kind", "struct", "--dir", tmp_path).status == 0
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"esmgn-{name.replace('_', '-')}"
    assert f'entry-points.esmgn.{name} = "esmgn_{name}"' in (folder / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "text", ["", "2rings", "_rings", "rings_", "my__rings", "ringsé", "a/b", "..", "esmgn-", "class"]
)
def test_a_wrong_name_is_refused(esmgn: Esmgn, tmp_path: Path, text: str) -> None:
    status, out, err = esmgn("plugin", "new", text, "--kind", "struct", "--dir", tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: '{text}' is not a name for a plugin\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("gearnet", "struct", "'gearnet' is a structure encoder already"),
        ("esm2_650m", "seq", "'esm2_650m' is a sequence encoder already"),
        ("fusion", "struct", "a plugin 'fusion' is installed already"),
        ("core", "struct", "a Python package 'esmgn_core' is installed already"),
        ("rings", "structure", "unknown kind 'structure' (--kind)"),
    ],
)
def test_a_name_that_is_taken_is_refused(
    esmgn: Esmgn, tmp_path: Path, name: str, kind: str, message: str
) -> None:
    status, _, err = esmgn("plugin", "new", name, "--kind", kind, "--dir", tmp_path)
    assert status == 2
    assert err.startswith(f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_an_installed_plugin_is_refused(host: PluginHost, esmgn: Esmgn, tmp_path: Path) -> None:
    host.install("rings", host.component(Kind.GRAPH, "near"))
    status, _, err = esmgn("plugin", "new", "rings", "--kind", "struct", "--dir", tmp_path / "new")
    assert (status, err.splitlines()[0]) == (2, "error: a plugin 'rings' is installed already")


def test_an_existing_folder_is_never_changed(esmgn: Esmgn, tmp_path: Path) -> None:
    folder = tmp_path / "esmgn-rings"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    status, _, err = esmgn("plugin", "new", "rings", "--kind", "struct", "--dir", tmp_path)
    assert (status, err.splitlines()[0]) == (2, f"error: {folder} exists already")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    assert esmgn("plugin", "new", "rings", "--kind", "struct", "--dir", tmp_path).status == 0


def test_nothing_is_left_of_a_project_that_cannot_be_written(
    esmgn: Esmgn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    status, _, err = esmgn("plugin", "new", "rings", "--kind", "struct", "--dir", tmp_path)
    assert status == 2
    assert "disk is full" in err
    assert list(tmp_path.iterdir()) == []


def test_the_range_of_esmgn_includes_the_releases_that_keep_its_names() -> None:
    assert esmgn_range("0.1.0") == "esmgn>=0.1,<0.4"
    assert esmgn_range("1.9.2") == "esmgn>=1.9,<1.12"
