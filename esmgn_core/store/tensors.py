"""Convert decoded residues of a store to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.io.annotate import feature
from esmgn_core.store.shard import DecodedResidues


def protein_of(rows: DecodedResidues, name: str, chains: tuple[str, ...]) -> Protein:
    """Convert residues of one protein."""
    return Protein(
        name=name,
        plddt=None if np.isnan(rows.plddt[0]) else torch.from_numpy(rows.plddt),
        insertion_code=torch.from_numpy(rows.insertion_code),
        chains=chains,
        **_shared(rows),
    )


def batch_of(rows: DecodedResidues, names: Sequence[str]) -> ProteinBatch:
    """Convert residues of several proteins, or stretches of them, to a batch."""
    return ProteinBatch(
        ptr=torch.from_numpy(rows.ptr),
        names=tuple(names),
        plddt=None if np.isnan(rows.plddt).all() else torch.from_numpy(rows.plddt),
        **_shared(rows),
    )


def _shared(rows: DecodedResidues) -> dict[str, Any]:
    columns = rows.annotations.items()
    return {
        "residue_type": torch.from_numpy(rows.residue_type),
        "backbone": torch.from_numpy(rows.backbone),
        "atom_mask": torch.from_numpy(rows.atom_mask),
        "residue_index": torch.from_numpy(rows.number),
        "chain_index": torch.from_numpy(rows.chain),
        "features": {name: torch.from_numpy(feature(name, column)) for name, column in columns},
    }
