"""Claims about fusers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from esmgn_core.model.joint import JointEncoder
from esmgn_core.testing.claims import Claims
from esmgn_core.testing.encoders import EncoderSubject, check_encoder
from esmgn_core.testing.examples import ExampleSequenceEncoder, ExampleStructureEncoder


def check_fuser(claims: Claims, component: type, build: Callable[..., Any]) -> None:
    """Check all claims about a fuser, with two simple encoders.

    Gradients must also reach the parameters of both encoders.
    """
    sequence_dim, structure_dim = ExampleSequenceEncoder.output_dim, ExampleStructureEncoder.output_dim
    build(sequence_dim=sequence_dim, structure_dim=structure_dim)
    input_dim = component.structure_input_dim(sequence_dim)  # type: ignore[attr-defined]  # checked by build
    claims.require_positive(f"structure_input_dim({sequence_dim})", input_dim)

    def joint() -> JointEncoder:
        fuser = build(sequence_dim=sequence_dim, structure_dim=structure_dim)
        return JointEncoder(ExampleSequenceEncoder(), ExampleStructureEncoder(input_dim), fuser)

    check_encoder(EncoderSubject(claims, joint, lambda module, batch, graph: module(batch, graph)))
