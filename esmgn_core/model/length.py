"""Read long sequences whole, in windows, truncated, or not at all. Table ``[length]``.

A sequence is a chain, or a protein for an encoder that joins the chains of a protein (``joins_chains``).
Truncation is always reported.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.errors import RunError
from esmgn_core.model.wrapper import EncoderWrapper
from esmgn_core.protocols import LanguageModel, SequenceEncoder, readout_of
from esmgn_core.settings import LengthTable

logger = logging.getLogger(__name__)


class LengthPolicy:
    """Applies the length policy to the inputs of both encoders.

    Args:
        settings: the table ``[length]``.
        joins_chains: True if the sequence encoder reads the chains of a protein as one sequence.

    Attributes:
        num_cut: number of truncated sequences so far.
        num_residues_cut: number of residues removed by that.
    """

    def __init__(self, settings: LengthTable, *, joins_chains: bool) -> None:
        self.settings = settings
        self.joins_chains = joins_chains
        self.num_cut = 0
        self.num_residues_cut = 0

    def prepare(self, batch: ProteinBatch) -> ProteinBatch:
        """Truncate or refuse long sequences; call this before edges are computed.

        Raises:
            RunError: a sequence is too long, with policy ``error``.
        """
        if self.settings.policy in ("full", "window"):
            return batch
        limit = self.settings.max_residues
        ptr = batch.sequence_ptr(join_chains=self.joins_chains)
        lengths = ptr.diff()
        if not bool((lengths > limit).any()):
            return batch
        if self.settings.policy == "error":
            self._refuse(batch, ptr)
        position = torch.arange(batch.num_residues, device=ptr.device)
        position = position - ptr[:-1].repeat_interleave(lengths, output_size=batch.num_residues)
        self._note(lengths[lengths > limit] - limit)
        return batch.select(position < limit)

    def reading(self, sequence: SequenceEncoder) -> SequenceEncoder:
        """The sequence encoder, wrapped to read windows if that is the policy."""
        if self.settings.policy != "window":
            return sequence
        kind = WindowedLanguageModel if isinstance(sequence, LanguageModel) else Windowed
        return kind(sequence, self.settings, joins_chains=self.joins_chains)

    def report(self) -> str | None:
        """A sentence about the truncated sequences so far; ``None`` if none was truncated."""
        if not self.num_cut:
            return None
        return (
            f"sequences longer than {self.settings.max_residues} residues were cut {self.num_cut} times, "
            f"{self.num_residues_cut} residues left out (length.policy = truncate)"
        )

    def _note(self, cut: Tensor) -> None:
        first = not self.num_cut
        self.num_cut += len(cut)
        self.num_residues_cut += int(cut.sum())
        if first:
            logger.warning("%s; further cuts are counted without a warning", self.report())

    def _refuse(self, batch: ProteinBatch, ptr: Tensor) -> NoReturn:
        longest = int(ptr.diff().argmax())
        name = batch.names[int(batch.protein_index[ptr[longest]])]
        raise RunError(
            f"protein '{name}' has a sequence of {int(ptr.diff()[longest])} residues: "
            f"length.max_residues is {self.settings.max_residues} (length.policy = error)",
            "read it whole, in windows or truncated: --set length.policy=full, window or truncate",
            "see: esmgn show length",
        )


class _Windows(NamedTuple):
    """Windows of the sequences of a batch."""

    batch: ProteinBatch
    """Batch of W windows with M residues; each window is a protein."""
    row: Tensor
    """int64 [M], position in the whole batch of each residue of the windows."""
    protein: Tensor
    """int64 [W], number of the protein of each window."""


class Windowed(EncoderWrapper):
    """A sequence encoder that reads long sequences in overlapping windows and averages the overlaps.

    Proteins without a long sequence are read whole. In the others every sequence is read separately, and the
    protein representation is pooled from the averaged residues.

    Args:
        encoder: any sequence encoder.
        settings: the table ``[length]``.
        joins_chains: True if the encoder reads the chains of a protein as one sequence.
    """

    def __init__(self, encoder: SequenceEncoder, settings: LengthTable, *, joins_chains: bool) -> None:
        super().__init__(encoder)
        self._length = settings
        self._joins_chains = joins_chains

    def __call__(self, batch: ProteinBatch) -> Encoding:
        """Residue representations [N, output_dim] and protein representations [B, output_dim]."""
        windows = self._windows(batch)
        if windows is None:
            whole: Encoding = self._encoder(batch)
            return whole
        encoding: Encoding = self._encoder(windows.batch)
        residue = _averaged(encoding.residue, windows, batch)
        pooled = Encoding.from_residues(residue, batch, readout_of(self._encoder)).protein
        count = torch.bincount(windows.protein, minlength=len(batch))
        first = count.cumsum(0) - count
        protein = torch.where((count == 1).unsqueeze(1), encoding.protein[first], pooled)
        return Encoding(residue, protein)

    def _windows(self, batch: ProteinBatch) -> _Windows | None:
        """The windows of a batch; ``None`` if no sequence is too long."""
        limit, overlap = self._length.max_residues, self._length.overlap
        ptr = batch.sequence_ptr(join_chains=self._joins_chains)
        if not bool((ptr.diff() > limit).any()):
            return None
        sequences = list(pairwise(ptr.tolist()))
        spans, protein, next_sequence = [], [], 0
        for number, (first, end) in enumerate(pairwise(batch.ptr.tolist())):
            own = []
            while next_sequence < len(sequences) and sequences[next_sequence][0] < end:
                own.append(sequences[next_sequence])
                next_sequence += 1
            parts = [(first, end)]
            if any(b - a > limit for a, b in own):
                parts = [part for a, b in own for part in windows_of(a, b, limit, overlap)]
            spans += parts
            protein += [number] * len(parts)
        device = ptr.device
        row = torch.cat([torch.arange(first, end) for first, end in spans]).to(device)
        sizes = torch.tensor([0, *(end - first for first, end in spans)])
        names = tuple(batch.names[number] for number in protein)
        windows = batch.take(row, sizes.cumsum(0).to(device)).replace(names=names, labels=None)
        return _Windows(windows, row, torch.tensor(protein, device=device))


class WindowedLanguageModel(Windowed):
    """:class:`Windowed` for a language model."""

    def residue_logits(self, batch: ProteinBatch) -> Tensor:
        """Logits float [N, 20], averaged over overlapping windows."""
        windows = self._windows(batch)
        if windows is None:
            whole: Tensor = self._encoder.residue_logits(batch)
            return whole
        logits: Tensor = self._encoder.residue_logits(windows.batch)
        return _averaged(logits, windows, batch)


def windows_of(first: int, end: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Cover ``first`` to ``end`` by windows of ``size`` that share ``overlap``; the last two may share more.

    >>> windows_of(0, 10, 4, 1)
    [(0, 4), (3, 7), (6, 10)]
    >>> windows_of(0, 9, 4, 1)
    [(0, 4), (3, 7), (5, 9)]
    >>> windows_of(0, 4, 4, 1)
    [(0, 4)]
    """
    if end - first <= size:
        return [(first, end)]
    starts = [*range(first, end - size, size - overlap), end - size]
    return [(start, start + size) for start in starts]


def _averaged(values: Tensor, windows: _Windows, batch: ProteinBatch) -> Tensor:
    """Average the values of the windows' residues, [M, D], for each residue of the batch, [N, D]."""
    total = values.new_zeros(batch.num_residues, values.shape[1]).index_add(0, windows.row, values)
    count = torch.bincount(windows.row, minlength=batch.num_residues)
    return total / count.unsqueeze(1)
