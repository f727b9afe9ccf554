"""Comparison with recorded outputs of the published weights."""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.protocols import SequenceEncoder
from esmgn_core.weights import load_file
from esmgn_esm2.tokens import ALPHABET


class Agreement(NamedTuple):
    """How well an encoder reproduces recorded representations."""

    num_residues: int
    relative_difference: float
    """Norm of the difference over the norm of the recorded values."""
    worst_cosine: float
    """Smallest cosine similarity of a residue's representation with the recorded one."""

    def within_bfloat16(self) -> bool:
        """Whether the difference is no more than recording in bfloat16 explains."""
        return self.relative_difference < 0.05 and self.worst_cosine > 0.99


def compare(encoder: SequenceEncoder, golden: Path) -> Agreement:
    """Run the recorded sequences through ``encoder`` and compare residue by residue.

    Args:
        encoder: ESM-2 with the weights the recording was made with.
        golden: ``.safetensors`` with ``input__input_ids`` int64 [B, L], ``residue_mask`` bool [B, L]
            and ``output__last_hidden_state`` float32 [B, L, D]. Only the 20 amino acids may occur.
    """
    recorded = load_file(golden)
    mask = recorded["residue_mask"]
    sequences = [tokens[kept] for tokens, kept in zip(recorded["input__input_ids"], mask, strict=True)]
    with torch.inference_mode():
        found = encoder(_batch(sequences)).residue
    expected = recorded["output__last_hidden_state"][mask]
    return Agreement(
        num_residues=expected.shape[0],
        relative_difference=((found - expected).norm() / expected.norm()).item(),
        worst_cosine=F.cosine_similarity(found, expected).min().item(),
    )


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
