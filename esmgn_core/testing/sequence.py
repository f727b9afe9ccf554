"""Claims about sequence encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS, MASKED
from esmgn_core.batch import ProteinBatch
from esmgn_core.errors import SettingsError
from esmgn_core.protocols import LanguageModel, joins_chains
from esmgn_core.testing.claims import Claims, differences, snapshot
from esmgn_core.testing.encoders import EncoderSubject, check_encoder, check_encoding
from esmgn_core.testing.examples import example_batch, example_proteins
from esmgn_core.testing.layers import sequence_layers

_PACKING_TOLERANCE = 1e-5


def check_sequence_encoder(claims: Claims, _component: type, build: Callable[..., Any]) -> None:
    """Check all claims about a sequence encoder."""
    subject = sequence_subject(claims, build)
    check_encoder(subject)
    claims.check((_reads_sequence_only, _chains, _masked_residues, _residue_logits, sequence_layers), subject)


def sequence_subject(claims: Claims, build: Callable[..., Any]) -> EncoderSubject:
    """A sequence encoder under test."""
    return EncoderSubject(claims, build, lambda module, batch, _: module(batch))


@torch.no_grad()
def _reads_sequence_only(subject: EncoderSubject) -> None:
    """Coordinates, residue numbers and pLDDT do not change the encoding."""
    module, batch = subject.trained(), example_batch()
    other = example_batch(seed=5).replace(residue_type=batch.residue_type)
    other = other.replace(residue_index=batch.residue_index + 100, plddt=None)
    changed = differences(snapshot(module(batch)), snapshot(module(other)))
    subject.claims.require(not changed, "depends on more than residue types and chains")


@torch.no_grad()
def _chains(subject: EncoderSubject) -> None:
    """A chain does not depend on other chains of its protein, unless ``joins_chains`` is True."""
    module, batch = subject.trained(), example_batch()
    if joins_chains(module):
        return
    other = batch.replace(
        residue_type=torch.where(batch.chain_index > 0, batch.residue_type.flip(0), batch.residue_type)
    )
    first = batch.chain_index == 0
    expected, actual = (module(one).residue[first] for one in (batch, other))
    what = "another chain of the protein, without joins_chains = True, changes representations"
    subject.claims.require_close(what, actual, expected, _PACKING_TOLERANCE)


@torch.no_grad()
def _residue_logits(subject: EncoderSubject) -> None:
    """``residue_logits`` returns finite logits [N, 20], which do not depend on other proteins."""
    claims, module = subject.claims, subject.trained()
    if not isinstance(module, LanguageModel):
        return
    batch = example_batch()
    try:
        packed = claims.unchanged(lambda: module.residue_logits(batch), batch=batch)
    except SettingsError:  # its head is loaded on request
        return
    expected = (batch.num_residues, len(AMINO_ACIDS))
    actual = tuple(packed.shape) if isinstance(packed, Tensor) else type(packed).__name__
    claims.require(actual == expected, f"residue_logits returns {actual}, expected {expected}")
    claims.require(
        packed.is_floating_point(), f"residue_logits returns {packed.dtype}, expected a float type"
    )
    claims.require(bool(packed.isfinite().all()), "residue_logits are not all finite")
    again = module.residue_logits(batch)
    claims.require(torch.equal(packed, again), "residue_logits returns different results for one batch")
    for number, protein in enumerate(example_proteins()):
        alone = module.residue_logits(ProteinBatch.from_proteins([protein]))
        rows = packed[batch.protein_index == number]
        what = f"packing changes the residue_logits of protein '{protein.name}'"
        claims.require_close(what, rows, alone, _PACKING_TOLERANCE)
    other = example_batch(seed=5).replace(residue_type=batch.residue_type)
    claims.require(torch.equal(module.residue_logits(other), packed), "residue_logits depend on coordinates")


@torch.no_grad()
def _masked_residues(subject: EncoderSubject) -> None:
    """Residues that a pretext task masked can be encoded."""
    module, batch = subject.trained(), example_batch()
    masked = torch.arange(batch.num_residues) % 3 == 0
    batch = batch.replace(residue_type=batch.residue_type.masked_fill(masked, MASKED))
    check_encoding(subject.claims, module(batch), batch, module.output_dim)
