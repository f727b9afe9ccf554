import numpy as np
import pytest

from esmgn_datasets.made_up.contacts import clashes
from esmgn_datasets.made_up.loops import (
    ENTERING_PHI,
    LEAVING_PSI,
    LONGEST_LOOP,
    REGIONS,
    close_loops,
    draw_loops,
    self_clashes,
)

KINDS = ["H", "E"]


def nearby(loops, rng, angle=0.15):
    """Frames that loops can reach: where their ends lie after turning every torsion a little."""
    torsions = loops.torsions + rng.uniform(-angle, angle, loops.torsions.shape)
    return loops._replace(torsions=torsions).ends()


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_loop_ends_in_its_target(kind):
    rng = np.random.default_rng(0)
    loops = draw_loops(kind, 200, rng)
    target = nearby(loops, rng)
    closed, success = close_loops(loops, target)
    assert success.mean() > 0.5
    reached, wanted = closed.at(success).ends(), target[success]
    np.testing.assert_allclose(reached[:, :3, 3], wanted[:, :3, 3], atol=0.02)
    np.testing.assert_allclose(reached[:, :3, :3], wanted[:, :3, :3], atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_closing_leaves_all_torsions_in_allowed_regions(kind):
    rng = np.random.default_rng(1)
    loops = draw_loops(kind, 200, rng)
    closed, _ = close_loops(loops, nearby(loops, rng, angle=0.5))
    phi, psi = np.degrees(closed.torsions).transpose(2, 1, 0)
    inner = closed.inner.T
    inside = np.zeros(phi.shape, dtype=bool)
    for region in REGIONS:
        low_phi, high_phi, low_psi, high_psi = np.array(region.allowed) + np.array([-1e-6, 1e-6] * 2)
        inside |= (phi >= low_phi) & (phi <= high_phi) & (psi >= low_psi) & (psi <= high_psi)
    assert inside[inner].all()
    assert (psi[0] >= LEAVING_PSI[kind][0] - 1e-6).all()
    assert (psi[0] <= LEAVING_PSI[kind][1] + 1e-6).all()
    entering = phi[LONGEST_LOOP + 1]
    assert ((entering >= ENTERING_PHI[0] - 1e-6) & (entering <= ENTERING_PHI[1] + 1e-6)).all()


def test_a_target_out_of_reach_is_reported_as_not_closed():
    loops = draw_loops("H", 5, np.random.default_rng(0))
    far = np.tile(np.eye(4), (5, 1, 1))
    far[:, :3, 3] = 50.0
    assert not close_loops(loops, far)[1].any()


def test_self_clashes_look_at_the_loop_and_its_two_ends_only():
    loops = draw_loops("E", 300, np.random.default_rng(0))
    atoms = loops.atoms(np.eye(4))
    np.testing.assert_array_equal(self_clashes(loops, atoms), clashes(atoms).any(axis=(1, 2)))
    shorter = loops._replace(length=np.full(300, 4))
    expected = clashes(atoms[:, :6]).any(axis=(1, 2))
    np.testing.assert_array_equal(self_clashes(shorter, atoms), expected)
    assert 0 < expected.sum() < self_clashes(loops, atoms).sum()


@pytest.mark.parametrize("region", REGIONS)
def test_what_is_drawn_is_allowed(region):
    low, high = slice(0, None, 2), slice(1, None, 2)
    assert all(np.array(region.drawn)[low] >= np.array(region.allowed)[low])
    assert all(np.array(region.drawn)[high] <= np.array(region.allowed)[high])
