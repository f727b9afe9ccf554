"""ESM-2 from the files of other libraries: transformers, and wrappers that add prefixes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import WeightsError
from esmgn_esm2.encoder import ESM2
from esmgn_esm2.tokens import ALPHABET

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV"
SHAPES = {"tiny": (3, 32, 4), "8M": (6, 320, 20), "35M": (12, 480, 20)}


def make(folder: Path, shape: str = "tiny", **changes: Any) -> tuple[Path, Any]:
    """A folder of transformers with random weights, and its model."""
    from transformers import EsmConfig, EsmForMaskedLM

    num_layers, width, heads = SHAPES[shape]
    config = EsmConfig(
        vocab_size=33,
        pad_token_id=1,
        mask_token_id=32,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
        num_hidden_layers=num_layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **changes,
    )
    torch.manual_seed(1)
    model = EsmForMaskedLM(config).eval()
    for parameter in model.parameters():  # biases and norms are 0 and 1 at first
        parameter.data += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder, model


def encoder(weights: Path, shape: str = "tiny", **settings: Any) -> ESM2:
    num_layers, width, heads = SHAPES[shape]
    sizes = {"num_layers": num_layers, "embed_dim": width, "attention_heads": heads}
    return ESM2(ESM2.Settings(weights=weights, lm_head=True, **sizes, **settings)).eval()


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_a_folder_of_transformers_gives_its_representations_and_logits(shape, tmp_path, make_batch):
    folder, model = make(tmp_path, shape)
    tokens = torch.tensor([[0, *(ALPHABET.index(letter) for letter in SEQUENCE), 2]])
    output = model(tokens, attention_mask=torch.ones_like(tokens), output_hidden_states=True)
    ours, batch = encoder(folder, shape), make_batch(SEQUENCE)
    wanted = output.hidden_states[-1][0, 1:-1]
    assert (ours(batch).residue - wanted).abs().max() < 1e-6 * wanted.abs().max()
    rows = [ALPHABET.index(letter) for letter in AMINO_ACIDS]
    logits = output.logits[0, 1:-1][:, rows]
    assert (ours.residue_logits(batch) - logits).abs().max() < 3e-6 * logits.abs().max()
    half = encoder(folder, shape)
    with torch.autocast("cpu", torch.bfloat16):
        found = half(batch).residue.float()
    assert torch.cosine_similarity(found, wanted, dim=1).min() > 0.99


def plain(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


WRAPPERS = {
    "Lightning": lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}},
    "Lightning around DDP": lambda state: {
        "state_dict": {f"model.module.{name}": value for name, value in state.items()}
    },
    "compiled": lambda state: {f"net._orig_mod.{name}": value for name, value in state.items()},
    "a task around it": lambda state: {
        **{f"backbone.{name}": value for name, value in state.items()},
        "classifier.weight": torch.ones(3, 32),
    },
    "half precision": lambda state: {name: value.half() for name, value in state.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@torch.no_grad()
def test_wrappers_are_recognized_by_their_tensors(wrapper, tmp_path, make_batch):
    folder, _ = make(tmp_path / "hf")
    torch.save(WRAPPERS[wrapper](plain(folder)), tmp_path / "wrapped.pt")
    batch = make_batch(SEQUENCE)
    expected, found = encoder(folder)(batch).residue, encoder(tmp_path / "wrapped.pt")(batch).residue
    tolerance = 2e-2 if wrapper == "half precision" else 0.0
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@torch.no_grad()
def test_a_folder_of_shards_and_a_bin_file_are_read(tmp_path, make_batch):
    folder, model = make(tmp_path / "one")
    model.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    torch.save(plain(folder), tmp_path / "pytorch_model.bin")
    batch = make_batch(SEQUENCE)
    whole, shards, single = (
        encoder(path) for path in (folder, tmp_path / "shards", tmp_path / "pytorch_model.bin")
    )
    assert torch.equal(whole(batch).residue, shards(batch).residue)
    assert torch.equal(whole(batch).residue, single(batch).residue)
    assert whole.weights_sha256 != shards.weights_sha256


def test_what_is_not_one_esm2_is_refused(tmp_path):
    folder, _ = make(tmp_path / "hf")
    state = plain(folder)
    both = {f"{prefix}.{name}": value for name, value in state.items() for prefix in ("model", "ema")}
    torch.save(both, tmp_path / "both.pt")
    with pytest.raises(WeightsError, match=r"have 2 models, under 'model\.esm\.' and 'ema\.esm\.'"):
        encoder(tmp_path / "both.pt")
    lacking = {f"model.{name}": value for name, value in state.items() if "layer.2.output" not in name}
    torch.save(lacking, tmp_path / "lacking.pt")
    with pytest.raises(WeightsError, match=r"2 missing: layers\.2\.fc2\.weight, layers\.2\.fc2\.bias"):
        encoder(tmp_path / "lacking.pt")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "esmc"}))
    with pytest.raises(WeightsError, match=r"of type esmc\n  run it by transformers: --seq hf"):
        encoder(folder)
    (folder / "config.json").write_text(json.dumps({**config, "token_dropout": False}))
    with pytest.raises(WeightsError, match="without token dropout"):
        encoder(folder)
    with pytest.raises(WeightsError, match="of a model of another size"):
        ESM2(
            ESM2.Settings(weights=make(tmp_path / "again")[0], num_layers=2, embed_dim=32, attention_heads=4)
        )
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="no weights in the folder"):
        encoder(tmp_path / "empty")


def test_a_file_without_a_head_says_so(tmp_path):
    folder, _ = make(tmp_path / "hf")
    state = {name: value for name, value in plain(folder).items() if not name.startswith("lm_head")}
    save_file(state, tmp_path / "trunk.safetensors")
    with pytest.raises(WeightsError, match="no language-model head"):
        encoder(tmp_path / "trunk.safetensors")
