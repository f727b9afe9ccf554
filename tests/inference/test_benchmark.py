"""ProteinGym as a whole: averages, saved scores, ensembles, insertions and deletions."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from scipy import stats

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import ProteinBatch
from esmgn_core.errors import RunError
from esmgn_core.inference.fasta import protein_of_sequence
from esmgn_core.inference.model import ModelName
from esmgn_core.inference.mutate.assays import find_assays
from esmgn_core.inference.mutate.benchmark import ScoreFolder, average, ensemble, leaderboard
from esmgn_core.inference.mutate.fitness import Scored, correlate, pseudo_likelihoods
from esmgn_core.inference.mutate.scorer import load_scorer
from esmgn_core.io.write import pdb_text
from esmgn_core.testing import example_proteins

from ..cli.conftest import Esmgn, esmgn  # noqa: F401 - a fixture

REFERENCE = """DMS_id,UniProt_ID,coarse_selection_type,target_seq
a1,P1,Stability,MKV
a2,P1,Stability,MKV
a3,P2,Stability,MKV
a4,P1,Binding,MKV
a5,P3,Binding,MKV
"""
OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "fitness" / "proteingym" / "DMS_substitutions.csv"


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    file = tmp_path / "DMS_substitutions.csv"
    file.write_text(REFERENCE)
    return file


def test_assays_are_averaged_over_proteins_then_functions(reference: Path) -> None:
    found = average({"a1": 0.2, "a2": 0.4, "a3": 0.9, "a4": 0.5, "other": 1.0, "a5": math.nan}, reference)
    assert found is not None
    assert found.functions == {"Binding": 0.5, "Stability": pytest.approx((0.3 + 0.9) / 2)}
    assert found.mean == pytest.approx(0.55)
    assert (found.num_assays, found.num_reference) == (4, 5)
    assert average({"other": 0.3}, reference) is None
    reference.write_text("DMS_id,target_seq\na1,MKV\n")
    with pytest.raises(RunError, match="lacks a column"):
        average({"a1": 0.3}, reference)


@pytest.mark.skipif(not OFFICIAL.exists(), reason=f"needs {OFFICIAL}")
def test_all_assays_of_the_official_file_are_averaged_like_the_official_script() -> None:
    """The same grouping in another order of operations, on made-up correlations."""
    rows = list(csv.DictReader(OFFICIAL.read_text(encoding="utf-8").splitlines()))
    values = {row["DMS_id"]: math.sin(number) for number, row in enumerate(rows)}
    found = average(values, OFFICIAL)
    assert found is not None
    assert found.num_assays == found.num_reference == 217
    assert sorted(found.functions) == ["Activity", "Binding", "Expression", "OrganismalFitness", "Stability"]
    groups: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        proteins = groups.setdefault(row["coarse_selection_type"], {})
        proteins.setdefault(row["UniProt_ID"], []).append(values[row["DMS_id"]])
    expected = np.mean(
        [np.mean([np.mean(part) for part in proteins.values()]) for proteins in groups.values()]
    )
    assert found.mean == pytest.approx(expected)


def test_public_averages_are_the_means_of_their_functions() -> None:
    for row in leaderboard():
        functions = [float(row[name]) for name in [*row][2:]]
        assert len(functions) == 5
        assert fmean(functions) == pytest.approx(float(row["average"]), abs=0.0011)


def test_an_ensemble_correlates_mean_ranks_of_common_variants(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    measured = random.normal(size=30)
    names = [f"A{number}G" for number in range(30)]
    folders = []
    for model in range(2):
        predicted = measured + random.normal(size=30)
        folder = ScoreFolder(tmp_path / str(model), {"model": model})
        kept = slice(0, 30 - model)
        folder.write(
            "assay", Scored(names[kept], measured[kept].tolist(), (100**model * predicted)[kept].tolist())
        )
        folders.append((folder, predicted))
    [(name, value, number)] = ensemble([folder for folder, _ in folders])
    ranks = sum(stats.rankdata(predicted[:29]) for _, predicted in folders)
    assert (name, number) == ("assay", 29)
    assert value == pytest.approx(stats.spearmanr(ranks, measured[:29]).statistic)


def test_a_folder_of_another_model_or_a_damaged_table_is_refused(tmp_path: Path) -> None:
    ScoreFolder(tmp_path, {"model": "one"}).write("a", Scored(["A1G"], [1.0], [2.0]))
    assert ScoreFolder(tmp_path, {"model": "one"}).read("a") == Scored(["A1G"], [1.0], [2.0])
    with pytest.raises(RunError, match="scores of another model"):
        ScoreFolder(tmp_path, {"model": "two"})
    (tmp_path / "a.csv").write_text("mutant,DMS_score,score\nA1G,1.0,\n")
    with pytest.raises(RunError, match="is not a table of scores: delete it"):
        ScoreFolder(tmp_path).read("a")


def test_insertions_and_deletions_are_scored_by_pseudo_likelihood(tmp_path: Path) -> None:
    scorer = load_scorer(ModelName(names={"seq": "esm2_tiny"}), device="cpu")
    sequences = ["MKVLAAGG", "MKVLAG", "MKVWWLAAGG"]
    found = pseudo_likelihoods(scorer, sequences, max_residues=10)
    for sequence, value in zip(sequences, found, strict=True):
        logits = scorer.logits(ProteinBatch.from_proteins([protein_of_sequence("x", sequence)]))
        own = torch.tensor([AMINO_ACIDS.index(letter) for letter in sequence])
        assert value == pytest.approx(float(logits.log_softmax(1).gather(1, own[:, None]).sum()), rel=1e-5)
    rows = [f"{sequence},{number}" for number, sequence in enumerate(sequences)]
    (tmp_path / "indels.csv").write_text(
        "\n".join(["mutated_sequence,DMS_score", *rows, "MK-V,3", "MKV,"]) + "\n"
    )
    [assay] = find_assays(tmp_path)
    result = correlate(scorer, assay, max_residues=4096)
    assert result.num_variants == 3
    assert result.left_out == {"not a sequence of the 20 amino acids": 1, "without a score": 1}
    assert result.spearman == pytest.approx(stats.spearmanr(found, [0, 1, 2]).statistic)


def test_the_command_resumes_averages_and_makes_ensembles(
    esmgn: Esmgn,  # noqa: F811 - the fixture
    tmp_path: Path,
    reference: Path,
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    protein = example_proteins()[4]
    reference.write_text(REFERENCE.replace("MKV", protein.sequence))
    for name in ("a1", "a4"):
        (scans / f"{name}.pdb").write_text(pdb_text(protein))
        letters = protein.sequence
        rows = [f"{letters[at]}{at + 1}{'A' if letters[at] != 'A' else 'G'},{at * 7 % 5}" for at in range(9)]
        (scans / f"{name}.csv").write_text("\n".join(["mutant,DMS_score", *rows]) + "\n")
    command = ("evaluate", "proteingym", scans, "--device", "cpu", "--reference", reference)
    one = esmgn(*command, "--seq", "esm2_tiny", "--scores", tmp_path / "one")
    assert one.status == 0, one.err
    assert "ProteinGym: 2 of 5 assays" in one.out
    assert "not comparable with public values, which are over all assays" in one.out
    again = esmgn(*command, "--seq", "esm2_tiny", "--scores", tmp_path / "one")
    table = next(line for line in one.out.splitlines() if line.startswith("a1")).split()
    repeated = next(line for line in again.out.splitlines() if line.startswith("a1")).split()
    assert repeated[:3] == table[:3]
    assert "scored by an earlier run of this command" in again.err
    other = ("--seq", "esm2_tiny", "--set", "train.seed=5")
    assert esmgn(*command, *other, "--scores", tmp_path / "one").status == 2
    assert esmgn(*command, *other, "--scores", tmp_path / "two").status == 0
    both = esmgn("evaluate", "ensemble", tmp_path / "one", tmp_path / "two", "--reference", reference)
    assert both.status == 0
    assert [line.split()[0] for line in both.out.splitlines()[:3]] == ["assay", "a1", "a4"]
    assert "ProteinGym: 2 of 5 assays" in both.out
    assert esmgn("evaluate", "ensemble", tmp_path / "one").status == 2
