"""Folders of runs, stores, weights and embeddings that esmgn 0.1.0 wrote are read, resumed and used.

Recorded on a CPU with torch 2.13: ESM-2 of one layer and 8 dimensions, GearNet of one layer of 8.
``interrupted`` was stopped at step 3 of 6, and ``resumed.safetensors`` is the encoder after 0.1.0 resumed it.
``finished`` is a multi-label task, ``embedded.npz`` its embeddings of ``structures``. ``store`` has the same
proteins.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import esmgn_core
from esmgn_core.store import Store

from .conftest import Esmgn

RECORDED = Path(__file__).parents[1] / "fixtures" / "esmgn-0.1.0"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the recorded files, made the working directory: runs name their data relative to it."""
    shutil.copytree(RECORDED, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_interrupted_run_is_resumed_to_the_same_weights(old: Path, esmgn: Esmgn) -> None:
    done = esmgn("run", "--resume", "interrupted")
    assert done.status == 0, done.err
    assert "6/6" in done.out + done.err
    found, expected = load_file(old / "interrupted/model.safetensors"), load_file(old / "resumed.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.usefixtures("old")
def test_a_resumed_run_states_that_its_data_were_not_compared(esmgn: Esmgn) -> None:
    done = esmgn("run", "--resume", "interrupted")
    assert "not checked: whether the data and the settings changed" in done.err


def test_an_encoder_embeds_as_recorded(old: Path) -> None:
    with np.load(old / "embedded.npz") as recorded:
        expected = dict(zip(recorded["name"], recorded["protein"], strict=True))
    model = esmgn_core.load(old / "finished", device="cpu")
    assert len(expected) == 3
    for name, vector in expected.items():
        found = model.embed(old / "structures" / f"{name}.pdb").protein
        np.testing.assert_allclose(found, vector, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("old")
def test_a_run_without_a_record_of_its_packages_is_used_without_a_warning(esmgn: Esmgn) -> None:
    done = esmgn("embed", "structures", "-o", "new.npz", "--model", "finished")
    assert done.status == 0, done.err
    assert "warning" not in done.err
    assert "was made with" not in esmgn("run", "--resume", "interrupted").err


@pytest.mark.filterwarnings("default::esmgn_core.errors.EsmgnWarning")
@pytest.mark.parametrize(
    ("command", "kind", "name"),
    [
        (["embed", "structures", "-o", "new.npz", "--model", "finished"], "struct", "gearnet"),
        (["predict", "finished", "structures", "-o", "scores.csv"], "downstream", "multilabel"),
        (["mutate", "structures/pair.pdb", "E1G", "--model", "finished"], "struct", "gearnet"),
    ],
    ids=["embed", "predict", "mutate"],
)
def test_another_package_is_one_warning_of_a_command(
    old: Path, esmgn: Esmgn, command: list[str], kind: str, name: str
) -> None:
    package = '{ package = "esmgn", version = "0.0.1", sha256 = "1" }'
    with (old / "finished/config.toml").open("a") as file:
        file.write(f"[provided_by.{kind}]\n{name} = {package}\n")
    err = esmgn(*command).err
    assert err.count("finished was made with ") == err.count("of esmgn 0.0.1, and esmgn ") == 1, err


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--init", "finished", "--data", "sample"],
        ["run", "--resume", "finished"],
        ["embed", "structures", "-o", "new.npz", "--model", "finished"],
        ["predict", "finished", "structures"],
    ],
    ids=["init", "resume", "embed", "predict"],
)
def test_a_missing_package_is_named_with_its_command(old: Path, esmgn: Esmgn, command: list[str]) -> None:
    config = old / "finished/config.toml"
    text = config.read_text().replace('"gearnet"', '"rings"')
    package = '{ package = "esmgn-rings", version = "1.2", sha256 = "1" }'
    config.write_text(f"{text}[provided_by.struct]\nrings = {package}\n")
    status, _, err = esmgn(*command)
    assert status == 2
    first, *hints = err.splitlines()
    assert first.startswith("error: ")
    assert first.endswith("finished needs the structure encoder 'rings' of package esmgn-rings 1.2")
    assert hints == ["  install it: pip install 'esmgn-rings==1.2'", "  see: esmgn plugins"]


def test_a_finished_run_predicts(old: Path, esmgn: Esmgn) -> None:
    done = esmgn("predict", "finished", "structures", "-o", "scores.csv")
    assert done.status == 0, done.err
    lines = (old / "scores.csv").read_text().splitlines()
    assert {"two_chains", "predicted", "pair"} <= {line.split(",")[0] for line in lines}


@pytest.mark.usefixtures("old")
def test_an_embedding_file_is_searched(esmgn: Esmgn) -> None:
    done = esmgn("neighbors", "pair", "--in", "embedded.npz")
    assert done.status == 0, done.err
    assert "two_chains" in done.out


@pytest.mark.usefixtures("old")
def test_runs_are_listed(esmgn: Esmgn) -> None:
    done = esmgn("runs", "--in", ".")
    assert done.status == 0, done.err
    assert "finished" in done.out
    assert "interrupted" in done.out


def test_a_store_is_read_and_trained_on(old: Path, esmgn: Esmgn) -> None:
    store = Store(old / "store")
    assert sorted(protein.name for protein in store) == ["pair", "predicted", "two_chains"]
    done = esmgn(
        *("run", "--seq", "onehot", "--struct", "gearnet", "--data", "./store", "--out", "new"),
        *("--set", "struct.hidden_dim=8", "--set", "struct.num_layers=1", "--set", "train.epochs=1"),
    )
    assert done.status == 0, done.err
    assert json.loads((old / "new/metrics.jsonl").read_text().splitlines()[-1])["loss"] > 0


@pytest.mark.usefixtures("old")
def test_a_run_starts_from_recorded_weights(esmgn: Esmgn) -> None:
    done = esmgn(
        "run", "--init", "finished", "--data", "structures", "--set", "train.epochs=1", "--out", "new"
    )
    assert done.status == 0, done.err
