"""Tokens of a model, and conversion of proteins to padded rows of tokens."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import ProteinBatch
from esmgn_core.errors import WeightsError

MAX_PADDING = 0.1
"""Largest fraction of padding tokens in a call."""
_T5_MASK = "<extra_id_0>"
"""T5 masks with a series of tokens; this one is the first."""


class Tokens(NamedTuple):
    """The tokens of a model that can be in a protein sequence.

    Attributes:
        residue: id of each residue type of :mod:`esmgn_core.alphabet`: 20 amino acids, unknown, masked.
        before: ids before the first residue of each sequence.
        after: ids after the last residue.
        pad: id of the padding, which is always masked.
    """

    residue: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    pad: int


def tokens_of(tokenizer: Any, name: str) -> Tokens:
    """Read the table of tokens from a tokenizer of transformers.

    Models differ in what a sequence is as text: letters, letters with spaces, or lists of letters. A token of
    each letter is unambiguous.

    Args:
        tokenizer: the tokenizer.
        name: name of the model for messages.

    Raises:
        WeightsError: an amino acid has no separate token, or there are tokens between residues.
    """
    letters = [*AMINO_ACIDS, "X"]
    words = {"is_split_into_words": True}
    body = tokenizer(letters, add_special_tokens=False, **words)["input_ids"]
    whole = tokenizer(letters, **words)["input_ids"]
    start = next((at for at in range(len(whole)) if whole[at : at + len(body)] == body), None)
    if start is None:
        raise WeightsError(
            f"the tokenizer of {name} adds tokens between residues",
            "seq.model needs a protein language model with one token for each residue",
        )
    before, after = whole[:start], whole[start + len(body) :]
    unknown = tokenizer.unk_token_id
    if len(body) != len(letters) or unknown in body[:-1]:
        body = [_in_vocabulary(tokenizer, letter) for letter in letters]
    amino_acids = body[:-1]
    if unknown in amino_acids or len(set(amino_acids)) < len(amino_acids):
        raise WeightsError(
            f"the tokenizer of {name} does not have a token for each amino acid",
            "seq.model needs a protein language model with one token for each residue",
        )
    mask = tokenizer.mask_token_id
    if mask is None:
        first = tokenizer.convert_tokens_to_ids(_T5_MASK)
        mask = body[-1] if first in (None, unknown) else first
    pad = tokenizer.pad_token_id
    return Tokens((*body, mask), tuple(before), tuple(after), 0 if pad is None else pad)


def _in_vocabulary(tokenizer: Any, letter: str) -> int:
    """Id of a letter in the vocabulary, also as the sentence piece of a word."""
    ids = [tokenizer.convert_tokens_to_ids(token) for token in (letter, f"▁{letter}")]
    known = [token for token in ids if token not in (None, tokenizer.unk_token_id)]
    return known[0] if known else int(tokenizer.unk_token_id)


class Rows(NamedTuple):
    """Sequences of similar length, padded to the longest.

    Attributes:
        token: int64 [S, L], each row the tokens before, the residues, the tokens after, and padding.
        mask: int64 [S, L], 1 for tokens and 0 for padding; ``None`` without padding.
        is_residue: bool [S, L], True for tokens of residues.
        residue: int64 [M], index in the batch of each residue of the rows, row by row.
    """

    token: Tensor
    mask: Tensor | None
    is_residue: Tensor
    residue: Tensor


def padded_rows(batch: ProteinBatch, tokens: Tokens, table: Tensor, *, join_chains: bool) -> Iterator[Rows]:
    """Yield rows of sequences of equal length, then of similar length with at most 10 % padding.

    Args:
        batch: N residues packed from B proteins.
        tokens: the tokens of the model.
        table: int64 [22], ``tokens.residue`` on the device of the batch.
        join_chains: True if all chains of a protein form one sequence.
    """
    ptr = batch.sequence_ptr(join_chains=join_chains)
    lengths = ptr.diff()
    for members in similar_lengths(lengths.tolist()):
        chosen = torch.tensor(members, device=ptr.device)
        size, start = lengths[chosen].unsqueeze(1), ptr[chosen].unsqueeze(1)
        column = torch.arange(int(size.max()), device=ptr.device)
        inside = column < size
        residue = (start + column)[inside]
        first, last = len(tokens.before), len(tokens.after)
        token = table.new_full((len(members), first + len(column) + last), tokens.pad)
        is_residue = torch.zeros_like(token, dtype=torch.bool)
        is_residue[:, first : first + len(column)] = inside
        token[is_residue] = table[batch.residue_type[residue]]
        for at, value in enumerate(tokens.before):
            token[:, at] = value
        for at, value in enumerate(tokens.after):
            token.scatter_(1, first + size + at, value)
        position = torch.arange(token.shape[1], device=ptr.device)
        mask = None if inside.all() else (position < first + size + last).long()
        yield Rows(token, mask, is_residue, residue)


def similar_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Groups of sequences to encode together, as indices; empty sequences are left out.

    Sequences of a length that occurs several times are a group without padding. The others are sorted, and
    a group ends where padding would exceed :data:`MAX_PADDING`.

    >>> similar_lengths([100, 50, 100, 96])
    [[0, 2], [1], [3]]
    >>> similar_lengths([101, 100, 50, 96])
    [[2], [3, 1, 0]]
    """
    equal: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        if length:
            equal.setdefault(length, []).append(index)
    groups = [members for members in equal.values() if len(members) > 1]
    group: list[int] = []
    total = 0
    for length in sorted(length for length, members in equal.items() if len(members) == 1):
        if group and length * (len(group) + 1) * (1 - MAX_PADDING) > total + length:
            groups.append(group)
            group, total = [], 0
        group.append(equal[length][0])
        total += length
    return [*groups, group] if group else groups
