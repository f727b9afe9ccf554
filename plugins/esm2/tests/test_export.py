"""ESM-2 written as a folder that transformers loads."""

from __future__ import annotations

import pytest
import torch

from esmgn_core.engine.session import start_run
from esmgn_core.errors import RunError, WeightsError
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import discover
from esmgn_core.published.hugging_face import export_hugging_face
from esmgn_esm2.encoder import ESM2
from esmgn_esm2.tokens import ALPHABET

from .test_wrappers import SEQUENCE, SHAPES, make

SIZES = dict(zip(("num_layers", "embed_dim", "attention_heads"), SHAPES["tiny"], strict=True))


def run(folder, *, lr_scale=0.0, **seq):
    """A run folder after one step."""
    tables = {
        "seq": {"name": "esm2", **(SIZES if "weights" in seq else {}), **seq},
        "struct": {"name": "gearnet", "hidden_dim": 8, "num_layers": 1},
        "fuse": {"name": "serial"},
        "pretext": {"name": "residue_type"},
        "data": {"name": "sample", "num_proteins": 4},
        "optim": {"lr": 0.01, "seq_lr_scale": lr_scale},
        "train": {"max_steps": 1, "proteins_per_batch": 2, "trackers": []},
    }
    return start_run(discover(), configure(discover(), [tables]), out=folder).run.path


@pytest.fixture
def tokens():
    return torch.tensor([[0, *(ALPHABET.index(letter) for letter in SEQUENCE), 2]])


def test_a_frozen_model_comes_back_with_both_heads(tmp_path, tokens):
    from transformers import AutoTokenizer, EsmForMaskedLM

    weights, original = make(tmp_path / "weights")
    notes = export_hugging_face(discover(), run(tmp_path / "run", weights=weights), tmp_path / "out")
    assert notes == [f"language-model head: from {weights}", f"contact head: from {weights}"]
    found, report = EsmForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]
    assert torch.equal(found.eval()(tokens).logits, original(tokens).logits)
    mask = torch.ones_like(tokens)
    for model in (found, original):
        model.set_attn_implementation("eager")  # the only one that gives attention maps
    assert torch.equal(found.predict_contacts(tokens, mask), original.predict_contacts(tokens, mask))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer(SEQUENCE)["input_ids"] == tokens[0].tolist()
    assert tokenizer.mask_token_id == ALPHABET.index("<mask>")


def test_a_trained_model_gives_the_same_representations(tmp_path, tokens, make_batch):
    from transformers import AutoModel

    from esmgn_core.inference.model import ModelName, load_model

    path = run(tmp_path / "run", weights="random", lr_scale=1.0)
    notes = export_hugging_face(discover(), path, tmp_path / "out")
    assert notes == ["language-model head: none", "contact head: none"]
    batch = make_batch(SEQUENCE)
    wanted = load_model(ModelName(folder=str(path)), device="cpu").sequence.eval()(batch).residue
    again = ESM2(ESM2.Settings(weights=tmp_path / "out", **SIZES)).eval()
    assert torch.equal(again(batch).residue, wanted)
    theirs = AutoModel.from_pretrained(tmp_path / "out").eval()(tokens).last_hidden_state[0, 1:-1]
    assert (theirs - wanted).abs().max() < 1e-6 * wanted.abs().max()


def test_a_head_in_the_encoder_is_written(tmp_path):
    from transformers import EsmForMaskedLM

    path = run(tmp_path / "run", weights="random", lm_head=True, contact_head=True)
    assert export_hugging_face(discover(), path, tmp_path / "out") == []
    _, report = EsmForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]


def test_what_transformers_cannot_run_is_refused(tmp_path):
    path = run(tmp_path / "run", weights="random")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(RunError, match="not an empty folder"):
        export_hugging_face(discover(), path, tmp_path / "full")
    older = run(tmp_path / "older", name="esm1", weights="random")
    with pytest.raises(WeightsError, match="esm1 cannot be written for transformers"):
        export_hugging_face(discover(), older, tmp_path / "out")
    assert [*tmp_path.glob("*out*")] == []
    one_hot = run(tmp_path / "onehot", name="onehot")
    with pytest.raises(WeightsError, match=r"sequence encoder onehot .* cannot be written for transformers"):
        export_hugging_face(discover(), one_hot, tmp_path / "out")
