"""Weights in fair-esm's layout: read, checked against the model, and put into it without a copy.

Source: the files of fair-esm 2.0.0 (facebookresearch/esm).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import WeightsError
from esmgn_core.weights import load_file, state_dict
from esmgn_esm2.model import Transformer, rotary_frequencies
from esmgn_esm2.tokens import token_table

_PREFIX = re.compile(r"^encoder\.(sentence_encoder\.)?|^sequence(_model)?\.model\.")
_NOT_NEEDED = ("contact_head.", "structure.", "fuser.")
_HEAD = "lm_head."
_FREQUENCIES = ".self_attn.rot_emb.inv_freq"
_SHOWN = 6


class Size(NamedTuple):
    """Size of a model; ``None`` where a file does not show it."""

    num_layers: int | None
    embed_dim: int | None
    attention_heads: int | None


class Weights(NamedTuple):
    """Tensors of a file, without prefixes, and the model arguments it holds."""

    path: Path
    state: dict[str, Any]
    arguments: dict[str, Any]


def read_weights(path: Path) -> Weights:
    """Read the sequence encoder of a file.

    Reads fair-esm's ``.pt`` files and ``.safetensors`` with the same names, with or without their
    prefixes, and the ``model.safetensors`` of a run or of imported weights.

    Raises:
        WeightsError: the file cannot be read.
    """
    content = load_file(path)
    return Weights(path, _sequence_encoder(state_dict(content)), _arguments(content))


def fill(model: Transformer, weights: Weights, size: Size) -> None:
    """Fill ``model``, which may be on the meta device, with the weights of a file.

    The language-model head is taken if ``model`` has one. Half precision becomes float32; the
    parameters of the model are the file's own memory where its type allows.

    Args:
        model: the transformer to fill.
        weights: of a file.
        size: the size of ``model``.

    Raises:
        WeightsError: the file belongs to a model of another size, or lacks tensors, has others, or
            has them in other shapes.
    """
    path, state, arguments = weights
    _take_or_drop_head(path, model, state)
    frequencies = _take_frequencies(state)
    _check_size(path, size, _size_of(state, frequencies, arguments))
    _check_tensors(path, model.state_dict(), state)
    _check_assumptions(path, model, frequencies, arguments)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    """Model arguments of fair-esm: a Namespace, in ``cfg`` of ESM-2's files, in ``args`` of older ones."""
    config = content.get("cfg")
    arguments = config.get("model") if isinstance(config, Mapping) else content.get("args")
    return dict(arguments if isinstance(arguments, Mapping) else getattr(arguments, "__dict__", {}))


def _sequence_encoder(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict without prefixes, contact head and other parts of a joint encoder."""
    stripped = {_PREFIX.sub("", name): value for name, value in state.items()}
    return {name: value for name, value in stripped.items() if not name.startswith(_NOT_NEEDED)}


def _take_or_drop_head(path: Path, model: Transformer, state: dict[str, Any]) -> None:
    """Leave of the language-model head in ``state`` what ``model`` has a place for."""
    if model.lm_head is not None and not any(name.startswith(_HEAD) for name in state):
        state |= _head_beside(path)
    decoder, embedding = state.pop(f"{_HEAD}weight", None), state.get("embed_tokens.weight")
    names = [name for name in state if name.startswith(_HEAD)]
    if model.lm_head is None:
        for name in names:
            del state[name]
        return
    if not names:
        raise WeightsError(
            f"weights in {path} have no language-model head (seq.lm_head = true)",
            "files of fair-esm have one; without it: --set seq.lm_head=false",
        )
    if _is_float(decoder) and _is_float(embedding):
        rows = token_table("X")[: len(AMINO_ACIDS)]  # of other tokens nothing is asked
        if not torch.equal(decoder[rows], embedding[rows]):
            raise WeightsError(f"weights in {path}: {_HEAD}weight is not the embedding, this is not ESM-2")


def _head_beside(path: Path) -> dict[str, Any]:
    """The head that ``esmgn weights import`` keeps in a file of its own."""
    extras = path.with_name("extras.safetensors")
    state = _sequence_encoder(load_file(extras)) if extras.is_file() else {}
    return {name: value for name, value in state.items() if name.startswith(_HEAD)}


def _take_frequencies(state: dict[str, Any]) -> dict[str, Tensor]:
    """Remove the rotary frequencies from ``state``: they are a constant, not weights."""
    names = [name for name, value in state.items() if name.endswith(_FREQUENCIES) and _is_float(value)]
    return {name: state.pop(name) for name in names}


def _size_of(
    state: Mapping[str, Any], frequencies: Mapping[str, Tensor], arguments: Mapping[str, Any]
) -> Size:
    """The size a file states, else the size its tensors show."""
    layers = {match[1] for name in state if (match := re.match(r"layers\.(\d+)\.", name))}
    embedding = state.get("embed_tokens.weight")
    embed_dim = embedding.shape[-1] if _is_float(embedding) and embedding.ndim else None
    heads = None
    if embed_dim and frequencies:
        heads = embed_dim // (2 * max(1, next(iter(frequencies.values())).numel()))
    return Size(
        arguments.get("encoder_layers", len(layers) or None),
        arguments.get("encoder_embed_dim", embed_dim),
        arguments.get("encoder_attention_heads", heads),
    )


def _check_size(path: Path, expected: Size, found: Size) -> None:
    differing = [
        name
        for name, want, have in zip(Size._fields, expected, found, strict=True)
        if have is not None and have != want
    ]
    if not differing:
        return
    raise WeightsError(
        f"weights in {path} belong to a model of another size",
        *(
            f"{name}: {getattr(found, name)} in the file, {getattr(expected, name)} here"
            for name in differing
        ),
        "choose the preset of that size (see: esmgn list seq), or",
        " ".join(f"--set seq.{name}={getattr(found, name)}" for name in differing),
    )


def _check_tensors(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Any]) -> None:
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    other = [
        f"{name} ({_described(found[name])} in the file, {_described(tensor)} here)"
        for name, tensor in expected.items()
        if name in found and _described(found[name]) != _described(tensor)
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": other}
    lines = [f"{len(names)} {what}: {_listed(names)}" for what, names in problems.items() if names]
    if lines:
        hint = "expected: a file of fair-esm, esm2_t*.pt, or a .safetensors with the same names"
        raise WeightsError(f"weights in {path} do not fit ESM-2", *lines, hint)


def _is_float(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.is_floating_point()


def _described(value: object) -> str:
    if _is_float(value):
        return str(list(value.shape))
    return f"not weights, but {getattr(value, 'dtype', type(value).__name__)}"


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _check_assumptions(
    path: Path, model: Transformer, frequencies: Mapping[str, Tensor], arguments: Mapping[str, Any]
) -> None:
    """Refuse variants whose numbers this model would get wrong without a sign of it."""
    if not arguments.get("token_dropout", True) and model.token_dropout:
        raise WeightsError(f"weights in {path} were trained without token dropout: this is not ESM-2")
    expected = rotary_frequencies(model.head_dim)
    for name, found in frequencies.items():
        # Wide enough for frequencies that were stored in half precision.
        if found.shape != expected.shape or not torch.allclose(found.float(), expected, 4e-3, 1e-7):
            raise WeightsError(f"weights in {path} use other rotary frequencies: {name}")
