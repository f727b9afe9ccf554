"""Predictions of a fine-tuned run: named, calibrated, explained, and shown in a browser."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.engine.session import start_run
from esmgn_core.errors import RunError, UnknownComponentError
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.inference.predict.calibration import (
    MIN_PROTEINS,
    MIN_THRESHOLD,
    Calibration,
    calibrated,
    fit,
)
from esmgn_core.inference.predict.page import (
    importance_colors,
    plddt_colors,
    viewer_files,
    viewer_text,
)
from esmgn_core.inference.predict.predictor import Predictor, find_run, plddt_caveat
from esmgn_core.io import read_protein
from esmgn_core.pages.chart import PLDDT_COLORS
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind

from ..cli.conftest import Esmgn, esmgn  # noqa: F401 - a fixture
from ..conftest import pdb_text
from ..engine.conftest import SMALL

ENCODER = [item for item in SMALL if item.startswith(("seq", "struct"))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, proteins: list[Protein]) -> Path:
    return fine_tuned(tmp_path_factory.mktemp("finetuned"), proteins, ENCODER)


def fine_tuned(folder: Path, proteins: list[Protein], encoder: list[str]) -> Path:
    """A fine-tuned run on a table of six proteins."""
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
    config = configure(discover(), [parse_assignments([*encoder, *data, *train])])
    return start_run(discover(), config, out=folder / "run").run.path


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return Predictor(run, device="cpu")


def test_predictions_are_those_the_run_was_scored_by(
    predictor: Predictor, run: Path, proteins: list[Protein]
) -> None:
    """Calibrated logits of the validation proteins, as ``predictions.npz`` holds them."""
    with np.load(run / "predictions.npz") as file:
        names, logits = file["valid.names"].tolist(), torch.from_numpy(file["valid.predictions"])
    assert [Path(name).stem for name in names] == ["protein4", "protein5"]
    expected = (logits / predictor.calibration.temperature).sigmoid()
    for row, protein in zip(expected, proteins[4:], strict=True):
        assert torch.allclose(predictor.outputs(protein), row, atol=1e-5)
    found = predictor.predict(proteins[4], count=2)
    assert {item.label for item in found} == {"odd", "long"}
    assert found[0].score >= found[1].score


def test_the_calibration_follows_the_predictions_of_the_run(predictor: Predictor, run: Path) -> None:
    """A record of other predictions, such as those before the run was resumed, is not used."""
    stored = json.loads((run / "calibration.json").read_text())
    assert Calibration(**{**stored, "unvalidated": tuple(stored["unvalidated"])}) == predictor.calibration
    (run / "calibration.json").write_text(json.dumps({**stored, "temperature": 9.0}))
    assert Predictor(run, device="cpu").calibration == predictor.calibration


def test_predictions_of_other_weights_calibrate_nothing(run: Path, tmp_path: Path) -> None:
    """``train.test_epoch=last`` predicts the validation proteins with weights that are not kept."""
    again = RunFolder(shutil.copytree(run, tmp_path / "run"))
    record = json.loads(again.results.read_text())
    again.results.write_text(json.dumps({**record, "step": 77}))
    assert calibrated(again, exclusive=False).problem.startswith("the validation predictions are of step 77")


@pytest.mark.parametrize("number", [1, 2, 5, 20, MIN_PROTEINS - 1])
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_handful_of_validation_proteins_calibrates_nothing(number: int, *, exclusive: bool) -> None:
    logits = torch.linspace(-300, 300, 3 * number).reshape(number, 3)
    labels = (torch.arange(number)[:, None] % 2).float()
    fitted = fit(logits, labels if exclusive else labels.expand(-1, 3), exclusive=exclusive)
    counted = f"{number} validation protein{'s' * (number > 1)} with a known label, {MIN_PROTEINS} needed"
    assert fitted == Calibration(problem=counted, num_proteins=number)


def test_proteins_without_a_known_label_do_not_count() -> None:
    logits, labels = torch.randn(100, 2), torch.full((100, 2), torch.nan)
    labels[:20] = torch.tensor([0.0, 1.0])
    assert fit(logits, labels, exclusive=False).num_proteins == 20


def test_labels_that_the_validation_proteins_share_are_never_predicted() -> None:
    """Column 0 has both, 1 only proteins without the label, 2 only with it, 3 nothing known."""
    logits = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.stack(
        [(logits[:, 0] > 0).float(), torch.zeros(60), torch.ones(60), torch.full((60,), torch.nan)], 1
    )
    assert fit(logits, labels, exclusive=False).unvalidated == (1, 2, 3)
    nothing = fit(logits[:, 1:3], labels[:, 1:3], exclusive=False)
    assert nothing.problem == "no label has validation proteins both with and without it"
    alike = fit(logits, torch.zeros(60, 1), exclusive=True)
    assert alike.problem == "all validation proteins have the same class"


@pytest.mark.parametrize("shift", [-100.0, -3.0, 0.0])
def test_the_threshold_has_a_floor(shift: float) -> None:
    """Uninformative scores reach Fmax when all labels are predicted, at any probability."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(60, 3, generator=generator) + shift
    labels = (torch.rand(60, 3, generator=generator) < 0.1).float()
    fitted = fit(logits, labels, exclusive=False)
    assert fitted.threshold is not None
    assert fitted.threshold >= MIN_THRESHOLD
    assert fitted.warning.startswith("Fmax ")
    assert "is not above" in fitted.warning


