"""Proteins, packed batches of proteins, and the outputs of encoders and tasks.

Lengths are in angstrom, pLDDT is 0-100. All types are frozen: functions return a new batch and never
change the one they take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from esmgn_core.alphabet import BACKBONE_ATOMS as BACKBONE_ATOMS
from esmgn_core.alphabet import CA as CA
from esmgn_core.alphabet import MASKED, NUM_RESIDUE_FEATURES, decode
from esmgn_core.printable import counted

Readout = Literal["sum", "mean"]
"""How residues are pooled into a protein."""


@dataclass(frozen=True, slots=True, eq=False)
class Protein:
    """One protein on the CPU: ``n`` residues, each with a CA atom.

    Attributes:
        name: identifier, unique within a dataset.
        residue_type: int64 [n], see :mod:`esmgn_core.alphabet`.
        backbone: float32 [n, 4, 3], atoms N, CA, C, O in angstrom; NaN for missing atoms.
        atom_mask: bool [n, 4], True if the atom is present (always True for CA).
        residue_index: int64 [n], residue number in the file.
        chain_index: int64 [n], position of the residue's chain in ``chains``.
        plddt: float32 [n] in 0-100 for predicted structures, else ``None``.
        insertion_code: uint8 [n], ASCII code of the insertion code; 32 (space) for none.
        chains: chain identifiers of the file. Numbers are added to an identifier of several chains.
        labels: float32 [T], NaN = unknown, or ``None``.
        features: additional values of each residue by name, float32 [n], NaN = unknown.
            ``secondary_structure`` is an index into :data:`esmgn_core.alphabet.SECONDARY_STATES`,
            ``exposure`` is in square angstrom.
        notes: parts of the file that the reader dropped, divided or guessed, one short sentence each.
    """

    name: str
    residue_type: Tensor
    backbone: Tensor
    atom_mask: Tensor
    residue_index: Tensor
    chain_index: Tensor
    plddt: Tensor | None = None
    insertion_code: Tensor | None = None
    chains: tuple[str, ...] = ("A",)
    labels: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.residue_type.shape[0]

    def __repr__(self) -> str:
        return (
            f"Protein({self.name!r}, {counted(len(self), 'residue')}, {counted(len(self.chains), 'chain')})"
        )

    @property
    def sequence(self) -> str:
        """One-letter sequence over all chains, X for unknown residues."""
        return decode(self.residue_type.tolist())


@dataclass(frozen=True, slots=True, eq=False)
class ProteinBatch:
    """B proteins packed end to end, N residues in total; never padded, never mutated.

    Attributes:
        residue_type: int64 [N], see :mod:`esmgn_core.alphabet`.
        backbone: float32 [N, 4, 3], atoms N, CA, C, O in angstrom; NaN for missing atoms.
        atom_mask: bool [N, 4].
        residue_index: int64 [N], residue number in the file.
        chain_index: int64 [N], position of the chain in its protein.
        ptr: int64 [B + 1]; rows ``ptr[b]:ptr[b + 1]`` are protein ``b``.
        names: B names.
        plddt: float32 [N] in 0-100, NaN for proteins without pLDDT; ``None`` if no protein has it.
        labels: float32 [B, T], NaN = unknown; ``None`` if the proteins have no labels.
        features: the features that every protein has, by name, float32 [N], NaN = unknown. See
            :class:`Protein`.
        hidden: bool [N], True for residues whose one-hot feature is zero although their type is known;
            ``None`` if there are none. Set by tasks that hide types from structure encoders only.
    """

    residue_type: Tensor
    backbone: Tensor
    atom_mask: Tensor
    residue_index: Tensor
    chain_index: Tensor
    ptr: Tensor
    names: tuple[str, ...]
    plddt: Tensor | None = None
    labels: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    hidden: Tensor | None = None

    @classmethod
    def from_proteins(cls, proteins: Sequence[Protein]) -> Self:
        """Pack proteins end to end, in the given order.

        Raises:
            ValueError: some proteins have labels and others have not.
        """
        lengths = torch.tensor([len(protein) for protein in proteins])
        plddt = None
        if any(protein.plddt is not None for protein in proteins):
            plddt = torch.cat(
                [torch.full((len(p),), torch.nan) if p.plddt is None else p.plddt for p in proteins]
            )
        labels = [protein.labels for protein in proteins if protein.labels is not None]
        if labels and len(labels) != len(proteins):
            raise ValueError("either all proteins of a batch have labels or none")
        return cls(
            residue_type=torch.cat([protein.residue_type for protein in proteins]),
            backbone=torch.cat([protein.backbone for protein in proteins]),
            atom_mask=torch.cat([protein.atom_mask for protein in proteins]),
            residue_index=torch.cat([protein.residue_index for protein in proteins]),
            chain_index=torch.cat([protein.chain_index for protein in proteins]),
            ptr=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
            names=tuple(protein.name for protein in proteins),
            plddt=plddt,
            labels=torch.stack(labels) if labels else None,
            features={
                name: torch.cat([protein.features[name] for protein in proteins])
                for name in proteins[0].features
                if all(name in protein.features for protein in proteins)
            }
            if proteins
            else {},
        )

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        size = f"{counted(len(self), 'protein')}, {counted(self.num_residues, 'residue')}"
        return f"ProteinBatch({size}, on {self.residue_type.device})"

    @property
    def num_residues(self) -> int:
        """N, the number of residues over all proteins."""
        return self.residue_type.shape[0]

    @property
    def ca(self) -> Tensor:
        """float32 [N, 3], CA coordinates in angstrom."""
        return self.backbone[:, CA]

    @property
    def lengths(self) -> Tensor:
        """int64 [B], residues of each protein."""
        return self.ptr.diff()

    @property
    def protein_index(self) -> Tensor:
        """int64 [N], the protein each residue belongs to."""
        index = torch.arange(len(self), device=self.ptr.device)
        return index.repeat_interleave(self.lengths, output_size=self.num_residues)

    def sequence_ptr(self, *, join_chains: bool = False) -> Tensor:
        """First row of every sequence, then N: int64 [S + 1].

        A sequence consists of consecutive residues of one chain, or of one protein with ``join_chains``. A
        protein without residues has no sequence.
        """
        protein = self.protein_index
        starts = torch.ones(self.num_residues + 1, dtype=torch.bool, device=protein.device)
        starts[1:-1] = protein[1:] != protein[:-1]
        if not join_chains:
            starts[1:-1] |= self.chain_index[1:] != self.chain_index[:-1]
        return starts.nonzero().squeeze(1)

    @property
    def residue_one_hot(self) -> Tensor:
        """float32 [N, 21], the input of a structure encoder without a sequence encoder.

        One-hot over the 20 residue types and unknown. All zeros for masked and hidden residues.
        """
        eye = torch.eye(MASKED + 1, NUM_RESIDUE_FEATURES, device=self.residue_type.device)
        if self.hidden is None:
            return eye[self.residue_type]
        return eye[self.residue_type.masked_fill(self.hidden, MASKED)]

    def select(self, keep: Tensor) -> Self:
        """The batch reduced to the residues of the mask ``keep``, bool [N], in their order."""
        kept = torch.zeros(self.num_residues + 1, dtype=torch.int64, device=keep.device)
        kept[1:] = keep.cumsum(0)
        return self.take(keep, kept[self.ptr])

    def take(self, rows: Tensor, ptr: Tensor) -> Self:
        """A batch of the residues ``rows``, int64 [M] or a mask bool [N], with the offsets ``ptr``.

        Names and labels are not changed: replace them if the proteins change.
        """
        return replace(
            self,
            residue_type=self.residue_type[rows],
            backbone=self.backbone[rows],
            atom_mask=self.atom_mask[rows],
            residue_index=self.residue_index[rows],
            chain_index=self.chain_index[rows],
            plddt=None if self.plddt is None else self.plddt[rows],
            hidden=None if self.hidden is None else self.hidden[rows],
            ptr=ptr,
            features={name: values[rows] for name, values in self.features.items()},
        )

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The batch with every tensor on ``device``."""
        moved: dict[str, Any] = {
            item.name: value.to(device, non_blocking=non_blocking)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }
        features = {
            name: value.to(device, non_blocking=non_blocking) for name, value in self.features.items()
        }
        return replace(self, **moved, features=features)


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """Output of an encoder.

    Attributes:
        residue: float [N, D], one representation for each residue.
        protein: float [B, D], one representation for each protein.
    """

    residue: Tensor
    protein: Tensor

    def __repr__(self) -> str:
        size = f"{counted(len(self.protein), 'protein')}, {counted(len(self.residue), 'residue')}"
        return f"Encoding({size}, width {self.residue.shape[1]}, on {self.residue.device})"

    @classmethod
    def from_residues(cls, residue: Tensor, batch: ProteinBatch, readout: Readout = "sum") -> Self:
        """Pool residue representations [N, D] into protein representations [B, D].

        A protein without residues pools to zeros.
        """
        pooled = residue.new_zeros(len(batch), residue.shape[1])
        pooled = pooled.index_add(0, batch.protein_index, residue)
        if readout == "mean":
            pooled = pooled / batch.lengths.clamp(min=1).unsqueeze(1)
        return cls(residue, pooled)


@dataclass(frozen=True, slots=True, eq=False)
class TaskOutput:
    """Output of a task for one batch.

    Attributes:
        loss: float [], mean over ``num_samples`` predictions.
        num_samples: number of predictions in the mean, or the sum of their weights. It weights the means of
            micro-batches and processes, so that splitting a batch does not change the loss.
        metrics: other means over the same predictions, float [] each, detached.
        parts: for a combined task, the output of each of its tasks, by name. ``loss`` is their weighted sum,
            and ``num_samples`` counts proteins. The means of the parts are over their own predictions.
        num_left_out: number of proteins without a prediction, because the task does not apply to them.
    """

    loss: Tensor
    num_samples: float
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    parts: Mapping[str, WeightedOutput] = field(default_factory=dict)
    num_left_out: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class WeightedOutput:
    """Output of one task of a combined task, and the weight of its loss in the sum."""

    weight: float
    output: TaskOutput
