"""A plugin's own downstream task is used by what it declares, whatever it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esmgn_core.batch import Encoding, Protein, ProteinBatch, TaskOutput
from esmgn_core.engine.session import start_run
from esmgn_core.graph import View
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.inference.mutate.paired import mutated
from esmgn_core.inference.mutate.variants import Addresses
from esmgn_core.protocols import Output
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind

from ..cli.conftest import Esmgn, esmgn  # noqa: F401 - a fixture
from ..conftest import PluginHost, pdb_text
from ..engine.conftest import SMALL

TINY = Path(__file__).parents[1] / "fixtures" / "fusion" / "esm2_t2_tiny.pt"


class Own(nn.Module):
    """A task that no plugin of this project has: with outputs between 39 and 41."""

    class Settings(ComponentSettings):
        """No settings."""

    metric = "minus_loss"
    group_size = 1
    output: Output = "values"

    def __init__(self, settings: Settings, *, encoder_dim: int, num_targets: int) -> None:
        super().__init__()
        self.settings = settings
        self.label_dim = 1 if self.output == "classes" else num_targets
        self.head = nn.Linear(encoder_dim, num_targets)

    def prepare(self, labels: torch.Tensor) -> None: ...

    def views(self, batch: ProteinBatch, build_graph: Any, draws: object) -> tuple[View, ...]:  # noqa: ARG002
        return (View(batch, build_graph(batch), {}),)

    def predict(self, encoding: Encoding, batch: ProteinBatch) -> torch.Tensor:  # noqa: ARG002
        last: torch.Tensor = self.head(encoding.protein[:: self.group_size]).float().tanh()
        return last + 40.0

    def loss(self, views: Any, encodings: Any) -> TaskOutput:
        return TaskOutput(self.predict(encodings[0], views[0].batch).square().mean(), len(views[0].batch))

    def score(self, predictions: torch.Tensor, labels: Any, groups: Any) -> dict[str, float]:  # noqa: ARG002
        return {"minus_loss": -float(predictions.square().mean())}


def own(output: Output, *, group_size: int = 1) -> type[Own]:
    return type("Own", (Own,), {"output": output, "group_size": group_size})


@pytest.fixture
def single(tmp_path: Path, proteins: list[Protein]) -> list[str]:
    """Settings of a table of six proteins with one label each."""
    lines = ["file,label,split"]
    for number, protein in enumerate(proteins):
        (tmp_path / f"{protein.name}.pdb").write_text(pdb_text(protein))
        lines.append(f"{protein.name}.pdb,{number % 2},{'valid' if number > 3 else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return [f"data.table={tmp_path / 'labels.csv'}", f"data.structures={tmp_path}"]


@pytest.fixture
def pairs(tmp_path: Path, proteins: list[Protein]) -> list[str]:
    """Settings of a table of four pairs of a protein and its mutant."""
    lines = ["file,mutant,label,split"]
    for number, protein in enumerate(proteins[:4]):
        (variant,) = Addresses(protein).all_substitutions()[:1]
        (tmp_path / f"wild{number}.pdb").write_text(pdb_text(protein))
        (tmp_path / f"mutant{number}.pdb").write_text(pdb_text(mutated(protein, variant)))
        lines.append(f"wild{number}.pdb,mutant{number}.pdb,{number % 2},{'valid' if number > 1 else 'train'}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    return [f"data.table={tmp_path / 'pairs.csv'}", f"data.structures={tmp_path}", "data.kind=pairs"]


def train(host: PluginHost, task: type[Own], data: list[str], folder: Path) -> Path:
    """One step of a run with the task, under a name that esmgn does not know."""
    host.install("stranger", host.component(Kind.DOWNSTREAM, "stranger", task))
    encoder = [item for item in SMALL if item.startswith("struct")]
    weights = ["seq.name=esm2_tiny", f"seq.weights={TINY}", "seq.embed_dim=16", "optim.seq_lr_scale=0"]
    run = ["downstream.name=stranger", "data.name=csv", "train.max_steps=1", "train.trackers=[]"]
    config = configure(discover(), [parse_assignments([*encoder, *weights, *data, *run])])
    return start_run(discover(), config, out=folder / "run").run.path


@pytest.mark.parametrize("output", ["multilabel", "classes", "values"])
def test_predict_reads_what_the_task_declares(
    host: PluginHost,
    single: list[str],
    tmp_path: Path,
    esmgn: Esmgn,  # noqa: F811
    output: Output,
) -> None:
    """Quantities are printed as they are, independent labels and classes as probabilities."""
    kind = {"multilabel": "multilabel", "classes": "classification", "values": "regression"}[output]
    run = train(host, own(output), [*single, f"data.kind={kind}"], tmp_path)
    done = esmgn("predict", run, tmp_path / "protein4.pdb", "-o", tmp_path / "found.json", "--device", "cpu")
    assert done.status == 0, done.err
    record = json.loads((tmp_path / "found.json").read_text())
    scores = [row["score"] for row in record["rows"]]
    if output == "values":
        assert 39 <= scores[0] <= 41
        assert not record["warnings"]
        return
    assert sum(scores) == pytest.approx(1.0 if output == "classes" else len(scores), abs=1e-4)
    assert "2 validation proteins with a known label, 30 needed" in record["warnings"][0]


@pytest.mark.parametrize(("output", "column"), [("multilabel", "probability"), ("values", "value")])
def test_mutate_reads_what_a_task_on_pairs_declares(
    host: PluginHost,
    pairs: list[str],
    tmp_path: Path,
    esmgn: Esmgn,  # noqa: F811
    output: Output,
    column: str,
) -> None:
    run = train(host, own(output, group_size=2), pairs, tmp_path)
    file, table = tmp_path / "wild0.pdb", tmp_path / "found.json"
    done = esmgn("mutate", file, "--all", "--model", run, "-o", table, "--device", "cpu")
    assert done.status == 0, done.err
    record = json.loads(table.read_text())
    assert record["scored_by"].startswith(f"head of {run} on pairs of wild type and mutant")
    assert record["scored_by"].endswith("(not calibrated)") == (output == "multilabel")
    value = record["rows"][0][column]
    assert (39 <= value <= 41) if output == "values" else value == pytest.approx(1.0)
    refused = esmgn("predict", run, file, "--device", "cpu")
    assert refused.status == 2
    assert "predicts for pairs of a protein and its mutant" in refused.err


def test_a_class_of_a_pair_is_not_a_score_of_a_mutation(
    host: PluginHost,
    pairs: list[str],
    tmp_path: Path,
    esmgn: Esmgn,  # noqa: F811
) -> None:
    run = train(host, own("classes", group_size=2), pairs, tmp_path)
    refused = esmgn("mutate", tmp_path / "wild0.pdb", "--all", "--model", run, "--device", "cpu")
    assert refused.status == 2
    assert "predicts the class of a pair, which is not a score of a mutation" in refused.err


def test_scans_are_scored_by_the_language_model_of_the_run(
    host: PluginHost,
    single: list[str],
    proteins: list[Protein],
    tmp_path: Path,
    esmgn: Esmgn,  # noqa: F811
) -> None:
    """``esmgn evaluate`` and ``esmgn mutate`` print that the labels of the run are not used."""
    run = train(host, own("values"), [*single, "data.kind=regression"], tmp_path)
    sequence = proteins[0].sequence
    rows = [f"{sequence[at]}{at + 1}{'A' if sequence[at] != 'A' else 'G'}" for at in (3, 5, 7)]
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "scan.pdb").write_text(pdb_text(proteins[0]))
    table = "\n".join(["mutant,DMS_score", *(f"{row},{number}" for number, row in enumerate(rows))])
    (scans / "scan.csv").write_text(table + "\n")
    evaluated = esmgn("evaluate", "proteingym", scans, "--model", run, "--device", "cpu")
    assert evaluated.status == 0, evaluated.err
    scored = esmgn("mutate", scans / "scan.pdb", rows[0], "--model", run, "--device", "cpu")
    assert scored.status == 0, scored.err
    for done in (evaluated, scored):
        assert "the task of the run (stranger) is not used" in " ".join(done.out.split())