def test_scores_that_no_temperature_fits_are_not_calibrated() -> None:
    """High scores for labels that one in ten proteins has: the flattest temperature would be best."""
    generator = torch.Generator().manual_seed(1)
    labels = (torch.rand(60, 3, generator=generator) < 0.1).float()
    fitted = fit(100 + torch.randn(60, 3, generator=generator), labels, exclusive=False)
    assert fitted.problem == "the scores of the validation proteins contradict their labels"
    assert (fitted.temperature, fitted.threshold) == (1.0, None)


def test_a_model_no_better_than_the_most_frequent_class_is_named() -> None:
    truth = (torch.arange(60)[:, None] % 3 == 0).float()
    always, right = torch.tensor([[1.0, 0.0]]).expand(60, 2), torch.cat([1 - truth, truth], 1)
    assert "is not above 0.667 of the most frequent class alone" in fit(always, truth, exclusive=True).warning
    assert fit(right, truth, exclusive=True).warning == ""


def test_labels_separated_without_an_error_keep_a_finite_temperature() -> None:
    truth = (torch.arange(60)[:, None] % 2).float()
    fitted = fit(20 * truth - 10, truth, exclusive=False)
    scores = fitted.probabilities(20 * truth - 10, exclusive=False)
    assert float(scores.max()) == pytest.approx(31 / 32, abs=0.01)
    assert fitted.f_max == pytest.approx(2 / 3), "of a protein without labels the recall is 0"


