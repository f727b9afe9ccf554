"""Models and batches for the tests of CDConv."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from esmgn_cdconv.encoder import CDConv
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.testing import example_proteins

SMALL = {"hidden_dims": (32, 32, 64, 64), "kernel_dim": 6}
NO_EDGES = ResidueGraph(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 1)


@pytest.fixture
def make_model():
    """Builds a small model in eval mode with weights and statistics of normalisation off 1 and 0."""

    def make(**settings) -> CDConv:
        torch.manual_seed(3)
        model = CDConv(CDConv.Settings(**(SMALL | settings)), input_dim=21, num_relations=1)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
                torch.nn.init.normal_(module.weight, 1, 0.3)
                torch.nn.init.normal_(module.bias, 0, 0.3)
        return model.eval()

    return make


@pytest.fixture
def encode():
    """Runs a model on a graph without edges: it draws its own."""

    def run(model: CDConv, batch: ProteinBatch, features: Tensor | None = None) -> Encoding:
        return model(batch, NO_EDGES, batch.residue_one_hot if features is None else features)

    return run


@pytest.fixture
def pack():
    """Packs some of the example proteins, by name."""

    def make(*names: str) -> ProteinBatch:
        proteins = {protein.name: protein for protein in example_proteins()}
        return ProteinBatch.from_proteins([proteins[name] for name in names])

    return make


@pytest.fixture
def difference():
    """Largest difference as a share of the largest expected value."""

    def largest(found: Tensor, expected: Tensor) -> float:
        return float((found - expected).detach().abs().max() / expected.detach().abs().max().clamp(min=1e-12))

    return largest
