"""Long chains and complexes of many chains pass through every structure encoder and every fusion."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_core.compose import draw_up
from esmgn_core.configure import configure
from esmgn_core.registry import discover
from esmgn_core.spec import Kind

REGISTRY = discover()
ENCODERS = [spec.name for spec, _ in REGISTRY.components(Kind.STRUCT)]
FUSIONS = [spec.name for spec, _ in REGISTRY.components(Kind.FUSE)]
SMALL: dict[str, dict[str, Any]] = {
    "cdconv": {"hidden_dims": [16, 16], "radii": [8.0, 12.0], "kernel_dim": 4},
    "gvp": {"num_layers": 1, "scalar_dim": 8, "vector_dim": 2, "edge_scalar_dim": 4, "max_edges_kept": 5000},
}
LENGTH = 1100


@functools.cache
def batch() -> ProteinBatch:
    """A chain of 1,100 residues, more than the original's 1,022, and a complex of 40 chains of 5."""
    return ProteinBatch.from_proteins([globule(LENGTH, num_chains=1), globule(200, num_chains=40)])


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
    ("struct", "fuse"), [*((name, "serial") for name in ENCODERS), *(("gearnet", name) for name in FUSIONS)]
)
def test_every_residue_is_encoded(struct: str, fuse: str) -> None:
    """One row for each residue, none cut off, and a gradient from the last one.

    ``benchmarks/long_chains.py`` takes every encoder with every fusion.
    """
    tables = {
        "seq": {"name": "esm2_tiny"},
        "struct": {"name": struct, **SMALL.get(struct, {"hidden_dim": 8, "num_layers": 1})},
        "fuse": {"name": fuse, **({"cross_dim": 16} if fuse == "cross" else {})},
    }
    blueprint = draw_up(REGISTRY, configure(REGISTRY, [tables]))
    encoder, proteins = blueprint.encoder().train(), batch()
    encoding = encoder(proteins, blueprint.graph()(proteins))
    assert encoding.residue.shape == (LENGTH + 200, encoder.output_dim)
    assert encoding.protein.shape == (2, encoder.output_dim)
    assert bool(encoding.residue.isfinite().all())
    encoding.residue[LENGTH - 1].square().sum().backward()
    moved = [p.grad for p in encoder.get_submodule("sequence").parameters() if p.grad is not None]
    assert any(bool(gradient.any()) for gradient in moved)
