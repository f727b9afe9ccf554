"""Claims about DimeNet++ and its basis functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from esmgn_core.testing import ExampleGraph, example_batch
from esmgn_pyg.bessel import SphericalBasis, bessel_zeros, legendre, spherical_bessel
from esmgn_pyg.dimenet import angles, find_triplets
from esmgn_pyg.edges import edges_within


def test_triplets_are_all_pairs_of_edges_that_do_not_lead_back() -> None:
    batch = example_batch()
    index, _ = edges_within(batch, ExampleGraph()(batch), 6.0)
    edges = index.T.tolist()
    into: dict[int, list[int]] = {}
    for number, (_, target) in enumerate(edges):
        into.setdefault(target, []).append(number)
    expected = {(kj, ji) for ji, (j, i) in enumerate(edges) for kj in into.get(j, []) if edges[kj][0] != i}
    incoming, outgoing = find_triplets(index, batch.num_residues)
    pairs = list(zip(incoming.tolist(), outgoing.tolist(), strict=True))
    assert len(pairs) == len(set(pairs)) > 500
    assert set(pairs) == expected


def test_angle_is_zero_straight_on_and_a_right_angle_at_a_corner() -> None:
    ca = torch.tensor([[0.0, 0, 0], [3.8, 0, 0], [7.6, 0, 0], [3.8, 5.0, 0]])
    edges = torch.tensor([[0, 1, 1], [1, 2, 3]])
    incoming, outgoing = find_triplets(edges, 4)
    assert outgoing.tolist() == [1, 2]
    assert torch.allclose(angles(ca, edges, incoming, outgoing), torch.tensor([0.0, math.pi / 2]))


def test_zeros_of_bessel_functions_are_the_known_ones() -> None:
    """Abramowitz and Stegun, table 10.6, and n pi for order 0."""
    known = [[3.141593, 6.283185], [4.493409, 7.725252], [5.763459, 9.095011], [6.987932, 10.417119]]
    assert bessel_zeros(4, 2) == pytest.approx(np.array(known), abs=1e-6)


def test_bessel_functions_obey_their_sum_rule() -> None:
    """The sum of (2 l + 1) j_l(x)^2 over all orders is 1."""
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    total = sum((2 * n + 1) * value.square() for n, value in enumerate(spherical_bessel(x, 12)))
    assert torch.allclose(total, torch.ones_like(x), atol=1e-6)


def test_legendre_polynomials_are_orthogonal() -> None:
    x = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    values = legendre(x, 5)
    products = torch.trapezoid(values.unsqueeze(1) * values.unsqueeze(2), x, dim=0)
    expected = torch.diag(2 / (2 * torch.arange(5, dtype=torch.float64) + 1))
    assert torch.allclose(products, expected, atol=1e-6)


@pytest.mark.parametrize("order", range(7))
def test_radial_functions_vanish_at_the_cutoff_and_have_unit_norm(order) -> None:
    """The integral of the squared function over the ball of radius 1 is 1, envelope aside."""
    basis = SphericalBasis(7, 6, cutoff=8.0, envelope_exponent=5)
    x = torch.linspace(0.001, 1, 20_001, dtype=torch.float64).unsqueeze(1)
    radial = spherical_bessel(x * basis.zeros[order], 7)[order] * basis.scale[order]
    assert radial[-1].abs().max() < 1e-10
    norms = torch.trapezoid((radial * x).square(), x, dim=0)
    assert torch.allclose(norms, torch.ones(6, dtype=torch.float64), atol=1e-3)


def test_basis_equals_torch_geometrics() -> None:
    from torch_geometric.nn.models.dimenet import SphericalBasisLayer

    torch.manual_seed(0)
    oracle = SphericalBasisLayer(2, 2, 8.0, 5)
    distance, angle = 3 + 4.5 * torch.rand(20), 3 * torch.rand(50)
    edge = torch.randint(20, (50,))
    basis = SphericalBasis(2, 2, cutoff=8.0, envelope_exponent=5)
    assert torch.allclose(basis(distance, angle, edge), oracle(distance, angle, edge), atol=1e-5)


def test_residues_on_top_of_each_other_do_no_harm(make, encode) -> None:
    """Noise on coordinates may bring CA atoms together: representations stay finite and moderate."""
    module, batch = make("pyg_dimenet", num_spherical=7, num_radial=6), example_batch()
    expected = encode(module, batch).residue.abs().max()
    backbone = batch.backbone.clone()
    backbone[60], backbone[70] = backbone[61], backbone[71] + 1e-6
    found = encode(module, batch.replace(backbone=backbone)).residue.abs().max()
    assert found < 100 * expected


def test_a_residue_without_neighbours_keeps_its_feature(make, encode) -> None:
    module, batch = make("pyg_dimenet"), example_batch()
    graph = ExampleGraph()(batch)
    empty = graph.keep_edges(torch.zeros(graph.num_edges, dtype=torch.bool))
    residue = encode(module, batch, empty).residue
    one, other = (batch.residue_type == number for number in (3, 7))
    assert torch.allclose(residue[one], residue[one][:1])
    assert not torch.allclose(residue[one][0], residue[other][0], atol=1e-3)
