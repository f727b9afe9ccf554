"""Predictions of a fine-tuned run: named, calibrated, explained, and shown in a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.configure import configure, parse_assignments
from esmgn_core.engine.session import start_run
from esmgn_core.errors import RunError
from esmgn_core.inference.calibration import Calibration, fit
from esmgn_core.inference.page import (
    PLDDT_COLORS,
    Shown,
    importance_colors,
    mmcif_text,
    plddt_colors,
    viewer_files,
    write_page,
)
from esmgn_core.inference.predictor import Predictor, find_run, plddt_caveat
from esmgn_core.io import read_protein
from esmgn_core.registry import discover

from ..conftest import pdb_text
from ..engine.conftest import SMALL

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ENCODER = [item for item in SMALL if item.startswith(("seq", "struct"))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, proteins: list[Protein]) -> Path:
    """A fine-tuned run on a table of six proteins."""
    folder = tmp_path_factory.mktemp("finetuned")
    (folder / "structures").mkdir()
    lines = ["file,label,split"]
    for number, protein in enumerate(proteins):
        (folder / "structures" / f"{protein.name}.pdb").write_text(pdb_text(protein))
        labels = ["odd"] * (number % 2) + ["long"] * (len(protein) > 50)
        lines.append(f'{protein.name}.pdb,"{",".join(labels)}",{"valid" if number > 3 else "train"}')
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    data = [f"data.table={folder / 'labels.csv'}", f"data.structures={folder / 'structures'}"]
    train = ["downstream.name=multilabel", "data.name=csv", "train.max_steps=2", "train.proteins_per_batch=2"]
    train += ["downstream.dropout=0.5"]
    config = configure(discover(), [parse_assignments([*ENCODER, *data, *train])])
    return start_run(discover(), config, out=folder / "run").run.path


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return Predictor(run, device="cpu")


def test_predictions_are_those_the_run_was_scored_by(
    predictor: Predictor, run: Path, proteins: list[Protein]
) -> None:
    """Calibrated logits of the held-out proteins, as ``predictions.npz`` holds them."""
    with np.load(run / "predictions.npz") as file:
        names, logits = file["valid.names"].tolist(), torch.from_numpy(file["valid.predictions"])
    assert [Path(name).stem for name in names] == ["protein4", "protein5"]
    expected = (logits / predictor.calibration.temperature).sigmoid()
    for row, protein in zip(expected, proteins[4:], strict=True):
        assert torch.allclose(predictor.outputs(protein), row, atol=1e-5)
    found = predictor.predict(proteins[4], count=2)
    assert {item.label for item in found} == {"odd", "long"}
    assert found[0].score >= found[1].score


def test_the_calibration_is_stored_and_used_again(predictor: Predictor, run: Path) -> None:
    stored = json.loads((run / "calibration.json").read_text())
    assert stored["num_proteins"] == 2
    assert Predictor(run, device="cpu").calibration == predictor.calibration
    assert predictor.calibration == Calibration(**stored)


def test_the_temperature_undoes_overconfidence() -> None:
    """Labels drawn with the probabilities of logits; the model says three times the logits."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 4, generator=generator)
    labels = (torch.rand(2000, 4, generator=generator) < logits.sigmoid()).float()
    assert fit(3 * logits, labels, exclusive=False).temperature == pytest.approx(3, rel=0.1)
    classes = torch.multinomial(logits.softmax(1), 1, generator=generator).float()
    fitted = fit(3 * logits, classes, exclusive=True)
    assert fitted.temperature == pytest.approx(3, rel=0.1)
    assert fitted.probabilities(logits, exclusive=True).sum(1).allclose(torch.ones(2000))


def test_the_threshold_is_where_f_max_is() -> None:
    logits = torch.tensor([[2.0, -1.0], [1.0, 0.5], [-2.0, -3.0]])
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    fitted = fit(logits, labels, exclusive=False)
    assert fitted.threshold == pytest.approx(float(torch.tensor(1.0 / fitted.temperature).sigmoid()))


def test_importance_is_the_change_of_the_logit_to_first_order(
    predictor: Predictor, proteins: list[Protein]
) -> None:
    """Against a finite difference: the sequence encoding of one residue made a little larger."""
    protein, row, step = proteins[0], 5, 1e-3
    joint = predictor.model.encoder
    batch = ProteinBatch.from_proteins([protein])
    read = joint.reader(batch)

    def logit(scale: float) -> float:
        def changed(given: ProteinBatch) -> object:
            encoding = read(given)
            residue = encoding.residue.clone()
            residue[row] *= scale
            return type(encoding).from_residues(residue, given, joint.sequence.settings.readout)

        changed.output_dim = joint.sequence.output_dim  # type: ignore[attr-defined]
        with torch.no_grad():
            return float(
                predictor.task.predict(joint(batch, predictor.model.graph(batch), changed), batch)[0, 1]
            )

    slope = (logit(1 + step) - logit(1 - step)) / (2 * step)
    assert float(predictor.importance(protein, 1)[row]) == pytest.approx(slope, rel=0.05, abs=1e-4)
    assert abs(slope) > 1e-4


