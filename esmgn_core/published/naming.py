"""From published tensors to ours and back: names, and the order of residue types.

The original numbers residue types ``GASPVTCILNDQKEMHFRYW``; wherever a weight meets a one-hot
residue type, its columns are put into the order of :mod:`esmgn_core.alphabet`. GearNet-Edge adds
the hidden features of its first edge layer, as wide as a one-hot residue, through the same weights,
so that these are put into that order too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS, NUM_RESIDUE_FEATURES, UNKNOWN
from esmgn_core.published.entries import (
    FREQUENCIES,
    MAPPING,
    NUM_EDGE_FEATURES,
    NUM_TOKENS,
    SEQUENCE,
    STRUCTURE,
    Layout,
    Model,
    SequenceSize,
)

REFERENCE_ORDER = "GASPVTCILNDQKEMHFRYW"
"""The original's residue types 0-19."""

_TOKENS = (6, 5, 8, 14, 7, 11, 23, 12, 4, 17, 13, 16, 15, 9, 20, 21, 18, 10, 19, 22)
"""ESM-2's token of each of them."""

_RESIDUES = [*(REFERENCE_ORDER.index(letter) for letter in AMINO_ACIDS), UNKNOWN]
_PAIRS = [
    *_RESIDUES[:-1],
    *(len(AMINO_ACIDS) + place for place in _RESIDUES[:-1]),
    *range(2 * len(AMINO_ACIDS), NUM_EDGE_FEATURES),
]
_HEADS = ("contact_head.", "lm_head.")


def our_name(layout: Layout, name: str) -> str | None:
    """Our name of a published tensor; ``None`` for what an encoder does not need."""
    if layout is Layout.ESM_GEARNET:
        if name.startswith(SEQUENCE):
            return _trunk_name(name.removeprefix(SEQUENCE))
        if name.startswith(STRUCTURE):
            return f"structure.{name.removeprefix(STRUCTURE)}"
        return None if name == MAPPING else f"fuser.{name}"
    return _trunk_name(name) if layout is Layout.FAIR_ESM else f"structure.{name}"


def _trunk_name(name: str) -> str | None:
    return None if name.startswith(_HEADS) or name.endswith(FREQUENCIES) else f"sequence.model.{name}"


def published_name(layout: Layout, own: str) -> str | None:
    """The published name of one of our tensors; ``None`` if the file does not hold its part."""
    whole = layout is Layout.ESM_GEARNET
    prefixes = {"sequence.model.": SEQUENCE, "structure.": STRUCTURE, "fuser.": ""}
    if not whole:
        prefixes = {"sequence.model." if layout is Layout.FAIR_ESM else "structure.": ""}
    for ours, theirs in prefixes.items():
        if own.startswith(ours):
            return theirs + own.removeprefix(ours)
    return own if whole else None


def to_ours(model: Model, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of an encoder by our names, and what else is needed to write the file again.

    The second half has published names. A language-model head that is tied to the embedding is
    left out, as it comes back with it.
    """
    ours, extras = {}, {}
    for name, tensor in state.items():
        own = our_name(model.layout, name)
        if own is not None:
            ours[own] = tensor
        elif not _is_tied(name, state):
            extras[name] = tensor
    return _reordered(model, ours, back=False), extras


def to_published(model: Model, ours: Mapping[str, Tensor], extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a published file in the file's order; undoes :func:`to_ours`.

    What ``extras`` lacks is filled in: constants by their rule, heads, which the original never
    uses, with zeros.
    """
    renamed = _reordered(model, ours, back=True)
    found: dict[str, Tensor] = {}
    for name, entry in model.entries().items():
        own = our_name(model.layout, name)
        if own is not None:
            if own in renamed:
                found[name] = renamed.pop(own)
        elif name in extras:
            found[name] = extras[name]
        elif name.endswith("lm_head.weight"):
            found[name] = found[f"{name.removesuffix('lm_head.weight')}embed_tokens.weight"]
        else:
            found[name] = constant(model, name) if _is_constant(name) else torch.zeros(entry.shape)
    # Left for the caller's check to name.
    return found | renamed


def _is_constant(name: str) -> bool:
    return name == MAPPING or name.endswith(FREQUENCIES)


def constant(model: Model, name: str) -> Tensor:
    """The value of a buffer that is the same in every file."""
    if name == MAPPING:
        return torch.tensor([*_TOKENS, *[-1] * (NUM_TOKENS - len(_TOKENS))])
    assert model.sequence is not None  # noqa: S101 - only ESM-2 has rotary frequencies
    return rotary_frequencies(model.sequence)


def rotary_frequencies(size: SequenceSize) -> Tensor:
    """float32 [head_dim / 2], 10000 ** (-2 j / head_dim)."""
    return 1.0 / 10000 ** (torch.arange(0, size.head_dim, 2, dtype=torch.float32) / size.head_dim)


def _is_tied(name: str, state: Mapping[str, Tensor]) -> bool:
    prefix, found, _ = name.partition("lm_head.weight")
    embedding = state.get(f"{prefix}embed_tokens.weight")
    return bool(found) and embedding is not None and torch.equal(state[name], embedding)


def _reordered(model: Model, ours: Mapping[str, Tensor], *, back: bool) -> dict[str, Tensor]:
    """The tensors with residue types in our order, or ``back`` in the original's."""
    result = dict(ours)
    for name, dim, order in _orders(model):
        # A tensor of another shape is left for the caller's check to name.
        if name in result and result[name].shape[dim] % len(order) == 0:
            index = torch.tensor(order)
            tensor, index = result[name], index.argsort() if back else index
            blocks = tensor.reshape(*tensor.shape[:dim], -1, len(order), *tensor.shape[dim + 1 :])
            result[name] = blocks.index_select(dim + 1, index).flatten(dim, dim + 1)
    return result


def _orders(model: Model) -> Iterator[tuple[str, int, list[int]]]:
    """Name, dimension and order of everything that follows the residue types."""
    if model.structure is None or model.structure.input_dim != NUM_RESIDUE_FEATURES:
        return
    for part in ("self_loop", "linear"):
        yield f"structure.layers.0.{part}.weight", 1, _RESIDUES
    if model.layout is Layout.GEARNET_EDGE:
        for part in ("self_loop", "linear"):
            yield f"structure.edge_layers.0.{part}.weight", 1, _PAIRS
            yield f"structure.edge_layers.0.{part}.weight", 0, _RESIDUES
            yield f"structure.edge_layers.0.{part}.bias", 0, _RESIDUES
            yield f"structure.edge_layers.1.{part}.weight", 1, _RESIDUES
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"structure.edge_layers.0.batch_norm.{part}", 0, _RESIDUES
