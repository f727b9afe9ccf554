from pathlib import Path

import pytest
import torch
from torch import Tensor

from esmgn_core.alphabet import MASKED, encode
from esmgn_core.batch import Protein, ProteinBatch

_ESM1_SIZE = {"num_layers": 2, "embed_dim": 16, "attention_heads": 4}
FIXTURES = Path(__file__).parents[3] / "tests" / "fixtures" / "fusion"


@pytest.fixture
def fixtures() -> Path:
    """Recorded values of the original implementation."""
    return FIXTURES


@pytest.fixture
def isolated(tmp_path, monkeypatch) -> Path:
    """Create and return an empty cache; nothing else on the machine is read."""
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("ESMGN_WEIGHTS_DIR", raising=False)
    monkeypatch.delenv("ESMGN_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def make_batch():
    """Proteins from strings: ``/`` between chains, ``#`` a masked residue, ``X`` an unknown one."""
    return _batch


def _batch(*sequences: str) -> ProteinBatch:
    return ProteinBatch.from_proteins([_protein(sequence) for sequence in sequences])


def _protein(sequence: str) -> Protein:
    chains = sequence.split("/")
    letters = "".join(chains)
    residue_type = torch.tensor(encode(letters), dtype=torch.int64)
    residue_type[torch.tensor([letter == "#" for letter in letters], dtype=torch.bool)] = MASKED
    return Protein(
        name=sequence,
        residue_type=residue_type,
        backbone=torch.zeros(len(letters), 4, 3),
        atom_mask=torch.ones(len(letters), 4, dtype=torch.bool),
        residue_index=torch.arange(len(letters)),
        chain_index=torch.tensor([i for i, chain in enumerate(chains) for _ in chain], dtype=torch.int64),
    )


@pytest.fixture
def fair_esm():
    """Run fair-esm's own ESM2 on proteins of one chain each, padded as fair-esm pads."""
    return _run_fair_esm


def _run_fair_esm(model: torch.nn.Module, *sequences: str) -> list[Tensor]:
    """Representations [n, D] of each protein, from a model of fair-esm."""
    hidden = _fair_esm_outputs(model, *sequences)["representations"][model.num_layers]
    return [row[1 : len(sequence) + 1] for row, sequence in zip(hidden, sequences, strict=True)]


@pytest.fixture
def fair_esm_output():
    """fair-esm's logits [n, 33] or attentions [layers, heads, n, n] of each protein, by their name."""
    return _cut_fair_esm_output


def _cut_fair_esm_output(model: torch.nn.Module, name: str, *sequences: str) -> list[Tensor]:
    outputs = _fair_esm_outputs(model, *sequences, need_head_weights=name == "attentions")[name]
    cut = []
    for row, sequence in zip(outputs, sequences, strict=True):
        residues = slice(1, len(sequence) + 1)
        cut.append(row[residues] if name == "logits" else row[..., residues, residues])
    return cut


def _fair_esm_outputs(model: torch.nn.Module, *sequences: str, **options: bool) -> dict:
    alphabet = model.alphabet
    longest = max(len(sequence) for sequence in sequences)
    tokens = torch.full((len(sequences), longest + 2), alphabet.padding_idx)
    for row, sequence in enumerate(sequences):
        ids = [alphabet.mask_idx if letter == "#" else alphabet.get_idx(letter) for letter in sequence]
        tokens[row, : len(ids) + 2] = torch.tensor([alphabet.cls_idx, *ids, alphabet.eos_idx])
    return model(tokens, repr_layers=[model.num_layers], **options)


@pytest.fixture
def fair_esm_file(tmp_path):
    """A model of fair-esm with random weights, and its file in the layout of the published ones."""
    return lambda **options: _fair_esm_file(tmp_path / "esm2_made.pt", **options)


def _fair_esm_file(path: Path, *, dtype: torch.dtype = torch.float32, **size: int):
    from argparse import Namespace

    from esm.model.esm2 import ESM2

    torch.manual_seed(0)
    model = ESM2(**size).eval()
    state = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith("contact_head."):
            prefix = "encoder." if name.startswith("lm_head.") else "encoder.sentence_encoder."
            state[prefix + name] = tensor.to(dtype)
    arguments = Namespace(token_dropout=True, **{f"encoder_{name}": value for name, value in size.items()})
    torch.save({"cfg": {"model": arguments}, "model": state}, path)
    return model, path


@pytest.fixture
def esm1_file(tmp_path):
    """A model of fair-esm, as fair-esm loads it, and its file in the layout of the published ones."""

    def make(*, norm_before=True, token_dropout=True, **changes):
        from esm.pretrained import load_model_and_alphabet_core

        content = _esm1_content(norm_before=norm_before, token_dropout=token_dropout, **changes)
        path = tmp_path / "esm1b_made.pt"
        torch.save(content, path)
        with pytest.warns(UserWarning, match="Regression weights not found"):
            model, _ = load_model_and_alphabet_core("esm1b_made", torch.load(path, weights_only=False))
        model.alphabet = _esm1_alphabet()
        return model.eval(), path

    return make


def _esm1_content(*, norm_before, token_dropout, dtype=torch.float32, **changes):
    """Random weights, biases and norms off their initial values."""
    from argparse import Namespace

    from esm.data import Alphabet
    from esm.model.esm1 import ProteinBertModel

    size = {**_ESM1_SIZE, **changes}
    arguments = {
        "layers": size["num_layers"],
        "embed_dim": size["embed_dim"],
        "ffn_embed_dim": 4 * size["embed_dim"],
        "attention_heads": size["attention_heads"],
    }
    others = {"arch": "roberta_large", "max_positions": 1024, "token_dropout": token_dropout}
    torch.manual_seed(0)
    model = ProteinBertModel(
        Namespace(**arguments, **others, emb_layer_norm_before=norm_before),
        Alphabet.from_architecture("roberta_large"),
    )
    state = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith("contact_head."):
            prefix = "encoder." if name.startswith("lm_head.") else "encoder.sentence_encoder."
            state[prefix + name] = (tensor + 0.1 * torch.randn_like(tensor)).to(dtype)
    state["encoder.lm_head.weight"] = state["encoder.sentence_encoder.embed_tokens.weight"]
    stored = Namespace(**{f"encoder_{name}": value for name, value in arguments.items()}, **others)
    return {"args": stored, "model": state}


def _esm1_alphabet():
    from esm.data import Alphabet

    return Alphabet.from_architecture("ESM-1b")
