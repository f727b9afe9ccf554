"""Every registered component keeps the contract of its kind; a new one is tested without being named here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esmgn_core.registry import discover
from esmgn_core.spec import Kind
from esmgn_core.store import BuildOptions, build
from esmgn_core.testing import check_component, example_proteins
from esmgn_core.testing.files import write_pdb

REGISTRY = discover()
IN_PLUGIN = {(Kind.DATA, name) for name in ("csv", "ec", "fold", "go", "msp", "psr")}
"""Datasets of archives and tables, which their plugin's own tests make and check."""
COMPONENTS = [
    (kind, spec.name)
    for kind in Kind
    for spec, _ in REGISTRY.components(kind)
    if (kind, spec.name) not in IN_PLUGIN
]
SMALL: dict[tuple[Kind, str], dict[str, Any]] = {
    (Kind.SEQ, "esm1"): {"num_layers": 2, "embed_dim": 32, "attention_heads": 4, "weights": "random"},
    (Kind.SEQ, "esm2"): {"num_layers": 2, "embed_dim": 32, "attention_heads": 4, "weights": "random"},
    (Kind.SEQ, "protbert"): {"num_layers": 2, "embed_dim": 32, "attention_heads": 4, "weights": "random"},
    (Kind.STRUCT, "cdconv"): {"hidden_dims": [16, 32], "radii": [8.0, 12.0], "kernel_dim": 8},
    **{
        (Kind.STRUCT, name): {"num_layers": 2, "hidden_dim": 16}
        for name in ("gearnet", "gearnet_edge", "gearnet_ieconv")
    },
    (Kind.STRUCT, "gvp"): {"num_layers": 2, "scalar_dim": 16, "vector_dim": 4, "edge_scalar_dim": 8},
    **{
        (Kind.STRUCT, f"pyg_{name}"): {"num_layers": 2, "hidden_dim": 16}
        for name in ("egnn", "gat", "gcn", "gin", "gps", "rgcn", "sage", "schnet", "transformer")
    },
    (Kind.STRUCT, "pyg_dimenet"): {"num_layers": 2, "hidden_dim": 16, "num_spherical": 3},
    (Kind.FUSE, "cross"): {"cross_dim": 16, "attention_heads": 2},
    (Kind.DATA, "sample"): {"num_proteins": 8},
}
"""Settings of components that are large, or need a file, under their defaults."""


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=[f"{kind}-{name}" for kind, name in COMPONENTS])
def test_component_keeps_its_contract(kind, name, tmp_path):
    settings = SMALL.get((kind, name), {})
    if (kind, name) == (Kind.DATA, "folder"):
        settings = {"path": [str(write_structures(tmp_path))]}
    if (kind, name) == (Kind.DATA, "store"):
        structures = tmp_path / "structures"
        structures.mkdir()
        build([str(write_structures(structures))], tmp_path / "store", BuildOptions())
        settings = {"path": str(tmp_path / "store")}
    check_component(kind, name, **settings)


READOUTS = [
    (spec.kind, spec.name) for kind in (Kind.STRUCT, Kind.FUSE) for spec, _ in REGISTRY.components(kind)
]


@pytest.mark.parametrize(("kind", "name"), READOUTS, ids=[f"{kind}-{name}" for kind, name in READOUTS])
def test_contract_holds_with_learned_attention_as_the_readout(kind, name):
    check_component(kind, name, **SMALL.get((kind, name), {}), readout="attention")


def test_contract_holds_for_untrained_projections():
    """Cross fusion as the original trained it: gradients pass through to both encoders all the same."""
    check_component(Kind.FUSE, "cross", **SMALL[Kind.FUSE, "cross"], reference=True)


def test_shipped_plugins_are_all_in_use():
    """A broken plugin would take its components out of this test without a word."""
    shipped = [plugin for plugin in REGISTRY.plugins if plugin.distribution == "esmgn"]
    assert [(plugin.name, plugin.problem) for plugin in shipped if plugin.problem] == []
    assert {kind for kind, _ in COMPONENTS} == set(Kind)


def write_structures(folder: Path) -> Path:
    """The example proteins as PDB files."""
    for seed in range(3):
        for protein in example_proteins(seed):
            write_pdb(protein, folder / f"{protein.name}_{seed}.pdb")
    return folder
