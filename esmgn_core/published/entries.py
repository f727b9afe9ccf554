"""Names, shapes and types of the tensors of published files.

Source: names and shapes of the original FusionNetwork and GearNet (TorchDrug 0.2.1), and of fair-esm 2.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch

SEQUENCE = "sequence_model.model."
STRUCTURE = "structure_model."
MAPPING = "sequence_model.mapping"
FREQUENCIES = ".self_attn.rot_emb.inv_freq"

NUM_TOKENS = 33
NUM_RELATIONS = 7
NUM_ANGLE_BINS = 8
NUM_EDGE_FEATURES = 59


class Layout(StrEnum):
    """A kind of published file."""

    ESM_GEARNET = "esm_gearnet"
    """State dict of the original's FusionNetwork: ESM-2 with its heads, GearNet, and cross fusion."""
    GEARNET = "gearnet"
    """State dict of GearNet alone, on one-hot residue types."""
    GEARNET_EDGE = "gearnet_edge"
    """State dict of GearNet-Edge alone, on one-hot residue types."""
    FAIR_ESM = "fair_esm"
    """A file ``esm2_t*.pt`` of fair-esm; names without their prefixes."""


class Entry(NamedTuple):
    """What a file holds under one name."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    is_parameter: bool = True
    """Counts as parameters; false for buffers and for the second name of a tied weight."""
    required: bool = True


class SequenceSize(NamedTuple):
    """Size of an ESM-2."""

    num_layers: int
    embed_dim: int
    attention_heads: int

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.embed_dim // self.attention_heads


class StructureSize(NamedTuple):
    """Size of a GearNet."""

    num_layers: int
    input_dim: int
    hidden_dim: int


@dataclass(frozen=True, slots=True)
class Model:
    """What a file holds: its layout and the sizes of its parts, ``None`` for a part it lacks."""

    layout: Layout
    sequence: SequenceSize | None = None
    structure: StructureSize | None = None
    cross_dim: int | None = None

    def entries(self) -> dict[str, Entry]:
        """Every tensor of the file, by its published name."""
        found: dict[str, Entry] = {}
        alone = self.layout is not Layout.ESM_GEARNET
        if self.sequence:
            if not alone:
                found[MAPPING] = _buffer(NUM_TOKENS, dtype=torch.int64)
            found |= _prefixed("" if alone else SEQUENCE, _esm2(self.sequence, contacts_required=not alone))
        if self.structure:
            edges = self.layout is Layout.GEARNET_EDGE
            found |= _prefixed("" if alone else STRUCTURE, _gearnet(self.structure, edges=edges))
        if self.sequence and self.structure and self.cross_dim:
            found |= _cross(self.sequence.embed_dim, self.structure, self.cross_dim)
        return found

    def num_parameters(self) -> int:
        """Parameters of the file, tied ones counted once; without buffers."""
        return count(self.entries())


def count(entries: Mapping[str, Entry]) -> int:
    """Parameters among entries."""
    return sum(torch.Size(entry.shape).numel() for entry in entries.values() if entry.is_parameter)


def _prefixed(prefix: str, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    return {prefix + name: entry for name, entry in entries.items()}


def _buffer(*shape: int, dtype: torch.dtype = torch.float32) -> Entry:
    return Entry(shape, dtype, is_parameter=False)


def _linear(name: str, output_dim: int, input_dim: int) -> dict[str, Entry]:
    return {f"{name}.weight": Entry((output_dim, input_dim)), f"{name}.bias": Entry((output_dim,))}


def _layer_norm(name: str, width: int) -> dict[str, Entry]:
    return {f"{name}.weight": Entry((width,)), f"{name}.bias": Entry((width,))}


def _batch_norm(name: str, width: int) -> dict[str, Entry]:
    statistics = {f"{name}.{part}": _buffer(width) for part in ("running_mean", "running_var")}
    counter = {f"{name}.num_batches_tracked": _buffer(dtype=torch.int64)}
    return _layer_norm(name, width) | statistics | counter


def _esm2(size: SequenceSize, *, contacts_required: bool) -> dict[str, Entry]:
    width = size.embed_dim
    entries = {"embed_tokens.weight": Entry((NUM_TOKENS, width))}
    for number in range(size.num_layers):
        layer = f"layers.{number}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            entries |= _linear(f"{layer}.self_attn.{projection}", width, width)
        entries[layer + FREQUENCIES] = _buffer(size.head_dim // 2)
        entries |= _layer_norm(f"{layer}.self_attn_layer_norm", width)
        entries |= _linear(f"{layer}.fc1", 4 * width, width)
        entries |= _linear(f"{layer}.fc2", width, 4 * width)
        entries |= _layer_norm(f"{layer}.final_layer_norm", width)
    contacts = _linear("contact_head.regression", 1, size.num_layers * size.attention_heads)
    entries |= {name: entry._replace(required=contacts_required) for name, entry in contacts.items()}
    entries |= _layer_norm("emb_layer_norm_after", width)
    entries["lm_head.weight"] = _buffer(NUM_TOKENS, width)
    entries["lm_head.bias"] = Entry((NUM_TOKENS,))
    return entries | _linear("lm_head.dense", width, width) | _layer_norm("lm_head.layer_norm", width)


def _gearnet(size: StructureSize, *, edges: bool) -> dict[str, Entry]:
    widths = [size.input_dim, *[size.hidden_dim] * size.num_layers]
    entries: dict[str, Entry] = {}
    for number, width in enumerate(widths[:-1]):
        entries |= _convolution(f"layers.{number}", width, size.hidden_dim, NUM_RELATIONS)
        entries |= _batch_norm(f"batch_norms.{number}", size.hidden_dim)
    if edges:
        for number, width in enumerate([NUM_EDGE_FEATURES, *widths[:-2]]):
            entries |= _convolution(f"edge_layers.{number}", width, widths[number], NUM_ANGLE_BINS)
    return entries


def _convolution(name: str, input_dim: int, output_dim: int, num_relations: int) -> dict[str, Entry]:
    return {
        **_linear(f"{name}.self_loop", output_dim, input_dim),
        **_linear(f"{name}.linear", output_dim, num_relations * input_dim),
        **_batch_norm(f"{name}.batch_norm", output_dim),
    }


def _cross(embed_dim: int, structure: StructureSize, width: int) -> dict[str, Entry]:
    entries = _linear("seq_linear", width, embed_dim)
    entries |= _linear("struct_linear", width, structure.num_layers * structure.hidden_dim)
    for name in ("query", "key", "value"):
        entries |= _linear(f"attn.{name}", width, width)
    entries["attn.attn.in_proj_weight"] = Entry((3 * width, width))
    entries["attn.attn.in_proj_bias"] = Entry((3 * width,))
    return entries | _linear("attn.attn.out_proj", width, width)
