"""Small models and graphs for the tests of the encoders."""

from __future__ import annotations

import pytest
import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind
from esmgn_core.testing import ExampleGraph, example_batch

SMALL = {
    "pyg_dimenet": {
        "hidden_dim": 16,
        "num_layers": 2,
        "triplet_dim": 8,
        "output_hidden_dim": 16,
        "num_spherical": 3,
        "num_radial": 4,
    },
    "pyg_egnn": {"hidden_dim": 16, "num_layers": 2},
    "pyg_gat": {"hidden_dim": 16, "num_layers": 2, "heads": 4},
    "pyg_gcn": {"hidden_dim": 16, "num_layers": 2},
    "pyg_gin": {"hidden_dim": 16, "num_layers": 2},
    "pyg_gps": {"hidden_dim": 16, "num_layers": 2, "heads": 4},
    "pyg_rgcn": {"hidden_dim": 16, "num_layers": 2},
    "pyg_sage": {"hidden_dim": 16, "num_layers": 2},
    "pyg_schnet": {"hidden_dim": 16, "num_layers": 2, "num_filters": 8, "num_gaussians": 10},
    "pyg_transformer": {"hidden_dim": 16, "num_layers": 2, "heads": 4},
}


@pytest.fixture(params=SMALL)
def name(request) -> str:
    """Every encoder of the plugin in turn."""
    return request.param


@pytest.fixture
def small():
    """Settings of a small model, by the name of the encoder."""
    return SMALL


@pytest.fixture
def make():
    """Builds a small encoder in eval mode for the example graph and 21 features."""

    def build(name: str, **changes):
        registry = discover()
        component = registry.load(registry.component(Kind.STRUCT, name))
        torch.manual_seed(0)
        settings = component.Settings(**{**SMALL[name], **changes})
        return component(settings, input_dim=21, num_relations=ExampleGraph.num_relations).eval()

    return build


@pytest.fixture
def encode():
    """Encodes one-hot residue types on a graph, by default the example graph."""

    def run(module, batch: ProteinBatch | None = None, graph=None):
        batch = example_batch() if batch is None else batch
        return module(batch, ExampleGraph()(batch) if graph is None else graph, batch.residue_one_hot)

    return run
