"""Reading of weights in fair-esm's layout: checked against the model and assigned without a copy.

Source: the files of fair-esm 2.0.0 (facebookresearch/esm).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import WeightsError
from esmgn_core.weights import load_file, sha256_of_files, state_dict
from esmgn_esm2.model import Transformer, rotary_frequencies
from esmgn_esm2.names import sequence_encoder
from esmgn_esm2.tokens import token_table

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
    """Read the tensors of the sequence encoder in a file or folder.

    Files are those of fair-esm (``.pt``) and transformers (``.safetensors``, ``.bin``), with any prefix that
    a wrapper adds, and the ``model.safetensors`` of a run or of imported weights. A folder is one of
    transformers, with ``config.json``.

    Raises:
        WeightsError: a file cannot be read, the folder has another model, or a file has several models.
    """
    if not path.is_dir():
        content = load_file(path)
        return Weights(path, sequence_encoder(path, state_dict(content)), _arguments(content))
    state: dict[str, Any] = {}
    for file in files_of(path):
        state |= state_dict(load_file(file))
    return Weights(path, sequence_encoder(path, state), _arguments_of_folder(path))


def files_of(path: Path) -> list[Path]:
    """The file of weights, or those of a folder of transformers.

    Raises:
        WeightsError: the folder has no weights.
    """
    if not path.is_dir():
        return [path]
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return [path / name]
        index = path / f"{name}.index.json"
        if index.is_file():
            names = {*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
            return [path / part for part in sorted(names)]
    raise WeightsError(
        f"no weights in the folder {path}",
        "expected model.safetensors or pytorch_model.bin, as transformers writes them",
    )


def digest_of(path: Path) -> str:
    """SHA-256 of the file of weights, or of those of a folder."""
    return sha256_of_files(files_of(path))


def _arguments_of_folder(path: Path) -> dict[str, Any]:
    """Model arguments in ``config.json``, by the names of fair-esm."""
    file = path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read {file}: {error}") from error
    kind = config.get("model_type")
    if kind != "esm" or config.get("position_embedding_type") != "rotary":
        raise WeightsError(
            f"the model in {path} is not ESM-2, but of type {kind}",
            f"run it by transformers: --seq hf --set seq.model={path}",
        )
    return {
        "encoder_layers": config["num_hidden_layers"],
        "encoder_embed_dim": config["hidden_size"],
        "encoder_attention_heads": config["num_attention_heads"],
        "token_dropout": config.get("token_dropout", True),
    }


def fill(model: Transformer, weights: Weights, size: Size) -> None:
    """Load the weights of a file into ``model``, which may be on the meta device.

    The language-model head is loaded if ``model`` has one. Half precision becomes float32. Tensors of float32
    are not copied: the parameters use the memory of the file.

    Args:
        model: the transformer to fill.
        weights: of a file.
        size: the size of ``model``.

    Raises:
        WeightsError: the file is of a model of another size, or its tensors differ in name or shape.
    """
    path, state, arguments = weights
    _take_or_drop_head(path, model, state)
    frequencies = _take_frequencies(state)
    _check_size(path, size, _size_of(state, frequencies, arguments))
    _check_tensors(path, model.state_dict(), state)
    _check_assumptions(path, model, frequencies, arguments)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    """Model arguments of fair-esm: a Namespace in ``cfg`` (ESM-2) or ``args`` (older files)."""
    config = content.get("cfg")
    arguments = config.get("model") if isinstance(config, Mapping) else content.get("args")
    return dict(arguments if isinstance(arguments, Mapping) else getattr(arguments, "__dict__", {}))


def _take_or_drop_head(path: Path, model: Transformer, state: dict[str, Any]) -> None:
    """Keep in ``state`` the tensors of the language-model head that ``model`` has; remove the others."""
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
            "use a file of fair-esm, or leave the head out: --set seq.lm_head=false",
        )
    if _is_float(decoder) and _is_float(embedding):
        rows = token_table("X")[: len(AMINO_ACIDS)]  # the only tokens whose logits are used
        if not torch.equal(decoder[rows], embedding[rows]):
            raise WeightsError(f"weights in {path}: {_HEAD}weight is not the embedding, this is not ESM-2")


def _head_beside(path: Path) -> dict[str, Any]:
    """Read the head that ``esmgn weights import`` stores in ``extras.safetensors``."""
    extras = path.with_name("extras.safetensors")
    state = load_file(extras) if extras.is_file() else {}
    anchor = f"{_HEAD}dense.weight"
    prefix = next((name.removesuffix(anchor) for name in state if name.endswith(anchor)), "")
    names = [name for name in state if name.startswith(f"{prefix}{_HEAD}")]
    return {name.removeprefix(prefix): state[name] for name in names}


def language_head_of(path: Path) -> dict[str, Tensor]:
    """The language-model head in a file of weights, or beside it; empty without one.

    Raises:
        WeightsError: as :func:`read_weights`.
    """
    state = read_weights(path).state
    if not any(name.startswith(_HEAD) for name in state):
        state = _head_beside(path)
    return {
        name: value.float()
        for name, value in state.items()
        if name.startswith(_HEAD) and name != f"{_HEAD}weight"
    }


def _take_frequencies(state: dict[str, Any]) -> dict[str, Tensor]:
    """Remove the rotary frequencies, which are constants, from ``state``, and return them."""
    names = [name for name, value in state.items() if name.endswith(_FREQUENCIES) and _is_float(value)]
    return {name: state.pop(name) for name in names}


def _size_of(
    state: Mapping[str, Any], frequencies: Mapping[str, Tensor], arguments: Mapping[str, Any]
) -> Size:
    """The size in a file's arguments, else the size of its tensors."""
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
        f"weights in {path} are of a model of another size",
        *(
            f"{name}: {getattr(found, name)} in the file, {getattr(expected, name)} here"
            for name in differing
        ),
        "choose the preset of that size (esmgn list seq), or",
        " ".join(f"--set seq.{name}={getattr(found, name)}" for name in differing),
    )


def _check_tensors(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Any]) -> None:
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    differing = [
        f"{name} ({_described(found[name])} in the file, {_described(tensor)} here)"
        for name, tensor in expected.items()
        if name in found and _described(found[name]) != _described(tensor)
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": differing}
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
    """Refuse variants that this model would load without an error but compute wrongly."""
    if not arguments.get("token_dropout", True) and model.token_dropout:
        raise WeightsError(f"weights in {path} were trained without token dropout: this is not ESM-2")
    expected = rotary_frequencies(model.head_dim)
    for name, found in frequencies.items():
        # The tolerance allows for frequencies stored in half precision.
        if found.shape != expected.shape or not torch.allclose(found.float(), expected, 4e-3, 1e-7):
            raise WeightsError(f"weights in {path} use other rotary frequencies: {name}")
