"""Tiny models with random weights in the files of Hugging Face, one of each family."""

# ruff: noqa: S106 - tokens, not passwords

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from esmgn_core.alphabet import MASKED, encode
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_hf.library import logging
from esmgn_hf.protbert import VOCABULARY

_ESM_TOKENS = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
_SIZE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
_T5_SIZE = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2, "dropout_rate": 0.0}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Family(NamedTuple):
    """A folder, and transformers used by hand on one chain."""

    folder: Path
    by_hand: Callable[[str], Any]
    has_head: bool


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """An empty cache and no connection."""
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ESMGN_OFFLINE", "1")


@pytest.fixture(scope="session")
def family(tmp_path_factory) -> Callable[[str], Family]:
    """Make the folder of a family on first use."""
    root, made = tmp_path_factory.mktemp("models"), dict[str, Family]()

    def get(name: str) -> Family:
        if name not in made:
            logging.set_verbosity_error()
            logging.disable_progress_bar()
            torch.manual_seed(0)
            made[name] = _make(name, root / name)
        return made[name]

    return get


def _make(name: str, folder: Path) -> Family:
    model, tokenizer, text, words = globals()[f"_{name}"](folder)
    for parameter in model.parameters():  # biases and norms are 0 and 1 at first
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    @torch.no_grad()
    def by_hand(sequence: str) -> Any:
        rows = tokenizer(text(sequence), is_split_into_words=words, return_tensors="pt")
        return model(
            rows["input_ids"], attention_mask=rows["attention_mask"], output_hidden_states=True
        ), rows["input_ids"].shape[1]

    return Family(folder, by_hand, not name.endswith("t5") and name != "ankh")


def _with_masks(sequence: str, mask: str) -> list[str]:
    return [mask if letter == "#" else letter for letter in sequence]


def _esm(folder: Path) -> tuple[Any, ...]:
    from transformers import EsmConfig, EsmForMaskedLM, EsmTokenizer

    config = EsmConfig(
        vocab_size=33, pad_token_id=1, mask_token_id=32, position_embedding_type="rotary", token_dropout=True,
        emb_layer_norm_before=False, layer_norm_eps=1e-5, **_SIZE, **_NO_DROPOUT,
    )  # fmt: skip
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(_ESM_TOKENS))
    tokenizer = EsmTokenizer(str(folder / "vocab.txt"))
    return EsmForMaskedLM(config), tokenizer, lambda s: "".join(_with_masks(s, "<mask>")), False


def _esmc(_: Path) -> tuple[Any, ...]:
    from transformers import EsmcConfig, EsmcForMaskedLM, EsmcTokenizer

    model = EsmcForMaskedLM(EsmcConfig(**_SIZE))
    return model, EsmcTokenizer(), lambda s: "".join(_with_masks(s, "<mask>")), False


def _bert(folder: Path) -> tuple[Any, ...]:
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    config = BertConfig(vocab_size=30, max_position_embeddings=200, **_SIZE, **_NO_DROPOUT)
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False)
    return BertForMaskedLM(config), tokenizer, lambda s: " ".join(_with_masks(s, "[MASK]")), False


def _prott5(_: Path) -> tuple[Any, ...]:
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = [(f"▁{letter}", -2.5) for letter in "ALGVSREDTIPKFQNYMHWCXBOUZ"]
    tokenizer = T5Tokenizer(vocab=[*_T5_SPECIAL, *pieces])
    model = T5EncoderModel(T5Config(vocab_size=128, **_T5_SIZE))
    return model, tokenizer, lambda s: " ".join(_with_masks(s, "<extra_id_0>")), False


def _ankh(_: Path) -> tuple[Any, ...]:
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    letters = ["<pad>", "</s>", "<unk>", *"ALGVSREDTIPKFQNYMHWCXBOUZ", "<extra_id_0>"]
    vocabulary = {token: number for number, token in enumerate(letters)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    model = T5EncoderModel(T5Config(vocab_size=144, feed_forward_proj="gated-gelu", **_T5_SIZE))
    return model, tokenizer, lambda s: _with_masks(s, "<extra_id_0>"), True


def _roformer(folder: Path) -> tuple[Any, ...]:
    """A type without its own rule in the plugin."""
    from transformers import BertTokenizer, RoFormerConfig, RoFormerForMaskedLM

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    config = RoFormerConfig(vocab_size=30, max_position_embeddings=200, **_SIZE, **_NO_DROPOUT)
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), do_lower_case=False)
    return RoFormerForMaskedLM(config), tokenizer, lambda s: " ".join(_with_masks(s, "[MASK]")), False


_T5_SPECIAL = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]


@pytest.fixture
def make_batch():
    """Proteins from strings: ``/`` between chains, ``#`` a masked residue, ``X`` an unknown one."""

    def make(*sequences: str) -> ProteinBatch:
        return ProteinBatch.from_proteins([_protein(sequence) for sequence in sequences])

    return make


def _protein(sequence: str) -> Protein:
    chains = sequence.split("/")
    letters = "".join(chains)
    residue_type: Tensor = torch.tensor(encode(letters))
    residue_type[torch.tensor([letter == "#" for letter in letters])] = MASKED
    chain = torch.tensor([number for number, part in enumerate(chains) for _ in part])
    zeros = torch.zeros(len(letters), 4, 3)
    return Protein(sequence, residue_type, zeros, zeros[..., 0] == 0, torch.arange(len(letters)), chain)
