"""Every registered component keeps the contract of its kind; a new one is tested without being named here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from esmgn_core.host.configure import configure
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.protocols import LayeredEncoder, LayeredStructure, needs_layers
from esmgn_core.spec import PARTS, Kind
from esmgn_core.store import BuildOptions, build
from esmgn_core.testing import check_component, example_batch, example_proteins
from esmgn_core.testing.files import write_pdb

REGISTRY = discover()
IN_PLUGIN = {
    *((Kind.DATA, name) for name in ("csv", "ec", "fold", "go", "msp", "psr")),
    (Kind.SEQ, "hf"),
}
"""Datasets of archives and tables and models of files, which their plugin's own tests make and check."""
COMPONENTS = [
    (kind, spec.name)
    for kind in Kind
    for spec, _ in REGISTRY.components(kind)
    if (kind, spec.name) not in IN_PLUGIN and not (kind is Kind.TRACKER and spec.requires)
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


# Nothing of ``identity`` is learned.
LEARNED = [item for item in READOUTS if item != (Kind.STRUCT, "identity")]


@pytest.mark.parametrize(("kind", "name"), LEARNED, ids=[f"{kind}-{name}" for kind, name in LEARNED])
def test_contract_holds_with_learned_attention_as_the_readout(kind, name):
    check_component(kind, name, **SMALL.get((kind, name), {}), readout="attention")


def test_contract_holds_for_untrained_projections():
    """Cross fusion as the original trained it: gradients pass through to both encoders all the same."""
    check_component(Kind.FUSE, "cross", **SMALL[Kind.FUSE, "cross"], reference=True)


def test_shipped_plugins_are_all_in_use():
    """A broken plugin would take its components out of this test without a word."""
    shipped = [plugin for plugin in REGISTRY.plugins if plugin.distribution == "esmgn"]
    assert [(plugin.name, plugin.problem) for plugin in shipped if plugin.problem] == []
    assert {kind for kind, _ in COMPONENTS} == {*PARTS, Kind.TRACKER}


def without_unread(tables: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """The tables of a run without the encoders that its fuser does not read."""
    unread = {Kind.SEQ, Kind.STRUCT} - {*REGISTRY.component(Kind.FUSE, str(tables["fuse"]["name"])).encoders}
    return {kind: table for kind, table in tables.items() if kind not in unread}


def fits(seq: str, struct: str, fuse: str) -> bool:
    """True if the fuser can run the layers of these encoders, or needs none."""
    kinds = needs_layers(REGISTRY.load(REGISTRY.component(Kind.FUSE, fuse)))
    layered = {Kind.SEQ: (seq, LayeredEncoder), Kind.STRUCT: (struct, LayeredStructure)}
    return all(
        issubclass(REGISTRY.load(REGISTRY.component(kind, name)), protocol)
        for kind, (name, protocol) in layered.items()
        if kind in kinds
    )


def write_structures(folder: Path) -> Path:
    """The example proteins as PDB files."""
    for seed in range(3):
        for protein in example_proteins(seed):
            write_pdb(protein, folder / f"{protein.name}_{seed}.pdb")
    return folder


# CDConv pools the rows of its coarsest level, not residues.
WITH_READOUT = [(Kind.SEQ, "esm2"), (Kind.SEQ, "onehot"), *READOUTS]
WITH_READOUT.remove((Kind.STRUCT, "cdconv"))


@pytest.mark.parametrize(
    ("kind", "name"), WITH_READOUT, ids=[f"{kind}-{name}" for kind, name in WITH_READOUT]
)
@pytest.mark.parametrize("readout", ["sum", "mean"])
def test_the_readout_that_is_set_is_the_one_applied(kind, name, readout):
    """The representation of a protein is the sum or the mean over its residues, according to the setting."""
    tables = {
        "seq": {"name": "esm2", **SMALL[Kind.SEQ, "esm2"]},
        "struct": {"name": "gearnet", **SMALL[Kind.STRUCT, "gearnet"]},
        "fuse": {"name": "serial"},
        str(kind): {"name": name, **SMALL.get((kind, name), {}), "readout": readout},
    }
    composed = resolve(REGISTRY, configure(REGISTRY, [without_unread(tables)]))
    encoder, batch = composed.encoder().eval(), example_batch()
    graph = composed.graph()(batch)
    with torch.no_grad():
        if kind is Kind.SEQ:
            encoding = encoder.sequence(batch)
        elif kind is Kind.STRUCT:
            encoding = encoder.structure(batch, graph, encoder.sequence(batch).residue)
        else:
            encoding = encoder(batch, graph)
    pooled = [getattr(part, readout)(0) for part in torch.split(encoding.residue, batch.lengths.tolist())]
    torch.testing.assert_close(encoding.protein, torch.stack(pooled), rtol=1e-4, atol=1e-5)


def test_cross_fusion_drops_attention_in_training_alone():
    """``dropout`` reaches the attention; in evaluation nothing is dropped."""
    encodings = {}
    for dropout in (0.0, 0.5):
        tables = {
            "seq": {"name": "esm2", **SMALL[Kind.SEQ, "esm2"]},
            "struct": {"name": "gearnet", **SMALL[Kind.STRUCT, "gearnet"]},
            "fuse": {"name": "cross", **SMALL[Kind.FUSE, "cross"], "dropout": dropout},
        }
        composed = resolve(REGISTRY, configure(REGISTRY, [tables]))
        encoder, batch = composed.encoder().eval(), example_batch()
        graph = composed.graph()(batch)
        with torch.no_grad():
            assert torch.equal(encoder(batch, graph).residue, encoder(batch, graph).residue)
            encoder.get_submodule("fuser").train()
            encodings[dropout] = [encoder(batch, graph).residue for _ in range(2)]
    assert torch.equal(*encodings[0.0])
    assert not torch.allclose(*encodings[0.5])
