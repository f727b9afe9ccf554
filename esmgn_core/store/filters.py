"""Conditions on the proteins of a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from esmgn_core.printable import counted


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions on proteins. A protein that fails one is refused with the reason.

    Attributes:
        min_length: fewest residues.
        max_length: most residues, 0 for any number.
        min_plddt: lowest mean pLDDT of a predicted structure.
        max_resolution: coarsest resolution of an experimental structure, in angstrom, 0 for any.
        max_chains: most chains, 0 for any number.
    """

    min_length: int = 1
    max_length: int = 0
    min_plddt: float = 0.0
    max_resolution: float = 0.0
    max_chains: int = 0

    def options(self) -> str:
        """Return the filters as options of ``esmgn data build``, or ``no filters``."""
        given = [
            f"--{item.name.replace('_', '-')} {getattr(self, item.name):g}"
            for item in fields(self)
            if getattr(self, item.name) != item.default
        ]
        return " ".join(given) or "no filters"

    def reason(self, row: Mapping[str, Any]) -> str:
        """Why the protein of this index row fails; empty if it passes."""
        if row["length"] < self.min_length:
            return f"{counted(row['length'], 'residue')}, fewer than --min-length {self.min_length}"
        if self.max_length and row["length"] > self.max_length:
            return f"{counted(row['length'], 'residue')}, more than --max-length {self.max_length}"
        if row["mean_plddt"] is not None and row["mean_plddt"] < self.min_plddt:
            return f"mean pLDDT {row['mean_plddt']:.1f}, less than --min-plddt {self.min_plddt:g}"
        if self.max_resolution and (row["resolution"] or 0) > self.max_resolution:
            return (
                f"resolution {row['resolution']:g} A, coarser than --max-resolution {self.max_resolution:g}"
            )
        if self.max_chains and row["num_chains"] > self.max_chains:
            return f"{counted(row['num_chains'], 'chain')}, more than --max-chains {self.max_chains}"
        return ""
