"""Tensors of ESM-2 in the files of other libraries: their names, and the prefixes of wrappers.

Source: the files of fair-esm 2.0.0 and of transformers 5.24 (``EsmForMaskedLM``).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esmgn_core.errors import WeightsError

_ANCHOR = "embed_tokens.weight"
_FIRST_BLOCK = "layers.0.self_attn.q_proj.weight"
_HEAD = "lm_head."
_NOT_NEEDED = ("contact_head.", "structure.", "fuser.")
_HUGGING_FACE = "embeddings.word_embeddings.weight"
_BLOCK = r"encoder\.layer\.(?P<block>\d+)\."
_RENAMED = (
    (r"embeddings\.word_embeddings\.weight$", _ANCHOR),
    (rf"{_BLOCK}attention\.self\.query\.", r"layers.\g<block>.self_attn.q_proj."),
    (rf"{_BLOCK}attention\.self\.key\.", r"layers.\g<block>.self_attn.k_proj."),
    (rf"{_BLOCK}attention\.self\.value\.", r"layers.\g<block>.self_attn.v_proj."),
    (rf"{_BLOCK}attention\.self\.rotary_embeddings\.", r"layers.\g<block>.self_attn.rot_emb."),
    (rf"{_BLOCK}attention\.output\.dense\.", r"layers.\g<block>.self_attn.out_proj."),
    (rf"{_BLOCK}attention\.LayerNorm\.", r"layers.\g<block>.self_attn_layer_norm."),
    (rf"{_BLOCK}intermediate\.dense\.", r"layers.\g<block>.fc1."),
    (rf"{_BLOCK}output\.dense\.", r"layers.\g<block>.fc2."),
    (rf"{_BLOCK}LayerNorm\.", r"layers.\g<block>.final_layer_norm."),
    (r"encoder\.emb_layer_norm_after\.", "emb_layer_norm_after."),
    (r"lm_head\.decoder\.weight$", "lm_head.weight"),
)
_UNUSED = re.compile(
    r"(^|\.)(embeddings\.position_embeddings\.weight|embeddings\.position_ids"
    r"|encoder\.layer\.\*\.|(?<!self\.)rotary_embeddings\.inv_freq|lm_head\.decoder\.bias|pooler\.)"
)
"""Tensors that transformers writes beside those of the model, and that nothing reads."""


def sequence_encoder(path: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of ESM-2 in a state dict, by the names of fair-esm without prefixes.

    Names of transformers are translated. Any prefix of a wrapper, such as Lightning's ``model.``, is removed;
    tensors with other prefixes are left out.

    Args:
        path: the file, for messages.
        state: its tensors.

    Raises:
        WeightsError: the state dict has several models.
    """
    if any(name.endswith(_HUGGING_FACE) for name in state):
        state = {_from_hugging_face(name): value for name, value in state.items() if not _UNUSED.search(name)}
    prefixes = [
        prefix
        for name in state
        if name == _ANCHOR or name.endswith(f".{_ANCHOR}")
        if f"{(prefix := name.removesuffix(_ANCHOR))}{_FIRST_BLOCK}" in state
    ]
    if len(prefixes) > 1:
        raise WeightsError(
            f"weights in {path} have {len(prefixes)} models, under {' and '.join(map(repr, prefixes))}",
            "keep one of them, such as the averaged one, in a file of its own",
        )
    prefix = prefixes[0] if prefixes else ""
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return {name: value for name, value in own.items() if not name.startswith(_NOT_NEEDED)} | _head(
        state, prefix
    )


def _from_hugging_face(name: str) -> str:
    """The name in fair-esm, with the same prefix."""
    # The names of normalisations in files of transformers 5.
    name = re.sub(
        r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
    )
    for pattern, replacement in _RENAMED:
        if re.search(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return name


def _head(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The language-model head beside the encoder, or beside the module around it."""
    for place in _around(prefix):
        if f"{place}{_HEAD}dense.weight" in state:
            names = [name for name in state if name.startswith(f"{place}{_HEAD}")]
            return {name.removeprefix(place): state[name] for name in names}
    return {}


def _around(prefix: str) -> Iterator[str]:
    yield prefix
    while prefix:
        prefix = prefix.removesuffix(".").rpartition(".")[0]
        prefix += "." if prefix else ""
        yield prefix
