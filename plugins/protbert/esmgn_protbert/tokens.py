"""Conversion of residue types to ProtBERT's tokens, and of proteins to padded rows of tokens."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS, MASKED, UNKNOWN
from esmgn_core.batch import ProteinBatch

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"LAGVESIKRDTPNQFYMHCWXUBZO")
"""ProtBERT's 30 tokens in the order of their ids. Source: vocab.txt of Rostlab/prot_bert_bfd."""

PAD, CLS, SEP, MASK = (VOCABULARY.index(token) for token in ("[PAD]", "[CLS]", "[SEP]", "[MASK]"))
_STRETCH = 1.2
"""Largest ratio of sequence lengths in a padded call."""


class Rows(NamedTuple):
    """Sequences of similar length, padded to the longest.

    Attributes:
        token: int64 [S, L], ``[CLS]``, residues, ``[SEP]``, padding.
        residue: int64 [M], index in the batch of each residue of the rows, row by row.
    """

    token: Tensor
    residue: Tensor

    @property
    def is_residue(self) -> Tensor:
        """Mask of the tokens that are residues, bool [S, L]."""
        return (self.token != PAD) & (self.token != CLS) & (self.token != SEP)


def token_table() -> Tensor:
    """Token of every residue type of :mod:`esmgn_core.alphabet`, int64 [22]."""
    table = torch.empty(MASKED + 1, dtype=torch.int64)
    for residue_type, letter in enumerate(AMINO_ACIDS):
        table[residue_type] = VOCABULARY.index(letter)
    table[UNKNOWN], table[MASKED] = VOCABULARY.index("X"), MASK
    return table


def padded_rows(batch: ProteinBatch, table: Tensor, *, join_chains: bool) -> Iterator[Rows]:
    """Yield padded rows of sequences of similar length, shortest first.

    Args:
        batch: N residues packed from B proteins.
        table: see :func:`token_table`.
        join_chains: True if all chains of a protein form one sequence.
    """
    ptr = batch.sequence_ptr(join_chains=join_chains)
    lengths, order = ptr.diff().sort(stable=True)
    for first, end in _similar(lengths.tolist()):
        size, start = lengths[first:end].unsqueeze(1), ptr[order[first:end]].unsqueeze(1)
        column = torch.arange(int(size.max()), device=ptr.device)
        inside = column < size
        residue = (start + column)[inside]
        token = table.new_full((end - first, len(column) + 2), PAD)
        token[:, 0] = CLS
        token[:, 1:-1][inside] = table[batch.residue_type[residue]]
        token.scatter_(1, size + 1, SEP)
        yield Rows(token, residue)


def _similar(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """Runs of sorted lengths in which the last is at most ``_STRETCH`` times the first."""
    first = 0
    for at, length in enumerate(lengths):
        if length > _STRETCH * lengths[first]:
            yield first, at
            first = at
    if lengths:
        yield first, len(lengths)
