"""Comparison with recorded outputs of the published weights."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.protocols import LanguageModel, SequenceEncoder
from esmgn_core.weights import load_file
from esmgn_esm2.tokens import ALPHABET

_LOGITS = "output__logits"


class Agreement(NamedTuple):
    """Differences between the outputs of an encoder and recorded outputs."""

    num_residues: int
    relative_difference: float
    """Norm of the difference over the norm of the recorded values."""
    worst_cosine: float
    """Smallest cosine similarity of a residue's representation with the recorded one."""
    logits_difference: float | None = None
    """Norm of the difference of the logits of the 20 amino acids over the norm of the recorded logits;
    ``None`` without recorded logits."""

    def within_bfloat16(self) -> bool:
        """True if rounding of the recorded outputs to bfloat16 can explain the differences."""
        logits = self.logits_difference is None or self.logits_difference < 0.05
        return self.relative_difference < 0.05 and self.worst_cosine > 0.99 and logits


def has_logits(golden: Path) -> bool:
    """True if the recording contains logits."""
    return _LOGITS in load_file(golden)


def compare(encoder: SequenceEncoder, golden: Path) -> Agreement:
    """Encode the recorded sequences and compare the outputs residue by residue.

    Args:
        encoder: ESM-2 with the weights of the recording.
        golden: ``.safetensors`` with ``input__input_ids`` int64 [B, L], ``residue_mask`` bool [B, L]
            and ``output__last_hidden_state`` float32 [B, L, D]. Only the 20 amino acids may occur.
            ``output__logits`` float32 [B, L, V] over ESM-2's tokens is optional and compared if the encoder
            has its language-model head.
    """
    recorded = load_file(golden)
    mask = recorded["residue_mask"]
    sequences = [tokens[kept] for tokens, kept in zip(recorded["input__input_ids"], mask, strict=True)]
    batch = _batch(sequences)
    logits = None
    with torch.inference_mode():
        found = encoder(batch).residue
        if _LOGITS in recorded and isinstance(encoder, LanguageModel) and _has_head(encoder):
            tokens = [ALPHABET.index(letter) for letter in AMINO_ACIDS]
            logits = _difference(encoder.residue_logits(batch), recorded[_LOGITS][mask][:, tokens])
    expected = recorded["output__last_hidden_state"][mask]
    return Agreement(
        num_residues=expected.shape[0],
        relative_difference=_difference(found, expected),
        worst_cosine=F.cosine_similarity(found, expected).min().item(),
        logits_difference=logits,
    )


def _has_head(encoder: Any) -> bool:
    return bool(getattr(encoder.settings, "lm_head", False))


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def _batch(sequences: list[Tensor]) -> ProteinBatch:
    """Proteins of the given tokens (int64 [n] each), without coordinates."""
    proteins = []
    for index, tokens in enumerate(sequences):
        residue_type = torch.tensor([AMINO_ACIDS.index(ALPHABET[token]) for token in tokens.tolist()])
        length = len(residue_type)
        proteins.append(
            Protein(
                name=str(index),
                residue_type=residue_type,
                backbone=torch.full((length, 4, 3), torch.nan),
                atom_mask=torch.zeros(length, 4, dtype=torch.bool),
                residue_index=torch.arange(length),
                chain_index=torch.zeros(length, dtype=torch.int64),
            )
        )
    return ProteinBatch.from_proteins(proteins)
