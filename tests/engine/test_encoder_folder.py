"""Runs that start from the encoder of another run or of imported weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from esmgn_core.engine.checkpoint import encoder_tensors
from esmgn_core.engine.session import resume_run
from esmgn_core.errors import WeightsError
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.model.joint import JointEncoder
from esmgn_core.model.tensors import write_tensors
from esmgn_core.published.convert import export_folder, import_file

from .conftest import Start, small_config

FUSION = Path(__file__).parents[1] / "fixtures" / "fusion"
FROM_FILE = (
    "seq.name=esm2",
    "seq.num_layers=2",
    "seq.embed_dim=16",
    "seq.attention_heads=4",
    f"seq.weights={FUSION / 'esm2_t2_tiny.pt'}",
)
FROZEN = "optim.seq_lr_scale=0"
STILL = ("optim.lr=1e-30", "train.max_steps=1", "train.seed=5")
"""One step that changes no weight, from other random ones."""
SEQUENCE, STRUCTURE = "sequence.model.layers.1.fc1.weight", "structure.layers.1.linear.weight"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path / "cache"))


def fused(*changes: str) -> JointEncoder:
    return resolve(discover(), small_config(*changes)).encoder()


def test_a_run_starts_from_the_encoder_of_another(start: Start) -> None:
    first = start("train.max_steps=2").run
    second = start(*STILL, out="second", init=first.path).run
    other = start(*STILL, out="other").run
    trained, again, fresh = (load_file(run.model) for run in (first, second, other))
    for name in (SEQUENCE, STRUCTURE):
        assert torch.equal(trained[name], again[name])
        assert not torch.equal(trained[name], fresh[name])


def test_where_a_run_started_from_is_recorded_also_after_a_resume(start: Start) -> None:
    first = start("train.max_steps=1").run
    second = start("train.max_steps=1", out="second", init=first.path).run
    sha256 = EncoderFolder(first.path).sha256()
    expected = {"path": str(first.path), "model_sha256": sha256}
    assert json.loads(second.environment.read_text())["started_from"] == expected
    assert f"encoder from {first.model}, sha256 {sha256}" in second.log_file.read_text()
    again = f"# Repeat this run: esmgn run {second.config} --init {first.path}"
    assert second.config.read_text().splitlines()[0] == again
    resume_run(discover(), second.path, changes={"train": {"max_steps": 2}})
    assert json.loads(second.environment.read_text())["started_from"] == expected
    assert second.config.read_text().splitlines()[0] == again


def test_a_frozen_encoder_that_only_the_configuration_names_is_fetched_from_its_file(start: Start) -> None:
    """Also into a run whose own weights differ; that run then keeps a copy and can be resumed."""
    first = start(*FROM_FILE, FROZEN, "train.max_steps=1").run
    assert SEQUENCE not in load_file(first.model)
    random = (*FROM_FILE, "seq.weights=random", FROZEN, *STILL)
    second = start(*random, out="second", init=first.path).run
    published = fused(*FROM_FILE).state_dict()
    assert torch.equal(load_file(second.model)[SEQUENCE], published[SEQUENCE])
    resumed = resume_run(discover(), second.path, changes={"train": {"max_steps": 2}})
    assert torch.equal(load_file(resumed.run.last / "model.safetensors")[SEQUENCE], published[SEQUENCE])


def test_a_frozen_encoder_that_is_the_files_is_not_copied(start: Start, tmp_path: Path) -> None:
    """Imported weights hold ESM-2 as published: the file names it, the run's checkpoints need not."""
    import_file(discover(), FUSION / "fusion_series.state.safetensors", tmp_path / "imported")
    size = ("struct.hidden_dim=16", "struct.num_layers=2")
    published = start(*FROM_FILE, *size, FROZEN, *STILL, init=tmp_path / "imported").run
    assert SEQUENCE not in load_file(published.model)


def test_a_frozen_encoder_that_is_not_the_files_is_kept(start: Start) -> None:
    """A trained ESM-2, frozen from now on, is in no file but the run's own."""
    first = start(*FROM_FILE, "optim.seq_lr_scale=1", "optim.lr=0.01", "train.max_steps=2").run
    second = start(*FROM_FILE, FROZEN, *STILL, out="second", init=first.path).run
    trained = load_file(first.model)[SEQUENCE]
    assert torch.equal(load_file(second.model)[SEQUENCE], trained)
    assert json.loads(second.environment.read_text())["sequence_weights_sha256"] is None
    resumed = resume_run(discover(), second.path, changes={"train": {"max_steps": 2}})
    assert torch.equal(load_file(resumed.run.last / "model.safetensors")[SEQUENCE], trained)


def test_a_trained_encoder_serves_as_a_file_of_weights(tmp_path: Path) -> None:
    """``seq.weights`` takes the sequence encoder out of a run's model file."""
    import_file(discover(), FUSION / "fusion_series.state.safetensors", tmp_path / "imported")
    weights = f"seq.weights={tmp_path / 'imported' / 'model.safetensors'}"
    ours = fused(*FROM_FILE, weights).state_dict()
    assert torch.equal(ours[SEQUENCE], fused(*FROM_FILE).state_dict()[SEQUENCE])


def test_a_run_is_exported_with_the_frozen_encoder_of_its_file(start: Start, tmp_path: Path) -> None:
    run = start(*FROM_FILE, FROZEN, "train.max_steps=1").run
    exported = export_folder(discover(), run.path, tmp_path / "exported.pth")
    assert exported.unused_from == FUSION / "esm2_t2_tiny.pt"
    state, recorded = exported.state, load_file(FUSION / "fusion_series.state.safetensors")
    assert state.keys() == recorded.keys()
    for name in recorded:
        if name.startswith("sequence_model.") and ".contact_head." not in name:
            assert torch.equal(state[name], recorded[name]), name


def test_other_weights_than_the_run_used_are_refused(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes((FUSION / "esm2_t2_tiny.pt").read_bytes())
    run = start(*FROM_FILE, f"seq.weights={file}", FROZEN, "train.max_steps=1").run
    content = torch.load(file, weights_only=False)
    torch.save({**content, "another": 1}, file)
    with pytest.raises(WeightsError, match="trained with other weights of the sequence encoder"):
        EncoderFolder(run.path).tensors(discover())


def test_an_encoder_that_does_not_fit_is_refused_before_a_folder_is_made(
    start: Start, tmp_path: Path
) -> None:
    first = start("train.max_steps=1").run
    with pytest.raises(WeightsError) as caught:
        start("struct.hidden_dim=8", out="second", init=first.path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{first.model} does not fit the model"
    assert "  shape of structure.batch_norms.0.bias: [16] in the file, [8] in the model" in lines
    assert lines[-1] == "  and 19 more"
    assert not (tmp_path / "second").exists()


def test_tied_weights_are_written_twice(tmp_path: Path) -> None:
    """safetensors refuses tensors that share memory, as an encoder's embedding and output layer may."""
    encoder = resolve(discover(), small_config()).encoder()
    sequence = encoder.get_submodule("sequence")
    first = torch.nn.Linear(3, 2, bias=False)
    second = torch.nn.Linear(3, 2, bias=False)
    second.weight = first.weight
    sequence.add_module("first", first)
    sequence.add_module("second", second)
    write_tensors(encoder_tensors(encoder), tmp_path / "model.safetensors", {})
    tensors = load_file(tmp_path / "model.safetensors")
    assert torch.equal(tensors["sequence.first.weight"], first.weight)
    assert torch.equal(tensors["sequence.second.weight"], first.weight)
