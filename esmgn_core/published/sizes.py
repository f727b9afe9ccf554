"""What a state dict is, and how large: read off the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
from esmgn_core.errors import WeightsError
from esmgn_core.published.entries import (
    FREQUENCIES,
    NUM_RELATIONS,
    SEQUENCE,
    STRUCTURE,
    Layout,
    Model,
    SequenceSize,
    StructureSize,
)

_USUAL_HEADS = 20


def detected(names: Iterable[str]) -> Layout | None:
    """The layout of a state dict with these names, ``None`` if it is none of the published ones."""
    names = list(names)
    if any(name.startswith((SEQUENCE, STRUCTURE)) for name in names):
        return Layout.ESM_GEARNET
    if any(name.startswith("edge_layers.") for name in names):
        return Layout.GEARNET_EDGE
    if any(name.startswith("batch_norms.") for name in names):
        return Layout.GEARNET
    if any(name.startswith("embed_tokens.") or FREQUENCIES in name for name in names):
        return Layout.FAIR_ESM
    return None


def model_of(layout: Layout, state: Mapping[str, Any], *, attention_heads: int | None = None) -> Model:
    """The model of which a state dict holds the tensors.

    One damaged tensor among many does not mislead: widths are the most frequent ones.

    Args:
        layout: of the state dict.
        state: tensors by their published names; those of fair-esm without prefixes.
        attention_heads: of ESM-2, where the state dict has no rotary frequencies to tell.

    Raises:
        WeightsError: there are too few tensors to tell.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}
    sequence = structure = cross_dim = None
    whole = layout is Layout.ESM_GEARNET
    if whole or layout is Layout.FAIR_ESM:
        sequence = _sequence_size(_below(SEQUENCE if whole else "", shapes), attention_heads)
    if layout is not Layout.FAIR_ESM:
        structure = _structure_size(_below(STRUCTURE if whole else "", shapes), sequence)
    if whole:
        cross_dim = _frequent(shapes, r"(seq_linear|struct_linear|attn\.\w+)\.bias")
    return Model(layout, sequence, structure, cross_dim)


def _below(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def _sequence_size(shapes: Mapping[str, tuple[int, ...]], heads: int | None) -> SequenceSize:
    num_layers = _num_layers(shapes, "layers")
    embed_dim = _frequent(shapes, r"(layers\.\d+\.\w+_layer_norm|emb_layer_norm_after)\.weight")
    if not num_layers or not embed_dim:
        raise WeightsError("too few tensors of ESM-2 to tell its size")
    half_head = _frequent(shapes, r"layers\.\d+" + re.escape(FREQUENCIES))
    if half_head:
        heads = embed_dim // (2 * half_head)
    return SequenceSize(num_layers, embed_dim, heads or _USUAL_HEADS)


def _structure_size(shapes: Mapping[str, tuple[int, ...]], sequence: SequenceSize | None) -> StructureSize:
    num_layers = _num_layers(shapes, "batch_norms")
    hidden_dim = _frequent(shapes, r"batch_norms\.\d+\.weight")
    if not num_layers or not hidden_dim:
        raise WeightsError("too few tensors of GearNet to tell its size")
    widths = [shapes.get("layers.0.self_loop.weight", (0, 0))[-1]]
    widths.append(shapes.get("layers.0.linear.weight", (0, 0))[-1] // NUM_RELATIONS)
    # The original feeds GearNet either ESM-2's output or one-hot residue types.
    if sequence is None or NUM_RESIDUE_FEATURES in widths:
        return StructureSize(num_layers, NUM_RESIDUE_FEATURES, hidden_dim)
    return StructureSize(num_layers, sequence.embed_dim, hidden_dim)


def _num_layers(shapes: Mapping[str, tuple[int, ...]], group: str) -> int:
    numbers = [int(match[1]) for name in shapes if (match := re.match(rf"{group}\.(\d+)\.", name))]
    return len(set(numbers))


def _frequent(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int | None:
    """The most frequent length of the vectors whose names match."""
    lengths = Counter(
        shape[0] for name, shape in shapes.items() if re.fullmatch(pattern, name) and len(shape) == 1
    )
    return lengths.most_common(1)[0][0] if lengths else None
