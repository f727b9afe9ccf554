"""Every command and example of ``docs/using.md`` runs, in order, on made-up structures."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from esmgn_core.batch import Protein

from .cli.conftest import Esmgn, esmgn  # noqa: F401 - a fixture
from .conftest import pdb_text

PAGE = (Path(__file__).parents[1] / "docs" / "using.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"\n```(python)?\n(.*?)```", PAGE, flags=re.DOTALL)
IN_SENTENCES = re.findall(r"`(esmgn [^`]+)`", PAGE)
PUBLISHED = Path(__file__).parent / "fixtures" / "fusion" / "fusion_series.state.safetensors"


@pytest.fixture
def home(tmp_path: Path, proteins: list[Protein], monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page says that its reader has."""
    (tmp_path / "structures").mkdir()
    labels = ["file,label,split"]
    for number, protein in enumerate(proteins):
        (tmp_path / "structures" / f"{protein.name}.pdb").write_text(pdb_text(protein))
        labels.append(f"{protein.name}.pdb,{'ab'[number % 2]},{'valid' if number > 3 else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(labels) + "\n")
    (tmp_path / "sequences.fasta").write_text(f">one\n{proteins[0].sequence}\n")
    (tmp_path / "scans" / "SCAN").mkdir(parents=True)
    (tmp_path / "scans" / "SCAN" / "SCAN.pdb").write_text(pdb_text(proteins[0]))
    letters = [(letter, number) for number, letter in enumerate(proteins[0].sequence[:9], 1)]
    rows = [f"{letter}{number}{'A' if letter != 'A' else 'G'},{number % 4}.5" for letter, number in letters]
    (tmp_path / "scans" / "SCAN" / "SCAN.csv").write_text("\n".join(["mutant,DMS_score", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_is_found() -> None:
    """None is indented, where the test below would pass it by."""
    found = [line for language, block in BLOCKS if not language for line in block.strip().splitlines()]
    assert [line.strip() for line in PAGE.splitlines() if line.strip().startswith("esmgn ")] == found


@pytest.fixture
def viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra ``viewer`` where it is installed, else a stand-in for its files."""
    if find_spec("ipymolstar") is None:
        files = tmp_path / "viewer.js", tmp_path / "viewer.css"
        for file in files:
            file.write_text("/* a viewer */")
        monkeypatch.setattr("esmgn_core.inference.predict.page.viewer_files", lambda: files)


@pytest.mark.usefixtures("viewer")
def test_the_page_does_what_it_says(home: Path, esmgn: Esmgn) -> None:  # noqa: F811
    for line in IN_SENTENCES:
        done = esmgn(*shlex.split(line.replace(" FILE ", f" {shlex.quote(str(PUBLISHED))} "))[1:])
        assert done.status == 0, (line, done.err)
    names: dict[str, object] = {}
    for language, block in BLOCKS:
        if language:
            exec(block, names)  # noqa: S102 - the page's own lines
            continue
        for line in block.strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "esmgn"
            done = esmgn(*arguments)
            assert done.status == 0, (line, done.err)
    written = {path.name for path in home.iterdir()}
    assert written >= {
        "embeddings.parquet",
        "embeddings.residues.parquet",
        "scan.csv",
        "scan.png",
        "labels_found.csv",
        "labels_found.html",
        "weights",
    }
    assert len(names["vectors"]) == 6
    assert names["first"].number == 1  # type: ignore[attr-defined]  # a member of the class that the test builds
