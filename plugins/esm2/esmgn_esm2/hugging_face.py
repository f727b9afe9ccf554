"""Folders of transformers with ESM-2: configuration, weights and tokenizer.

Source: the folders that transformers 5.24 writes (``EsmForMaskedLM``, ``EsmTokenizer``).
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from esmgn_esm2.checkpoint import Size
from esmgn_esm2.model import rotary_frequencies
from esmgn_esm2.names import to_hugging_face
from esmgn_esm2.tokens import ALPHABET, CLS, EOS, MASK

_PAD, _UNKNOWN = ALPHABET.index("<pad>"), ALPHABET.index("<unk>")


def write_folder(folder: Path, size: Size, state: Mapping[str, Tensor]) -> None:
    """Write ``config.json``, ``model.safetensors``, ``vocab.txt`` and ``tokenizer_config.json``.

    Args:
        folder: an existing folder.
        size: the size of the model.
        state: tensors by the names of fair-esm. With those of the language-model head the class of the model
            is ``EsmForMaskedLM``, else ``EsmModel``.
    """
    num_layers, embed_dim, heads = size
    tensors = {to_hugging_face(name): tensor.contiguous() for name, tensor in state.items()}
    for number in range(num_layers or 0):
        name = to_hugging_face(f"layers.{number}.self_attn.rot_emb.inv_freq")
        tensors[name] = rotary_frequencies((embed_dim or 0) // (heads or 1)).clone()
    has_head = any(name.startswith("lm_head.") for name in state)
    config = {
        "architectures": ["EsmForMaskedLM" if has_head else "EsmModel"],
        "model_type": "esm",
        "vocab_size": len(ALPHABET),
        "num_hidden_layers": num_layers,
        "hidden_size": embed_dim,
        "num_attention_heads": heads,
        "intermediate_size": 4 * (embed_dim or 0),
        "position_embedding_type": "rotary",
        "max_position_embeddings": 1026,
        "token_dropout": True,
        "emb_layer_norm_before": False,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "pad_token_id": _PAD,
        "eos_token_id": EOS,
        "mask_token_id": MASK,
        "dtype": "float32",
    }
    tokens = {
        "cls_token": CLS,
        "pad_token": _PAD,
        "eos_token": EOS,
        "unk_token": _UNKNOWN,
        "mask_token": MASK,
    }
    tokenizer = {"tokenizer_class": "EsmTokenizer", **{key: ALPHABET[at] for key, at in tokens.items()}}
    for file, content in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(ALPHABET), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
