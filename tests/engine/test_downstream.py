"""Downstream runs: chosen by their score, tested at the best epoch, put together again from their folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.engine.distributed import World
from esmgn_core.engine.evaluate import Predictions, predict_proteins, score_with_intervals
from esmgn_core.engine.runs import RunSummary
from esmgn_core.engine.session import Outcome, resume_run, start_run
from esmgn_core.engine.validate import EvaluationPass
from esmgn_core.errors import SettingsError
from esmgn_core.host.configure import configure, parse_assignments, read_run_file
from esmgn_core.host.registry import discover
from esmgn_core.metrics import f_max, spearman
from esmgn_core.model.compose import resolve
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.model.feature_cache import CachedEncoder
from esmgn_core.model.joint import JointEncoder, TrainStep
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind
from esmgn_core.testing import example_proteins
from esmgn_core.testing.files import write_pdb
from esmgn_datasets.table import Table
from esmgn_downstream.regression import Regression

from .processes import Job, run_alone, run_together

SMALL = (
    "seq.name=esm2_tiny",
    "struct.hidden_dim=16",
    "struct.num_layers=2",
    "data.name=csv",
    "optim.lr=0.001",
    "train.proteins_per_batch=4",
    "train.epochs=3",
    "train.resamples=20",
)
SPLITS = ("train", "valid", "test")
Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three proteins of each split, with classes, numbers and a group."""
    folder = tmp_path_factory.mktemp("table")
    lines = ["file,label,value,group,split"]
    for seed, split in enumerate(SPLITS * 2):
        for number, protein in enumerate(example_proteins(seed)):
            write_pdb(protein, folder / f"{protein.name}_{seed}.pdb")
            classes = ["many", "odd"][: 1 + number // 2 % 2] if len(protein) > 20 else []
            row = f"{protein.name}_{seed},{';'.join(classes)},{len(protein) / 100}"
            lines.append(f"{row},{split}{seed},{split}")
    file = folder / "table.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def run(table: Path, tmp_path: Path) -> Run:
    """``run("downstream.name=multilabel")``: a small run on the table."""

    def start(*changes: str, out: str = "run") -> Outcome:
        data = (f"data.table={table}", "data.separator=;")
        layers = [parse_assignments(texts) for texts in (SMALL, data, changes)]
        return start_run(discover(), configure(discover(), layers), out=tmp_path / out)

    return start


def predictions(outcome: Outcome) -> dict[str, Any]:
    with np.load(outcome.run.predictions) as file:
        return dict(file)


def test_scores_are_those_of_the_predictions_in_the_folder(run: Run) -> None:
    outcome = run("downstream.name=multilabel")
    results, found = json.loads(outcome.run.results.read_text()), predictions(outcome)
    assert results["metric"] == "f_max"
    for name in ("valid", "test"):
        scores = results["sets"][name]["scores"]
        assert results["sets"][name]["num_predictions"] == 10
        expected = f_max(found[f"{name}.predictions"], found[f"{name}.labels"])
        assert scores["f_max"]["value"] == pytest.approx(expected)
        assert scores["f_max"].keys() == {"value", "without_interval"}
        assert scores["f_max"]["without_interval"] == 10, "proteins, too few to resample"
    assert found["test.labels"].sum() == 8
    logged = outcome.run.read_metrics()[-1]
    assert logged["test_f_max"] == results["sets"]["test"]["scores"]["f_max"]["value"]
    labels = json.loads(outcome.run.labels.read_text())
    assert labels == {"task": "multilabel", "labels": ["many", "odd"]}


def assembled(outcome: Outcome) -> tuple[TrainStep, Any]:
    """Encoder and task as everybody else has to put them together: from the files of the folder."""
    folder, registry = EncoderFolder(outcome.run.path), discover()
    blueprint = resolve(registry, configure(registry, [folder.tables()]))
    encoder: JointEncoder = blueprint.encoder()
    folder.fill(encoder, registry)
    whole = resolve(registry, configure(registry, [read_run_file(outcome.run.config)]))
    names = json.loads(outcome.run.labels.read_text())["labels"]
    task = whole.build(Kind.DOWNSTREAM, encoder_dim=encoder.output_dim, num_targets=len(names))
    task.load_state_dict(load_file(outcome.run.task))
    return TrainStep(encoder, task, blueprint.graph()).eval(), whole.dataset()


@pytest.mark.parametrize("change", ["optim.seq_lr_scale=0", "optim.lora_rank=2", "optim.ema_decay=0.5"])
def test_the_folder_holds_all_that_a_prediction_needs(run: Run, change: str) -> None:
    """The best encoder and its own head, also with adapters and averaged weights."""
    outcome = run("downstream.name=regression", "data.kind=regression", "data.labels=value", change)
    step, dataset = assembled(outcome)
    indices = dataset.test_sets["test"]
    batch = ProteinBatch.from_proteins([dataset[index] for index in indices])
    _, values = step.predict(step.task, batch, SeededDraws(0, 0, range(len(batch))))
    assert_allclose(values.numpy(), predictions(outcome)["test.predictions"], rtol=1e-4, atol=1e-5)
    assert predictions(outcome)["test.names"].tolist() == list(batch.names)


def test_the_best_validation_score_chooses(run: Run) -> None:
    changes = ("downstream.name=regression", "data.kind=regression", "data.labels=value", "train.epochs=6")
    outcome = run(*changes, "optim.lr=0.01")
    valid = {
        line["step"]: line["valid_spearman"]
        for line in outcome.run.read_metrics()
        if "valid_spearman" in line
    }
    best = max(valid, key=valid.__getitem__)
    assert outcome.progress.best_step == best
    assert RunSummary.of(outcome.run.path).best() == (best, "valid_spearman", valid[best])
    assert json.loads(outcome.run.results.read_text())["step"] == best
    found = predictions(outcome)
    assert spearman(found["valid.predictions"], found["valid.labels"]) == pytest.approx(valid[best], abs=1e-6)
    assert best < outcome.progress.step, "the last epoch is the best one: this test cannot fail"
    last = run(*changes, "optim.lr=0.01", "train.test_epoch=last", out="last")
    assert json.loads(last.run.results.read_text())["step"] == last.progress.step
    assert not np.allclose(predictions(last)["test.predictions"], found["test.predictions"])


def test_a_run_that_missed_its_report_makes_it_up(run: Run) -> None:
    outcome = run("downstream.name=multilabel")
    report = outcome.run.results.read_text()
    outcome.run.results.unlink()
    resumed = resume_run(discover(), outcome.run.path, changes={})
    assert resumed.run.results.read_text() == report


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_score_as_one(scored: dict[str, RunFolder], strategy: str) -> None:
    """None of seven validation proteins is repeated to give both processes equally many."""
    one, two = scored["alone"], scored[strategy]
    with np.load(one.predictions) as first, np.load(two.predictions) as second:
        for name in ("valid", "test"):
            names = first[f"{name}.names"].tolist()
            assert len(set(names)) == len(names) == second[f"{name}.names"].shape[0]
            assert second[f"{name}.names"].tolist() == names
            assert_allclose(second[f"{name}.predictions"], first[f"{name}.predictions"], atol=1e-4)
    records = [json.loads(run.results.read_text()) for run in (one, two)]
    assert records[0]["step"] == records[1]["step"] < one.read_metrics()[-1]["step"]
    scores = [record["sets"]["test"] for record in records]
    assert scores[0]["num_predictions"] == scores[1]["num_predictions"] == 7
    for name, values in scores[0]["scores"].items():
        assert scores[1]["scores"][name] == pytest.approx(values, abs=1e-4)


@pytest.fixture(scope="module")
def scored(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Runs of one process and of two, with weights in each of them and shared out."""
    folder = tmp_path_factory.mktemp("scored")
    rows = table.read_text().splitlines()
    odd = table.with_name("odd.csv")
    kept = [row for row in rows if not row.startswith(tuple(f"single_{seed}" for seed in (1, 2, 4, 5)))]
    kept = [row for row in kept if not row.startswith(("pair_4", "pair_5"))]
    odd.write_text("\n".join(kept) + "\n")
    # Adam's usual epsilon makes steps of rounding noise.
    common = (
        "downstream.name=multilabel",
        "data.name=csv",
        f"data.table={odd}",
        "data.separator=;",
        "optim.eps=0.001",
    )
    run_alone(Job((*common, "train.proteins_per_batch=4"), folder / "alone"))
    jobs = [
        Job((*common, "train.proteins_per_batch=2", f"train.strategy={strategy}"), folder / strategy)
        for strategy in ("ddp", "fsdp")
    ]
    run_together(jobs, world_size=2)
    return {path.name: RunFolder(path) for path in folder.iterdir()}


def test_test_proteins_that_can_no_longer_be_read_are_left_out_of_the_scores(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of one pass, where training would take another protein in their place."""
    whole = predictions(run("downstream.name=multilabel", out="whole"))
    lost = set(whole["test.names"][-4:].tolist())
    original = Table.__getitem__

    def unreadable(self: Table, index: int) -> Protein:
        protein = original(self, index)
        if protein.name in lost:
            raise OSError("it was there yesterday")
        return protein

    monkeypatch.setattr(Table, "__getitem__", unreadable)
    outcome = run("downstream.name=multilabel")
    found = predictions(outcome)
    assert found["test.names"].tolist() == whole["test.names"][:-4].tolist()
    assert_allclose(found["test.predictions"], whole["test.predictions"][:-4], atol=1e-6)
    assert_allclose(found["valid.predictions"], whole["valid.predictions"], atol=1e-6)
    assert outcome.run.refused.read_text().count("it was there yesterday") == 4


def test_features_of_a_frozen_encoder_are_computed_once_for_a_head(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training, validation and test of all epochs, but for the proteins that training cuts."""
    changes = ("downstream.name=multilabel", "downstream.max_length=100", "optim.seq_lr_scale=0")
    plain = predictions(run(*changes, out="plain"))
    computed: list[tuple[str, int]] = []
    original = CachedEncoder._computed

    def noted(self: CachedEncoder, batch: ProteinBatch, rows: list[int]) -> dict[int, torch.Tensor]:
        computed.extend((batch.names[row], int(batch.lengths[row])) for row in rows)
        return original(self, batch, rows)

    monkeypatch.setattr(CachedEncoder, "_computed", noted)
    found = predictions(run(*changes, "cache.features=fp32", f"cache.path={tmp_path / 'kept'}"))
    cut = [name for name, length in computed if length == 100]
    whole = [name for name, length in computed if length != 100]
    assert sorted(cut) == 3 * ["long_0"] + 3 * ["long_3"]
    assert len(whole) == len(set(whole)) == 28
    for name, values in plain.items():
        if values.dtype.kind == "f":
            assert_allclose(found[name], values, atol=1e-4)


class SumOfTypes(torch.nn.Module):
    """Predicts the number of residues; stands for a model."""

    group_size = 1

    def predict(self, task: Any, batch: ProteinBatch, draws: Any) -> Any:  # noqa: ARG002
        return None, batch.lengths.float().unsqueeze(1)


class Other(World):
    """One of two processes; what the other one gathered is known."""

    def gather(self, value: Any) -> list[Any]:
        known.append(value)
        return list(known)


known: list[Any] = []


def labelled(number: int, length: int) -> Protein:
    protein = next(protein for protein in example_proteins() if protein.name == "long")
    batch = ProteinBatch.from_proteins([protein]).select(torch.arange(120) < length)
    short = {"residue_type": batch.residue_type, "backbone": batch.backbone, "atom_mask": batch.atom_mask}
    return replace(
        protein,
        name=f"p{number}",
        **short,
        residue_index=batch.residue_index,
        chain_index=batch.chain_index,
        labels=torch.tensor([float(number)]),
    )


def test_predictions_of_all_processes_come_once_and_in_order() -> None:
    """Five proteins shared by two processes, in batches of two: none twice, none missing."""
    known.clear()
    proteins = [labelled(number, 10 + number) for number in range(5)]
    shares: list[list[tuple[int, ...]]] = [[(2, 3)], [(0, 1), (4,)]]
    for rank, parts in enumerate(shares):
        passes: list[Any] = [
            EvaluationPass(places, ProteinBatch.from_proteins([proteins[place] for place in places]), None)
            for places in parts
        ]
        model: Any = SumOfTypes()
        _, found, places = predict_proteins(model, model, passes, Other(torch.device("cpu"), rank, 2))
    assert places == [0, 1, 2, 3, 4]
    assert found.names == ("p0", "p1", "p2", "p3", "p4")
    assert found.values.flatten().tolist() == [10, 11, 12, 13, 14]
    assert found.labels.flatten().tolist() == [0, 1, 2, 3, 4]


def test_names_tell_groups_and_a_group_drawn_twice_is_two() -> None:
    values = torch.arange(4.0).unsqueeze(1)
    found = Predictions.named(values, values, ["a/1", "a/2", "b/1", "alone"])
    assert found.groups.tolist() == [0, 0, 1, 2]
    drawn = found.repeated(np.array([2, 2, 0, 1]))
    assert drawn.names == ("a/1", "a/1", "a/2", "a/2", "alone")
    assert drawn.groups[0] == drawn.groups[2] != drawn.groups[1] == drawn.groups[3]


class MeanTask:
    """Scores without a way of its own for resamples."""

    def score(self, values: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> dict[str, float]:  # noqa: ARG002
        return {"mean": float(values.mean())}


def test_intervals_of_a_task_without_a_way_of_its_own() -> None:
    values = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    found = Predictions.named(values, values, [f"p{number}" for number in range(200)])
    task: Any = MeanTask()
    report = score_with_intervals(task, found, 500)["mean"]
    error = float(values.std() / 200**0.5)
    assert report["low"] == pytest.approx(report["value"] - 1.96 * error, abs=0.03)
    assert report["high"] == pytest.approx(report["value"] + 1.96 * error, abs=0.03)
    assert score_with_intervals(task, found, 0) == {"mean": {"value": report["value"]}}


@pytest.mark.parametrize(("number", "value"), [(1, 0.5), (2, 1.0), (19, 0.5), (200, 1.0)])
def test_a_handful_of_proteins_and_equal_resamples_have_no_interval(number: int, value: float) -> None:
    """One protein, or 200 that are all right, would have the interval 1.000 to 1.000."""
    values = torch.full((number, 1), value)
    values[:: 2 if value < 1 else number] = 1.0
    found = Predictions.named(values, values, [f"p{row}" for row in range(number)])
    task: Any = MeanTask()
    report = score_with_intervals(task, found, 100)["mean"]
    assert report == {"value": float(values.mean()), "without_interval": number}


def test_a_dataset_without_labels(run: Run) -> None:
    with pytest.raises(SettingsError) as caught:
        run("downstream.name=multilabel", "data.name=sample")
    assert str(caught.value).startswith(
        "the downstream task 'multilabel' needs labels, and the dataset 'sample' has none"
    )


def test_labels_that_do_not_fit_the_task(run: Run) -> None:
    with pytest.raises(SettingsError) as caught:
        run("downstream.name=multilabel", "data.kind=classification", "data.labels=label")
    assert str(caught.value) == (
        "the dataset 'csv' does not fit the downstream task 'multilabel'\n"
        "  'csv' has a label of 1 number for each protein\n"
        "  'multilabel' takes a label of 2 numbers for each protein"
    )


REGRESSION = ("downstream.name=regression", "data.kind=regression", "data.labels=value")


def test_an_undefined_validation_score_is_never_the_best(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN compares as neither better nor worse: the first epoch must not win by it."""
    given = iter([float("nan"), 0.25, float("nan")])

    def score(*_: object) -> dict[str, float]:
        return {"spearman": next(given, 0.0)}

    monkeypatch.setattr(Regression, "score", score)
    outcome = run(*REGRESSION, "train.epochs=3", "train.resamples=0")
    steps = [line["step"] for line in outcome.run.read_metrics() if "valid_spearman" in line]
    assert outcome.progress.best_step == steps[1]
    assert outcome.progress.best_value == -0.25
    log = outcome.run.log_file.read_text()
    assert f"step {steps[0]}: the validation spearman is nan; this step cannot be selected" in log


def test_without_a_defined_validation_score_the_last_weights_are_kept_with_a_warning(
    run: Run, table: Path, tmp_path: Path
) -> None:
    """The only validation protein has no label."""
    rows = table.read_text().splitlines()
    kept = [rows[0], *(row for row in rows if row.endswith(",train")), "long_1,,,valid1,valid"]
    file = tmp_path / "few.csv"
    file.write_text("\n".join(kept) + "\n")
    outcome = run(*REGRESSION, "train.epochs=2", f"data.table={file}", f"data.structures={table.parent}")
    assert outcome.progress.best_step == outcome.progress.step == outcome.num_steps
    assert outcome.run.model.exists()
    log = outcome.run.log_file.read_text()
    assert "the validation spearman is nan; no validation gave a number, so model.safetensors has" in log
    scores = json.loads(outcome.run.results.read_text())["sets"]["valid"]["scores"]
    assert scores["spearman"]["value"] is None


def test_predictions_that_are_not_finite_have_no_score() -> None:
    values = torch.tensor([[1.0], [float("nan")], [3.0]])
    found = Predictions.named(values, torch.ones(3, 1), ["a", "b", "c"])
    task = Regression(Regression.Settings(), encoder_dim=2, num_targets=1)
    report = score_with_intervals(task, found, 10)
    assert list(report) == ["spearman"]
    assert np.isnan(report["spearman"]["value"])
