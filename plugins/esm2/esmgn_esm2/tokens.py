"""Conversion of residue types to ESM-2's tokens, and packing of token sequences."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS, MASKED, UNKNOWN
from esmgn_core.attention import Pack, pack_of
from esmgn_core.batch import ProteinBatch

ALPHABET = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
"""ESM-2's 33 tokens in the order of their ids. Source: fair-esm 2.0.0."""

CLS = ALPHABET.index("<cls>")
EOS = ALPHABET.index("<eos>")
MASK = ALPHABET.index("<mask>")

UnknownResidue = Literal["X", "G"]
Chains = Literal["separate", "concatenated"]


@dataclass(frozen=True, slots=True, eq=False)
class PackedTokens:
    """S token sequences, concatenated without padding, shortest first; T tokens in all.

    Attributes:
        token: int64 [T], each sequence ``<cls>``, residues, ``<eos>``.
        position: int64 [T], position within the sequence, 0 on ``<cls>``.
        sequence_index: int64 [T], the sequence of each token.
        lengths: int64 [S], tokens of each sequence.
        pack: bounds of the sequences, for the attention.
        residue_row: int64 [N], the row of each residue's token.
        added_row: int64 [S], the row that each sequence has in addition, directly before ``<eos>``; empty
            without such rows.
    """

    token: Tensor
    position: Tensor
    sequence_index: Tensor
    lengths: Tensor
    pack: Pack
    residue_row: Tensor
    added_row: Tensor


def token_table(unknown_residue: UnknownResidue) -> Tensor:
    """Token of every residue type of :mod:`esmgn_core.alphabet`, int64 [22]."""
    table = torch.empty(MASKED + 1, dtype=torch.int64)
    for residue_type, letter in enumerate(AMINO_ACIDS):
        table[residue_type] = ALPHABET.index(letter)
    table[UNKNOWN] = ALPHABET.index(unknown_residue)
    table[MASKED] = MASK
    return table


def pack_tokens(batch: ProteinBatch, table: Tensor, chains: Chains, *, added: bool = False) -> PackedTokens:
    """Concatenate the sequences of a batch, each between ``<cls>`` and ``<eos>``.

    Args:
        batch: N residues packed from B proteins.
        table: see :func:`token_table`.
        chains: ``separate``: every run of residues of one chain is a sequence. ``concatenated``: every
            protein is one. Proteins without residues have no sequence.
        added: give every sequence one more row, directly before ``<eos>``.
    """
    # Sorted by length, sequences of equal length are adjacent, and attention treats them as one group.
    device = batch.residue_type.device
    ptr = batch.sequence_ptr(join_chains=chains == "concatenated")
    first_residue, num_residues = ptr[:-1], ptr.diff()
    lengths, order = (num_residues + 2 + added).sort(stable=True)
    first_token = lengths.cumsum(0) - lengths
    first_token_unsorted = torch.empty_like(first_token).index_copy(0, order, first_token)

    num_sequences = lengths.shape[0]
    num_tokens = batch.num_residues + (2 + added) * num_sequences
    sequence = torch.arange(num_sequences, device=device)
    shift = (first_token_unsorted + 1 - first_residue).repeat_interleave(
        num_residues, output_size=batch.num_residues
    )
    residue_row = torch.arange(batch.num_residues, device=device) + shift
    token = batch.residue_type.new_full((num_tokens,), EOS)
    token[first_token] = CLS
    token[residue_row] = table[batch.residue_type]
    sequence_index = sequence.repeat_interleave(lengths, output_size=num_tokens)
    return PackedTokens(
        token=token,
        position=torch.arange(num_tokens, device=device) - first_token[sequence_index],
        sequence_index=sequence_index,
        lengths=lengths,
        pack=pack_of(lengths),
        residue_row=residue_row,
        added_row=first_token + lengths - 2 if added else first_token[:0],
    )
