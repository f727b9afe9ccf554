"""Recorded values of the original code, as batches and graphs of this package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS, UNKNOWN
from esmgn_core.batch import CA, ProteinBatch
from esmgn_core.graph import ResidueGraph

REFERENCE_ORDER = "GASPVTCILNDQKEMHFRYW"
TO_OURS = torch.tensor([AMINO_ACIDS.index(letter) for letter in REFERENCE_ORDER])
FROM_OURS = torch.tensor([REFERENCE_ORDER.index(letter) for letter in AMINO_ACIDS])

_HERE = Path(__file__).parents[1] / "fixtures"
_REAL = Path(__file__).parents[3] / "shared" / "fixtures" / "torchdrug"


@dataclass(frozen=True)
class Recorded:
    """A folder of recorded values."""

    root: Path

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.root / f"{name}.npz") as file:
            return dict(file)

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.root / f"{name}.safetensors")

    def facts(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.root / f"{name}.json").read_text()))


@pytest.fixture(params=["formula", "real"])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """The original's values on proteins made by formula, and on real ones where they are at hand."""
    if request.param == "formula":
        return Recorded(_HERE)
    if not _REAL.is_dir():
        pytest.skip("recorded values on real proteins are not at hand (../shared/fixtures/torchdrug)")
    return Recorded(_REAL)


def batch_of(arrays: dict[str, np.ndarray]) -> ProteinBatch:
    """The recorded batch; a single protein has no ``num_residues``."""
    num_residues = arrays.get("num_residues", np.array([len(arrays["residue_type"])]))
    total = int(num_residues.sum())
    residue_type = TO_OURS[torch.from_numpy(arrays["residue_type"].astype(np.int64))]
    unknown = torch.from_numpy(arrays["residue_feature_index"].astype(np.int64)) == len(AMINO_ACIDS)
    backbone = torch.full((total, 4, 3), torch.nan)
    backbone[:, CA] = torch.from_numpy(arrays["ca_position"])
    return ProteinBatch(
        residue_type=residue_type.masked_fill(unknown, UNKNOWN),
        backbone=backbone,
        atom_mask=~backbone.isnan().any(dim=-1),
        residue_index=torch.arange(total),
        chain_index=torch.from_numpy(arrays["chain_id"].astype(np.int64)),
        ptr=torch.tensor([0, *num_residues.cumsum().tolist()]),
        names=tuple(f"protein-{number}" for number in range(len(num_residues))),
    )


def graph_of(edge_list: np.ndarray) -> ResidueGraph:
    """The recorded edges (in, out, relation) as a residue graph."""
    edges = torch.from_numpy(edge_list.astype(np.int64))
    return ResidueGraph.from_edges(edges[:, :2].T.contiguous(), edges[:, 2], 7)


def edge_set(graph: ResidueGraph) -> set[tuple[int, int, int]]:
    """Edges as (source, target, relation)."""
    return set(zip(*graph.edge_index.tolist(), graph.relation.tolist(), strict=True))


def relative_error(ours: Tensor, theirs: np.ndarray | Tensor) -> float:
    """Largest deviation as a share of the largest recorded value."""
    recorded = torch.as_tensor(theirs)
    return float((ours.detach() - recorded).abs().max() / recorded.abs().max())