def test_an_unsure_structure_has_a_caveat(proteins: list[Protein]) -> None:
    length = len(proteins[0])
    assert plddt_caveat(proteins[0]) == ""
    assert plddt_caveat(replace(proteins[0], plddt=torch.full((length,), 90.0))) == ""
    low = plddt_caveat(replace(proteins[0], plddt=torch.full((length,), 40.0)))
    assert low == "mean pLDDT 40, below 70; 100% of residues below pLDDT 50: likely disordered"


def test_a_folder_that_is_no_fine_tuned_run_is_told(tmp_path: Path, run: Path) -> None:
    with pytest.raises(RunError, match="is no finished run of a downstream task"):
        Predictor(tmp_path)
    with pytest.raises(RunError) as caught:
        find_run("multilable", run.parent)
    assert str(caught.value).splitlines()[1:3] == ["  did you mean: multilabel?", "  tasks there: multilabel"]
    assert find_run("multilabel", run.parent) == run


def test_colours_say_what_they_stand_for(proteins: list[Protein]) -> None:
    plddt = torch.full((len(proteins[0]),), 95.0)
    plddt[:3] = torch.tensor([75.0, 60.0, 20.0])
    blue, cyan, yellow, orange = (color for _, color in PLDDT_COLORS)
    assert plddt_colors(replace(proteins[0], plddt=plddt))[:4] == [cyan, yellow, orange, blue]
    assert importance_colors(torch.tensor([1.0, 0.0, -1.0])) == ["#b2182b", "#ebebeb", "#2166ac"]


def test_the_drawn_structure_has_the_residues_that_were_read(proteins: list[Protein], tmp_path: Path) -> None:
    (tmp_path / "again.cif").write_text(mmcif_text(proteins[0]))
    again = read_protein(tmp_path / "again.cif")
    assert again.sequence == proteins[0].sequence
    assert torch.allclose(again.backbone, proteins[0].backbone, atol=1e-3)


def test_without_the_viewer_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(RunError) as caught:
        viewer_files()
    assert "pip install 'esmgn[viewer]'" in str(caught.value)


@pytest.mark.slow
def test_the_page_draws_the_structure_in_a_browser(
    predictor: Predictor, proteins: list[Protein], tmp_path: Path
) -> None:
    """Without a network: the colours of pLDDT are on the canvas, the labels in the table."""
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    try:
        viewer_files()
    except RunError:
        pytest.skip("needs the extra 'viewer' (ipymolstar)")
    protein = replace(proteins[0], plddt=torch.full((len(proteins[0]),), 95.0))
    predictions = predictor.predict(protein, count=2)
    shown = [Shown(protein, predictions, predictor.importance(protein, 0), predictor.labels[0])]
    write_page(shown, tmp_path / "page.html", title="A <title>", notes=["a note"])
    picture = tmp_path / "page.png"
    browse("--window-size=1300,800", f"--screenshot={picture}", page=tmp_path / "page.html")

    pixels = (255 * matplotlib.image.imread(picture)).astype(int)[200:720, 480:]
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    assert int(((blue > 2 * red + 40) & (blue > green + 40)).sum()) > 1000, "no blue cartoon is drawn"
    content = browse("--dump-dom", page=tmp_path / "page.html")
    assert "<h1>A &lt;title&gt;</h1>" in content
    assert "<canvas" in content
    assert 'aria-pressed="true">pLDDT' in content
    assert all(f"<td>{name}</td>" in content for name in predictor.labels)


def browse(*flags: str, page: Path) -> str:
    options = ["--headless", "--no-sandbox", "--disable-dev-shm-usage", "--virtual-time-budget=15000"]
    options += ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND"]
    done = subprocess.run(
        [str(CHROMIUM), *options, *flags, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout


def test_heads_predict_without_dropout(predictor: Predictor, proteins: list[Protein]) -> None:
    """Dropout acts in training only: two predictions of one protein are equal."""
    modules = list(predictor.task.modules())  # type: ignore[attr-defined]
    assert any(isinstance(module, torch.nn.Dropout) for module in modules)
    assert not any(module.training for module in modules)
    first, second = (predictor.outputs(proteins[0]) for _ in range(2))
    assert torch.equal(first, second)
