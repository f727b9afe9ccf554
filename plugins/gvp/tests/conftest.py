"""Models, batches and graphs for the tests of GVP."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.neighbors import find_neighbors
from esmgn_core.testing import example_proteins
from esmgn_gvp.encoder import GVPGNN

SMALL = {"scalar_dim": 24, "vector_dim": 5, "edge_scalar_dim": 7, "edge_vector_dim": 2, "num_layers": 2}


@pytest.fixture
def small():
    """Settings of a small model."""
    return SMALL


@pytest.fixture
def make_model():
    """Builds a model in eval mode whose normalisations have weights off 1 and biases off 0."""

    def make(**settings) -> GVPGNN:
        torch.manual_seed(3)
        model = GVPGNN(GVPGNN.Settings(**settings), input_dim=21, num_relations=1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.03 * torch.randn_like(parameter))
        return model.eval()

    return make


@pytest.fixture
def pack():
    """Packs some of the example proteins, by name."""

    def make(*names: str) -> ProteinBatch:
        proteins = {protein.name: protein for protein in example_proteins()}
        return ProteinBatch.from_proteins([proteins[name] for name in names])

    return make


@pytest.fixture
def radius_graph():
    """Draws the graph of the study's GVP runs."""

    def draw(batch: ProteinBatch) -> ResidueGraph:
        return ResidueGraph.from_relations([find_neighbors(batch, 10.0, max_neighbors=32).close])

    return draw


@pytest.fixture
def difference():
    """Largest difference as a share of the largest expected value."""

    def largest(found: Tensor, expected: Tensor) -> float:
        return float((found - expected).detach().abs().max() / expected.detach().abs().max().clamp(min=1e-12))

    return largest
