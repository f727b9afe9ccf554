"""Claims about SchNet."""

from __future__ import annotations

import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.testing import example_proteins


def test_edges_beyond_the_cutoff_do_not_matter(make, encode) -> None:
    """All pairs as edges, or those within 10 angstrom alone: the same."""
    batch = ProteinBatch.from_proteins(example_proteins()[:1])
    number = torch.arange(batch.num_residues)
    pairs = torch.cartesian_prod(number, number).T
    length = torch.cdist(batch.ca, batch.ca).flatten()
    assert length.max() > 20
    module = make("pyg_schnet")
    graphs = [ResidueGraph.from_edges(e, torch.zeros_like(e[0]), 4) for e in (pairs, pairs[:, length < 10])]
    one, other = (encode(module, batch, graph).residue for graph in graphs)
    assert torch.equal(one, other)


def test_a_neighbour_fades_out_towards_the_cutoff(make, encode) -> None:
    """No jump where an edge crosses the cutoff: its share of the result is continuous there."""
    pair = ProteinBatch.from_proteins([example_proteins()[3]])
    edges = ResidueGraph(torch.tensor([[1, 0], [0, 1]]), torch.zeros(2, dtype=torch.int64), 4)
    module = make("pyg_schnet")
    direction = pair.ca[1] - pair.ca[0]

    def encoded(distance: float) -> torch.Tensor:
        backbone = pair.backbone.clone()
        backbone[1] += (distance / direction.norm() - 1) * direction
        return encode(module, pair.replace(backbone=backbone), edges).residue

    apart = encoded(10.5)
    jump = (encoded(9.99) - apart).abs().max()
    assert jump < 1e-3 * (encoded(4.0) - apart).abs().max()
