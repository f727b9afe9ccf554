"""What the tests of the pretext tasks share."""

from __future__ import annotations

import pytest
import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import SeededDraws
from esmgn_core.testing import example_proteins
from esmgn_core.testing.examples import ExampleGraph


@pytest.fixture
def build_graph() -> ExampleGraph:
    """Four relations, self-loops among them."""
    return ExampleGraph()


@pytest.fixture
def batch() -> ProteinBatch:
    """Proteins of 40, 1, 120, 2 and 33 residues."""
    return ProteinBatch.from_proteins(example_proteins())


@pytest.fixture
def draws() -> SeededDraws:
    """Streams of the proteins of ``batch``."""
    return SeededDraws(0, 0, range(5))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
