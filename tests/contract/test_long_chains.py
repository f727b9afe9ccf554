"""Long chains and complexes of many chains pass through every structure encoder and every fusion."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.spec import Kind

from .test_components import fits

REGISTRY = discover()
ENCODERS = [spec.name for spec, _ in REGISTRY.components(Kind.STRUCT)]
FUSIONS = [spec.name for spec, _ in REGISTRY.components(Kind.FUSE) if len(spec.encoders) == 2]
SMALL: dict[str, dict[str, Any]] = {
    "identity": {},
    "cdconv": {"hidden_dims": [16, 16], "radii": [8.0, 12.0], "kernel_dim": 4},
    "pyg_dimenet": {
        "hidden_dim": 8,
        "num_layers": 1,
        "triplet_dim": 4,
        "output_hidden_dim": 8,
        "num_spherical": 2,
    },
    "gvp": {"num_layers": 1, "scalar_dim": 8, "vector_dim": 2, "edge_scalar_dim": 4, "max_edges_kept": 5000},
}
LENGTH, COMPLEX = 1100, 120


@functools.cache
def batch() -> ProteinBatch:
    """A chain of 1,100 residues, more than the original's 1,022, and a complex of 40 chains of 3."""
    return ProteinBatch.from_proteins([globule(LENGTH, num_chains=1), globule(COMPLEX, num_chains=40)])


@functools.cache
def blueprint(struct: str, fuse: str) -> Blueprint:
    """A composition of a small encoder with a fusion."""
    tables = {
        "seq": {"name": "esm2_tiny"},
        "struct": {"name": struct, **SMALL.get(struct, {"hidden_dim": 8, "num_layers": 1})},
        "fuse": {"name": fuse, **({"cross_dim": 16} if fuse == "cross" else {})},
    }
    return resolve(REGISTRY, configure(REGISTRY, [tables]))


@functools.cache
def graph(struct: str) -> ResidueGraph:
    """The graph that the encoder reads."""
    return blueprint(struct, "serial").graph()(batch())


def globule(length: int, *, num_chains: int) -> Protein:
    """Strands of 20 residues side by side, in layers; cut into chains."""
    number = torch.arange(length)
    strand, along = number // 20, number % 20
    along = torch.where(strand % 2 == 0, along, 19 - along)
    ca = torch.stack(
        [3.4 * along + 0.3 * (number % 3), 5.0 * (strand % 8), 9.0 * (strand // 8)], dim=1
    ).float()
    backbone = torch.full((length, 4, 3), torch.nan)
    backbone[:, CA] = ca
    return Protein(
        "globule",
        number % 20,
        backbone,
        ~backbone.isnan().any(-1),
        number,
        number * num_chains // length,
        chains=tuple(str(chain) for chain in range(num_chains)),
    )


@pytest.mark.parametrize(
    ("struct", "fuse"),
    [(struct, fuse) for fuse in FUSIONS for struct in ENCODERS if fits("esm2", struct, fuse)],
)
@torch.no_grad()
def test_every_residue_is_encoded(struct: str, fuse: str) -> None:
    """One row for each residue, none cut off, by every encoder under every fusion.

    ``benchmarks/long_chains.py`` takes longer ones at default sizes.
    """
    encoder = blueprint(struct, fuse).encoder().eval()
    encoding = encoder(batch(), graph(struct))
    assert encoding.residue.shape == (LENGTH + COMPLEX, encoder.output_dim)
    assert encoding.protein.shape == (2, encoder.output_dim)
    assert bool(encoding.residue.isfinite().all())


@pytest.mark.parametrize(
    ("struct", "fuse"),
    [*((name, "serial") for name in ENCODERS), ("gearnet", "parallel"), ("gearnet", "cross")],
)
def test_the_last_residue_is_learned_from(struct: str, fuse: str) -> None:
    """Its gradient reaches the sequence encoder."""
    encoder = blueprint(struct, fuse).encoder().train()
    encoder(batch(), graph(struct)).residue[LENGTH - 1].square().sum().backward()
    moved = [p.grad for p in encoder.get_submodule("sequence").parameters() if p.grad is not None]
    assert any(bool(gradient.any()) for gradient in moved)
