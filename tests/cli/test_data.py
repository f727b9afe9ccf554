"""``esmgn data``: output and error messages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from esmgn_core.inference.model import ModelName, load_model
from esmgn_core.io.write import pdb_text
from esmgn_core.testing import example_proteins

from .conftest import Esmgn


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "structures"
    path.mkdir()
    for protein in example_proteins():
        (path / f"{protein.name}.pdb").write_text(pdb_text(protein))
    (path / "empty.pdb").write_text("")
    return path


def test_a_folder_becomes_a_store_and_the_totals_are_printed(esmgn: Esmgn, folder: Path, tmp_path: Path):
    result = esmgn("data", "build", folder, "-o", tmp_path / "store", "--workers", 1)
    assert result.status == 0
    assert "proteins  5" in result.out
    assert "refused   1" in result.out
    assert f"train on it: esmgn run --data {tmp_path / 'store'}" in result.out


def test_refused_files_are_listed_with_reasons(esmgn: Esmgn, folder: Path, tmp_path: Path):
    esmgn("data", "build", folder, "-o", tmp_path / "store")
    lines = esmgn("data", "list", tmp_path / "store", "--refused").out.splitlines()
    assert lines == ["name\tsource\tmember\treason", f"empty\t{folder / 'empty.pdb'}\t\tthe file is empty"]


def test_proteins_are_listed_up_to_a_limit(esmgn: Esmgn, folder: Path, tmp_path: Path):
    esmgn("data", "build", folder, "-o", tmp_path / "store")
    lines = esmgn("data", "list", tmp_path / "store", "--limit", 1).out.splitlines()
    assert lines[1].split("\t")[:3] == ["long", "120", "A"]
    assert lines[2] == "... and 4 more; list all: --limit 0"
    assert len(esmgn("data", "list", tmp_path / "store", "--limit", 0).out.splitlines()) == 6


def test_a_protein_is_shown_with_its_sequence_and_breaks(esmgn: Esmgn, folder: Path, tmp_path: Path):
    esmgn("data", "build", folder, "-o", tmp_path / "store")
    out = esmgn("data", "show", tmp_path / "store", "long").out
    sequence = next(p.sequence for p in example_proteins() if p.name == "long")
    assert out.splitlines()[-1] == sequence
    assert '"breaks"' in out


def test_a_wrong_name_gets_the_nearest(esmgn: Esmgn, folder: Path, tmp_path: Path):
    esmgn("data", "build", folder, "-o", tmp_path / "store")
    result = esmgn("data", "show", tmp_path / "store", "predictd")
    assert result.status == 2
    assert "did you mean: predicted?" in result.err


def test_verify_reports_an_intact_store(esmgn: Esmgn, folder: Path, tmp_path: Path):
    esmgn("data", "build", folder, "-o", tmp_path / "store")
    assert esmgn("data", "verify", tmp_path / "store").out == "5 proteins, every byte as it was written\n"


def test_verify_reports_the_missing_records_of_a_store_of_0_1_0(esmgn: Esmgn, folder: Path, tmp_path: Path):
    """Its index has no checksum: a flipped bit in it is not found."""
    esmgn("data", "build", folder, "-o", tmp_path / "store")
    manifest, recorded = tmp_path / "store" / "store.json", {"proteins", "shards", "files"}
    kept = {name: value for name, value in json.loads(manifest.read_text()).items() if name not in recorded}
    manifest.write_text(json.dumps(kept))
    first, second, _ = esmgn("data", "verify", tmp_path / "store").out.splitlines()
    assert first == "5 proteins, every byte outside the index as it was written"
    assert second.startswith("not checked: the index, and the number of shards")


def test_the_error_for_a_folder_without_a_store_names_the_command(esmgn: Esmgn, folder: Path):
    result = esmgn("data", "info", folder)
    assert result.status == 2
    assert result.err == (
        f"error: no store in {folder}: it has no store.json\n"
        "  make one: esmgn data build SOURCE... -o STORE\n"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--atoms", "all"), "unknown value 'all' (--atoms)"),
        (("--coordinates", "float64"), "did you mean: float32?"),
        (("--shard", "3/2"), "cannot read --shard '3/2'"),
        (("--executor", "rai"), "did you mean: ray?"),
    ],
)
def test_wrong_flags_are_named(esmgn: Esmgn, folder: Path, tmp_path: Path, flags, message):
    result = esmgn("data", "build", folder, "-o", tmp_path / "store", *flags)
    assert result.status == 2
    assert message in result.err


def test_single_chains_are_taken_by_a_list(esmgn: Esmgn, folder: Path, tmp_path: Path):
    (tmp_path / "chains.txt").write_text("Two_Chains-B\n9XXX-A\n")
    result = esmgn("data", "build", folder, "-o", tmp_path / "store", "--chains", tmp_path / "chains.txt")
    assert result.status == 0, result.err
    lines = esmgn("data", "list", tmp_path / "store").out.splitlines()
    assert lines[1].split("\t")[:3] == ["Two_Chains-B", "23", "B"]
    refused = esmgn("data", "list", tmp_path / "store", "--refused").out.splitlines()
    assert [(line.split("\t")[0], line.split("\t")[-1]) for line in refused[1:]] == [
        ("9XXX-A", "no file of this name")
    ]


def test_an_interrupted_build_names_the_next_command_and_keeps_its_layout(
    esmgn: Esmgn, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    store = tmp_path / "store"
    monkeypatch.setattr("esmgn_core.store.workers.build_part", interrupt)
    result = esmgn("data", "build", folder, "-o", store, "--atoms", "ca")
    assert (result.status, result.err) == (130, f"stopped; continue: esmgn data build -o {store}\n")
    monkeypatch.undo()
    result = esmgn("data", "build", "-o", store)
    assert result.status == 0, result.err
    assert "atoms 'ca'" in result.out


def test_a_store_is_trained_on(esmgn: Esmgn, folder: Path, tmp_path: Path):
    for copy, protein in enumerate(example_proteins(seed=3)):
        (folder / f"copy{copy}.pdb").write_text(pdb_text(replace(protein, name=f"copy{copy}")))
    esmgn("data", "build", folder, "-o", tmp_path / "store")
    flags = ("--seq", "onehot", "--struct", "gearnet", "--fuse", "serial", "--pretext", "residue_type")
    small = ("--set", "struct.num_layers=1", "--set", "struct.hidden_dim=8", "--set", "train.max_steps=1")
    result = esmgn("run", "--data", tmp_path / "store", *flags, *small, "--out", tmp_path / "run")
    assert result.status == 0, result.err
    assert f'path = "{tmp_path / "store"}"' in (tmp_path / "run" / "config.toml").read_text()


def test_secondary_structure_and_exposure_are_kept_shown_and_trained_on(
    esmgn: Esmgn, folder: Path, tmp_path: Path
):
    for copy, protein in enumerate(example_proteins(seed=3)):
        (folder / f"copy{copy}.pdb").write_text(pdb_text(replace(protein, name=f"copy{copy}")))
    store, run = tmp_path / "store", tmp_path / "run"
    flags = ("--secondary-structure", "--exposure", "--workers", 1)
    built = esmgn("data", "build", folder, "-o", store, *flags)
    assert built.status == 0, built.err
    assert "features  secondary_structure, exposure" in esmgn("data", "info", store).out
    printed = esmgn("data", "report", store).out
    assert all(f"\nresidues in {kind}" in printed for kind in ("helix", "strand", "coil"))
    page = (store / "report.html").read_text()
    assert "Secondary structure, % of residues" in page
    assert "Exposure of residues, square angstrom" in page

    encoder = ("--seq", "onehot", "--struct", "gearnet", "--fuse", "serial", "--pretext", "residue_type")
    small = ("--set", "struct.num_layers=1", "--set", "struct.hidden_dim=8", "--set", "train.max_steps=1")
    inputs = ("--set", 'inputs.residue=["secondary_structure_3", "exposure"]')
    trained = esmgn("run", "--data", store, *encoder, *small, *inputs, "--out", run)
    assert trained.status == 0, trained.err
    assert '"secondary_structure_3"' in (run / "config.toml").read_text()
    of_store, of_files = tmp_path / "of_store.safetensors", tmp_path / "of_files.safetensors"
    for source, out in ((store, of_store), (folder, of_files)):
        embedded = esmgn("embed", source, "--model", run, "--out", out)
        assert embedded.status == 0, embedded.err
    ours, theirs = load_file(of_store), load_file(of_files)
    assert all(torch.equal(ours[name], theirs[name]) for name in ("residue", "protein"))
    file = folder / "copy0.pdb"
    scanned = esmgn("mutate", file, "--all", "--model", run)
    assert scanned.status == 0, scanned.err
    unknown = torch.full((len(example_proteins(seed=3)[0]),), torch.nan)
    model = load_model(ModelName(folder=str(run)))
    protein = model.read(file)
    assert protein.features.keys() == {"secondary_structure", "exposure"}
    none = replace(protein, features=dict.fromkeys(protein.features, unknown))
    assert not torch.equal(model.embed(protein).residue, model.embed(none).residue), "they are not looked at"


def test_a_run_on_a_store_without_the_feature_names_the_option_to_build_it(
    esmgn: Esmgn, folder: Path, tmp_path: Path
):
    esmgn("data", "build", folder, "-o", tmp_path / "store", "--workers", 1)
    result = esmgn(
        "run", "--data", tmp_path / "store", "--set", 'inputs.residue=["exposure"]', "--seq", "onehot"
    )
    assert result.status == 2
    assert result.err == (
        "error: the structure encoder needs 'exposure' of each residue (inputs.residue), "
        "but the proteins have no residue features\n"
        "  build a store with it: esmgn data build SOURCE... -o STORE --exposure\n"
    )


def test_a_split_reports_its_comparisons_and_keeps_relatives_together(esmgn: Esmgn, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    wild = example_proteins()[2]
    for place in range(0, 40, 2):
        changed = wild.residue_type.clone()
        changed[place] = (changed[place] + 1) % 20
        text = pdb_text(replace(wild, residue_type=changed))
        (tmp_path / "in" / f"mutant{place}.pdb").write_text(text)
    generator = torch.Generator().manual_seed(0)
    for number in range(20):
        drawn = torch.randint(20, (len(wild),), generator=generator)
        file = tmp_path / "in" / f"AF-P{number // 4 + 1}-F{number % 4 + 1}-model_v4.pdb"
        file.write_text(pdb_text(replace(wild, residue_type=drawn)))
    store, splits = tmp_path / "store", tmp_path / "splits.tsv"
    assert esmgn("data", "build", tmp_path / "in", "-o", store).status == 0
    result = esmgn("data", "split", store, "-o", splits, "--valid", 0.4)
    assert result.status == 0, result.err
    assert "groups of related proteins: 6, the largest of 20" in result.out
    assert "checked: identical sequences, fragments of one AlphaFold accession, chains sharing at least" in (
        result.out
    )
    assert "not checked: remote homology (use" in result.out
    given = dict(line.split("\t") for line in splits.read_text().splitlines()[1:])
    assert len({split for name, split in given.items() if name.startswith("mutant")}) == 1
    for seed in range(1, 6):
        assert len({split for name, split in given.items() if f"-P{seed}-" in name}) == 1
    torn = {name: ("train", "valid")[place % 2] for place, name in enumerate(given)}
    splits.write_text("".join(f"{name}\t{split}\n" for name, split in torn.items()))
    result = esmgn("data", "split", store, "-o", splits, "--check")
    assert result.status == 2
    assert "6 leaks between the splits" in result.err
    result = esmgn("data", "split", store, "-o", splits, "--check", "--shared-kmers", 0)
    assert "5 leaks between the splits" in result.err
    assert "not checked: 5-mers, remote homology" in result.out


def test_a_leak_between_splits_ends_with_an_error_status(esmgn: Esmgn, folder: Path, tmp_path: Path):
    """Scripts stop at a failure only if the exit status shows it."""
    for name in ("one", "two"):
        (folder / f"{name}.pdb").write_text(pdb_text(replace(example_proteins()[2], name=name)))
    store, splits = tmp_path / "store", tmp_path / "splits.tsv"
    esmgn("data", "build", folder, "-o", store)
    splits.write_text("one\ttrain\ntwo\tvalid\n")
    result = esmgn("data", "split", store, "-o", splits, "--check")
    assert result.status == 2
    assert "one (train), two (valid)" in result.err or "two (valid), one (train)" in result.err


def test_training_proteins_related_to_test_proteins_are_listed(
    esmgn: Esmgn, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "other.pdb").write_text(pdb_text(example_proteins()[2]))
    done = esmgn("data", "leaks", folder, tmp_path / "test")
    assert done.status == 1
    assert done.out.splitlines()[:2] == [
        f"note: 1 file of {folder} not compared: the file is empty",
        "related to 1 test protein: 1 of 5 training proteins",
    ]
    assert done.out.splitlines()[-1] == "long\trelated to other"
    table = tmp_path / "leaks.tsv"
    assert esmgn("data", "leaks", folder, tmp_path / "test", "-o", table).status == 1
    assert table.read_text() == "training\trelated_to\nlong\tother\n"
    (tmp_path / "test" / "other.pdb").write_text(pdb_text(example_proteins(seed=9)[2]))
    assert esmgn("data", "leaks", folder, tmp_path / "test").status == 0
    assert "no such file" in esmgn("data", "leaks", folder, tmp_path / "none").err


def test_the_proteins_of_runs_are_compared(esmgn: Esmgn, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    splits = {"long": "train", "two_chains": "train", "predicted": "valid", "pair": "test", "single": "test"}
    lines = [f"{folder}/{name}.pdb,{split},{len(name)}" for name, split in splits.items()]
    table.write_text("\n".join(["file,split,label", *lines]) + "\n")
    one, two = tmp_path / "one", tmp_path / "two"
    small = ("--seq", "onehot", "--set", "struct.hidden_dim=8", "--set", "train.max_steps=1")
    assert esmgn("run", *small, "--pretext", "residue_type", "--data", folder, "--out", one).status == 0
    labels = ("--downstream", "regression", "--data", "csv", "--set", f"data.table={table}")
    tuned = esmgn("run", "--init", one, *labels, "--set", "train.max_steps=1", "--out", two)
    assert tuned.status == 0, tuned.err
    command = f"esmgn data leaks {one} {two}"
    assert f"were not compared with the test sets: {command}" in (two / "log.txt").read_text()
    done = esmgn("data", "leaks", one, two)
    assert done.status == 1
    related = [line.split("\t")[0] for line in done.out.splitlines()[-2:]]
    assert sorted(related) == ["pair", "single"]