def test_the_temperature_undoes_overconfidence() -> None:
    """Labels drawn with the probabilities of logits; the model returns three times the logits."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 4, generator=generator)
    labels = (torch.rand(2000, 4, generator=generator) < logits.sigmoid()).float()
    assert fit(3 * logits, labels, exclusive=False).temperature == pytest.approx(3, rel=0.1)
    classes = torch.multinomial(logits.softmax(1), 1, generator=generator).float()
    fitted = fit(3 * logits, classes, exclusive=True)
    assert fitted.temperature == pytest.approx(3, rel=0.1)
    assert fitted.probabilities(logits, exclusive=True).sum(1).allclose(torch.ones(2000))


def test_the_threshold_is_where_f_max_is() -> None:
    logits = torch.tensor([[2.0, -1.0], [1.0, 0.5], [-2.0, -3.0]]).repeat(10, 1)
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]).repeat(10, 1)
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
            return type(encoding).from_residues(residue, given, "mean")

        changed.output_dim = joint.sequence.output_dim  # type: ignore[attr-defined]  # a member of the class that the test builds
        with torch.no_grad():
            return float(
                predictor.task.predict(joint(batch, predictor.model.graph(batch), changed), batch)[0, 1]
            )

    slope = (logit(1 + step) - logit(1 - step)) / (2 * step)
    importance = predictor.importance(protein, 1)
    assert importance is not None
    assert float(importance[row]) == pytest.approx(slope, rel=0.05, abs=1e-4)
    assert abs(slope) > 1e-4


def test_an_unsure_structure_has_a_caveat(proteins: list[Protein]) -> None:
    length = len(proteins[0])
    assert plddt_caveat(proteins[0]) == ""
    assert plddt_caveat(replace(proteins[0], plddt=torch.full((length,), 90.0))) == ""
    low = plddt_caveat(replace(proteins[0], plddt=torch.full((length,), 40.0)))
    assert low == "mean pLDDT 40, below 70; 100% of residues below pLDDT 50: likely disordered"


def test_a_folder_that_is_not_a_fine_tuned_run_is_an_error(tmp_path: Path, run: Path) -> None:
    with pytest.raises(RunError, match="is not a finished run of a downstream task"):
        Predictor(tmp_path)
    with pytest.raises(RunError) as caught:
        find_run("multilable", run.parent)
    assert str(caught.value).splitlines()[1:3] == [
        "  did you mean: multilabel?",
        "  tasks with finished runs: multilabel",
    ]
    assert find_run("multilabel", run.parent) == run


def test_the_hint_names_the_requested_task(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        find_run("go_mf", tmp_path)
    assert caught.value.hints == (
        "tasks with finished runs: none",
        "fine-tune one: esmgn run --downstream go_mf --init RUN",
    )
    with pytest.raises(RunError) as caught:
        find_run("go_mff", tmp_path)
    assert caught.value.hints[0] == "did you mean: go_mf?"
    assert caught.value.hints[-1] == "fine-tune one: esmgn run --downstream TASK --init RUN"


def test_a_task_whose_output_is_unknown_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose plugin is not installed, or whose task declares no output."""
    again = RunFolder(shutil.copytree(run, tmp_path / "run"))
    again.write_labels("multilable", ["kd", "koff"])
    with pytest.raises(UnknownComponentError) as unknown:
        Predictor(again.path, device="cpu")
    assert f"unknown downstream task 'multilable' ({again.labels})" in unknown.value.message
    assert unknown.value.hints[0] == "did you mean: multilabel?"
    again.write_labels("multilabel", ["kd", "koff"])
    task = discover().load(discover().component(Kind.DOWNSTREAM, "multilabel"))
    for output, context in ((None, "does not declare its output"), ("numbers", "does not declare")):
        monkeypatch.setattr(task, "output", output)
        with pytest.raises(RunError, match=context) as caught:
            Predictor(again.path, device="cpu")
        assert caught.value.hints[0].endswith("its class to one of: multilabel, classes, values")


