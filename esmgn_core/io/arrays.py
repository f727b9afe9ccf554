"""One protein as NumPy arrays, the form between readers and stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, decode
from esmgn_core.io.copies import unique_names
from esmgn_core.io.plddt import scale_plddt
from esmgn_core.io.table import ResidueTable
from esmgn_core.printable import counted

if TYPE_CHECKING:
    from esmgn_core.batch import Protein


@dataclass(frozen=True, slots=True, eq=False)
class ResidueArrays:
    """The ``n`` residues of a protein, each with a CA atom.

    Attributes:
        residue_type: uint8 [n], see :mod:`esmgn_core.alphabet`.
        backbone: float32 [n, 4, 3], atoms N, CA, C, O in angstrom; NaN where an atom is missing.
        number: int32 [n], residue number in the file.
        insertion_code: uint8 [n], ASCII, 32 for none.
        chain: int64 [n], index of the residue's chain in ``chains``.
        chains: unique chain identifiers; those that chains share in the file have a number added.
        plddt: float32 [n] in 0-100 for predicted structures, else ``None``.
        notes: what the reader dropped, divided or guessed, one short sentence each.
    """

    residue_type: NDArray[np.uint8]
    backbone: NDArray[np.float32]
    number: NDArray[np.int32]
    insertion_code: NDArray[np.uint8]
    chain: NDArray[np.int64]
    chains: tuple[str, ...]
    plddt: NDArray[np.float32] | None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.residue_type)

    def __repr__(self) -> str:
        return f"ResidueArrays({counted(len(self), 'residue')}, {counted(len(self.chains), 'chain')})"

    @property
    def sequence(self) -> str:
        """One-letter sequence over all chains, X for unknown residues."""
        return decode(self.residue_type.tolist())

    @classmethod
    def from_table(cls, table: ResidueTable, *, has_plddt: bool) -> ResidueArrays:
        """Convert all rows of ``table``, which must be residues of one protein."""
        is_used = np.bincount(table.chain, minlength=len(table.chains)) > 0
        return cls(
            residue_type=table.residue_type.astype(np.uint8),
            backbone=np.ascontiguousarray(table.position[:, : len(BACKBONE_ATOMS)]),
            number=table.number,
            insertion_code=table.insertion_code,
            chain=(is_used.cumsum() - 1)[table.chain],
            chains=unique_names([*compress(table.chains, is_used)]),
            plddt=scale_plddt(table.ca_b_factor) if has_plddt else None,
            notes=table.notes,
        )

    def protein(self, name: str, features: Mapping[str, NDArray[np.float32]] | None = None) -> Protein:
        """Convert to tensors, with features of the residues, float32 [n], NaN = unknown."""
        import torch  # imported late: processes that build stores do not need it

        from esmgn_core.batch import Protein

        backbone = torch.from_numpy(self.backbone)
        return Protein(
            name=name,
            residue_type=torch.from_numpy(self.residue_type.astype(np.int64)),
            backbone=backbone,
            atom_mask=backbone.isfinite().all(-1),
            residue_index=torch.from_numpy(self.number.astype(np.int64)),
            chain_index=torch.from_numpy(self.chain),
            plddt=None if self.plddt is None else torch.from_numpy(self.plddt),
            insertion_code=torch.from_numpy(self.insertion_code),
            chains=self.chains,
            features={feature: torch.from_numpy(values) for feature, values in (features or {}).items()},
            notes=self.notes,
        )
