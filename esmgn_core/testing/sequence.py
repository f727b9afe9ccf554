"""Claims about sequence encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from esmgn_core.alphabet import MASKED
from esmgn_core.testing.claims import Claims, differences, snapshot
from esmgn_core.testing.encoders import EncoderSubject, check_encoder, check_encoding
from esmgn_core.testing.examples import example_batch


def check_sequence_encoder(claims: Claims, _component: type, build: Callable[..., Any]) -> None:
    """Check all claims about a sequence encoder."""
    subject = EncoderSubject(claims, build, lambda module, batch, _: module(batch))
    check_encoder(subject)
    claims.check((_reads_sequence_only, _masked_residues), subject)


@torch.no_grad()
def _reads_sequence_only(subject: EncoderSubject) -> None:
    """Coordinates, residue numbers and pLDDT do not change the encoding."""
    module, batch = subject.trained(), example_batch()
    other = example_batch(seed=5).replace(residue_type=batch.residue_type)
    other = other.replace(residue_index=batch.residue_index + 100, plddt=None)
    changed = differences(snapshot(module(batch)), snapshot(module(other)))
    subject.claims.require(not changed, "depends on more than residue types and chains")


@torch.no_grad()
def _masked_residues(subject: EncoderSubject) -> None:
    """Residues that a pretext task masked can be encoded."""
    module, batch = subject.trained(), example_batch()
    masked = torch.arange(batch.num_residues) % 3 == 0
    batch = batch.replace(residue_type=batch.residue_type.masked_fill(masked, MASKED))
    check_encoding(subject.claims, module(batch), batch, module.output_dim)