def test_few_validation_proteins_are_named_in_every_output(
    run: Path,
    esmgn: Esmgn,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """In the terminal, the tables and the page; nowhere is a label predicted."""
    for name in ("viewer.js", "viewer.css"):
        (tmp_path / name).write_text("")
    files = tmp_path / "viewer.js", tmp_path / "viewer.css"
    monkeypatch.setattr("esmgn_core.inference.predict.page.viewer_files", lambda: files)
    protein = protein_file(run)
    texts = {}
    for ending in ("csv", "json"):
        done = esmgn(
            "predict", run, protein, "-o", tmp_path / f"t.{ending}", "--html", tmp_path / "page.html"
        )
        assert done.status == 0, done.err
        texts[ending] = (tmp_path / f"t.{ending}").read_text()
    warning = "scores are not calibrated and no label is predicted: 2 validation proteins with a known label"
    assert f"warning: {warning}" in done.err
    assert "predicted" not in done.out
    assert texts["csv"].splitlines()[0] == "protein,label,score,caveat,warning"
    assert warning in texts["csv"].splitlines()[1]
    record = json.loads(texts["json"])
    assert record["warnings"][0].startswith(warning)
    assert "predicted" not in record["rows"][0]
    assert f'<p class="warning">{warning}' in (tmp_path / "page.html").read_text()


def test_a_run_of_a_sequence_encoder_alone_predicts_for_sequences(
    esmgn: Esmgn,  # noqa: F811
    proteins: list[Protein],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    encoder = [item for item in ENCODER if item.startswith("seq")]
    run = fine_tuned(tmp_path, proteins, ["fuse.name=sequence", *encoder])
    file, protein = tmp_path / "some.fasta", proteins[4]
    file.write_text(f">{protein.name}\n{protein.sequence}\n")
    rows = []
    for source in (file, protein_file(run)):
        done = esmgn("predict", run, source, "-o", tmp_path / "table.json")
        assert done.status == 0, done.err
        rows.append(json.loads((tmp_path / "table.json").read_text())["rows"])
    assert [{**row, "caveat": ""} for row in rows[0]] == [{**row, "caveat": ""} for row in rows[1]]
    monkeypatch.setattr("esmgn_core.inference.predict.page.viewer_files", lambda: (file, file))
    refused = esmgn("predict", run, file, "--html", tmp_path / "page.html")
    assert refused.status == 2
    assert "holds sequences, and the page of --html draws structures" in refused.err


def test_enough_validation_proteins_bring_the_predicted_labels(run: Path, tmp_path: Path) -> None:
    """The same run with 40 validation proteins; only the label with positives and negatives is predicted."""
    again = RunFolder(shutil.copytree(run, tmp_path / "run"))
    truth = (torch.arange(40)[:, None] % 2).float() * torch.tensor([1.0, 0.0])
    arrays = {"valid.predictions": (4 * truth - 2).numpy(), "valid.labels": truth.numpy()}
    np.savez(again.predictions, allow_pickle=False, **arrays)
    predictor = Predictor(again.path, device="cpu")
    assert predictor.decides
    assert predictor.warnings == ["1 label is never predicted: no validation protein has it, or all have it"]
    found = {item.label: item for item in predictor.predict(read_protein(protein_file(run)), count=2)}
    rows = {label: predictor.row(item) for label, item in found.items()}
    assert rows[predictor.labels[0]]["predicted"] in ("yes", "no")
    assert rows[predictor.labels[1]]["predicted"] == ""


def protein_file(run: Path) -> Path:
    return run.parent / "structures" / "protein4.pdb"


def test_colours_match_the_legend(proteins: list[Protein]) -> None:
    plddt = torch.full((len(proteins[0]),), 95.0)
    plddt[:3] = torch.tensor([75.0, 60.0, 20.0])
    blue, cyan, yellow, orange = (color for _, color in PLDDT_COLORS)
    assert plddt_colors(replace(proteins[0], plddt=plddt))[:4] == [cyan, yellow, orange, blue]
    assert importance_colors(torch.tensor([1.0, 0.0, -1.0])) == ["#b2182b", "#ebebeb", "#2166ac"]


def test_the_drawn_structure_has_the_residues_that_were_read(proteins: list[Protein], tmp_path: Path) -> None:
    (tmp_path / "again.cif").write_text(viewer_text(proteins[0]))
    again = read_protein(tmp_path / "again.cif")
    assert again.sequence == proteins[0].sequence
    assert torch.allclose(again.backbone, proteins[0].backbone, atol=1e-3)


def test_without_the_viewer_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(RunError) as caught:
        viewer_files()
    assert "pip install 'esmgn[viewer]'" in str(caught.value)


def test_heads_predict_without_dropout(predictor: Predictor, proteins: list[Protein]) -> None:
    """Dropout acts in training only: two predictions of one protein are equal."""
    modules = list(predictor.task.modules())  # type: ignore[attr-defined]  # a member of the class that the test builds
    assert any(isinstance(module, torch.nn.Dropout) for module in modules)
    assert not any(module.training for module in modules)
    first, second = (predictor.outputs(proteins[0]) for _ in range(2))
    assert torch.equal(first, second)
