"""Claims about fusers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from esmgn_core.layers import LayerSizes
from esmgn_core.model.joint import JointEncoder, unread
from esmgn_core.protocols import needs_layers
from esmgn_core.spec import Kind
from esmgn_core.testing.claims import Claims
from esmgn_core.testing.encoders import EncoderSubject, check_encoder, shapes
from esmgn_core.testing.examples import (
    ExampleLayeredEncoder,
    ExampleLayeredStructure,
    ExampleSequenceEncoder,
    ExampleStructureEncoder,
)

_OTHER_WIDTHS = ((14, 10), (5, 5), (1, 3))
"""Widths of the sequence and the structure encoder."""


def check_fuser(
    claims: Claims, component: type, build: Callable[..., Any], encoders: Collection[Kind]
) -> None:
    """Check all claims about a fuser, with simple encoders of the kinds that it reads.

    Gradients must also reach the parameters of these encoders.
    """
    check_encoder(fuser_subject(claims, component, build, encoders))
    for widths in _OTHER_WIDTHS:
        claims.check((shapes,), fuser_subject(claims, component, build, encoders, *widths))


def fuser_subject(
    claims: Claims,
    component: type,
    build: Callable[..., Any],
    encoders: Collection[Kind],
    sequence_dim: int = ExampleSequenceEncoder.output_dim,
    structure_dim: int = ExampleStructureEncoder.output_dim,
) -> EncoderSubject:
    """A fuser under test, with encoders of these widths."""
    sequence_dim *= Kind.SEQ in encoders
    structure_dim *= Kind.STRUCT in encoders
    sizes = {
        Kind.SEQ: LayerSizes(ExampleLayeredEncoder.num_blocks, sequence_dim),
        Kind.STRUCT: LayerSizes(ExampleLayeredStructure.num_layers, structure_dim),
    }
    layered = needs_layers(component)
    context: dict[str, Any] = {"layers": {kind: sizes[kind] for kind in layered}} if layered else {}
    build(sequence_dim=sequence_dim, structure_dim=structure_dim, **context)
    input_dim = component.structure_input_dim(sequence_dim)  # type: ignore[attr-defined]  # checked by build
    claims.require_positive(f"structure_input_dim({sequence_dim})", input_dim)

    def joint() -> JointEncoder:
        fuser = build(sequence_dim=sequence_dim, structure_dim=structure_dim, **context)
        sequence = ExampleLayeredEncoder if Kind.SEQ in layered else ExampleSequenceEncoder
        structure = ExampleLayeredStructure if Kind.STRUCT in layered else ExampleStructureEncoder
        return JointEncoder(
            sequence(sequence_dim) if Kind.SEQ in encoders else unread(Kind.SEQ),
            structure(input_dim, structure_dim) if Kind.STRUCT in encoders else unread(Kind.STRUCT),
            fuser,
        )

    return EncoderSubject(claims, joint, lambda module, batch, graph: module(batch, graph))
