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
_OF_BLOCK = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.self.rotary_embeddings": "self_attn.rot_emb",
    "attention.output.dense": "self_attn.out_proj",
    "attention.LayerNorm": "self_attn_layer_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "LayerNorm": "final_layer_norm",
}
_OTHER = {
    _HUGGING_FACE: _ANCHOR,
    "encoder.emb_layer_norm_after.weight": "emb_layer_norm_after.weight",
    "encoder.emb_layer_norm_after.bias": "emb_layer_norm_after.bias",
    "lm_head.decoder.weight": "lm_head.weight",
}
"""Names of transformers and of fair-esm: parts of a block, and other tensors."""
_BLOCK = re.compile(r"(?P<prefix>|.*\.)encoder\.layer\.(?P<block>\d+)\.(?P<part>.+)\.(?P<leaf>\w+)")
_BLOCK_OF_FAIR_ESM = re.compile(r"layers\.(?P<block>\d+)\.(?P<part>.+)\.(?P<leaf>\w+)")
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
            "keep one of them, such as the averaged one, in a separate file",
        )
    prefix = prefixes[0] if prefixes else ""
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return {name: value for name, value in own.items() if not name.startswith(_NOT_NEEDED)} | _head(
        state, prefix
    )


def to_hugging_face(name: str) -> str:
    """The name in transformers of a tensor in fair-esm, without prefixes."""
    if match := _BLOCK_OF_FAIR_ESM.fullmatch(name):
        part = {ours: theirs for theirs, ours in _OF_BLOCK.items()}[match["part"]]
        return f"esm.encoder.layer.{match['block']}.{part}.{match['leaf']}"
    if name.startswith(_HEAD):
        return name
    other = {ours: theirs for theirs, ours in _OTHER.items()}.get(name, name)
    return f"esm.{other}"


def _from_hugging_face(name: str) -> str:
    """The name in fair-esm, with the same prefix."""
    # The names of normalisations in files of transformers 5.
    name = re.sub(
        r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
    )
    match = _BLOCK.fullmatch(name)
    if match and (part := _OF_BLOCK.get(match["part"])):
        return f"{match['prefix']}layers.{match['block']}.{part}.{match['leaf']}"
    for theirs, ours in _OTHER.items():
        if name == theirs or name.endswith(f".{theirs}"):
            return name.removesuffix(theirs) + ours
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
