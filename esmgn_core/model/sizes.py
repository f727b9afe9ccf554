"""Size of a component, computed without memory for its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
from esmgn_core.host.components import build_component, random_weights
from esmgn_core.layers import LayerSizes
from esmgn_core.protocols import needs_layers
from esmgn_core.settings import settings_class, validated
from esmgn_core.spec import ComponentSpec, Kind

INPUT_WIDTH, RELATIONS = NUM_RESIDUE_FEATURES, 7
"""Inputs of a structure encoder, as after one-hot residue types on a graph of seven relations."""
_FUSED_WIDTH = 512
_FUSED_LAYERS = 6


class Size(NamedTuple):
    """Size of a component."""

    parameters: int
    """Number of parameters."""
    output_dim: int
    """Width of its representations."""


def size_of(spec: ComponentSpec, component: Any, values: Mapping[str, Any]) -> Size:
    """Number of parameters and width of an encoder or fuser, built on the meta device.

    Args:
        spec: declaration of the component.
        component: its class.
        values: settings instead of the defaults. Weights are random.

    Raises:
        ValueError: components of this kind have no size.
        EsmgnError: a setting is wrong, or the class does not keep the contract.
    """
    widths: dict[Kind, dict[str, int]] = {
        Kind.SEQ: {},
        Kind.STRUCT: {"input_dim": INPUT_WIDTH, "num_relations": RELATIONS},
        Kind.FUSE: {"sequence_dim": _FUSED_WIDTH, "structure_dim": _FUSED_WIDTH},
    }
    if spec.kind not in widths:
        raise ValueError(f"a {spec.kind.long_name} has no size")
    model = settings_class(spec, component)
    settings = validated(
        model, {**values, **random_weights(model)}, what=spec.name, see=f"esmgn show {spec.name}"
    )
    layers = {kind: LayerSizes(_FUSED_LAYERS, _FUSED_WIDTH) for kind in needs_layers(component)}
    context: dict[str, Any] = {**widths[spec.kind], **({"layers": layers} if layers else {})}
    with torch.device("meta"):
        module = build_component(spec, component, settings, **context)
    return Size(sum(parameter.numel() for parameter in module.parameters()), int(module.output_dim))
