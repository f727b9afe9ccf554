import numpy as np
import pytest

from esmgn_datasets.made_up.backbone import backbone_atoms, chain_frames
from esmgn_datasets.made_up.contacts import CLOSEST, clashes, too_close


@pytest.fixture
def chain():
    torsions = np.random.default_rng(3).uniform(-np.pi, np.pi, (2, 60)).T
    return backbone_atoms(chain_frames(torsions), torsions[:, 1])


def test_finds_the_pairs_that_comparing_all_atoms_finds(chain):
    distance = np.linalg.norm(chain[:, None, :, None] - chain[None, :, None], axis=-1)
    expected = (distance < CLOSEST).any(axis=(2, 3))
    np.testing.assert_array_equal(too_close(chain, chain), expected)
    far = np.subtract.outer(np.arange(60), np.arange(60)) <= -2
    assert (expected & far).any()
    np.testing.assert_array_equal(clashes(chain), expected & far)


def test_looks_only_among_the_pairs_asked_for(chain):
    among = np.random.default_rng(0).random((60, 60)) < 0.5
    np.testing.assert_array_equal(too_close(chain, chain, among), too_close(chain, chain) & among)


def test_many_pieces_at_once_are_each_piece_alone(chain):
    pieces = chain.reshape(6, 10, 4, 3)
    others = chain[:25]
    together = too_close(pieces, others)
    np.testing.assert_array_equal(together, np.stack([too_close(piece, others) for piece in pieces]))
    np.testing.assert_array_equal(clashes(pieces), np.stack([clashes(piece) for piece in pieces]))


def test_nothing_touches_nothing(chain):
    assert too_close(chain[:0], chain).shape == (0, 60)
    assert too_close(chain, chain[:0]).shape == (60, 0)


def test_hydrogen_bonded_atoms_may_come_nearer_than_others():
    def touch(first, second, distance):
        one, two = np.full((2, 1, 4, 3), 100.0)
        one[:] += np.arange(4)[:, None] * 10.0
        two[:] -= np.arange(1, 5)[:, None] * 10.0
        one[0, 1], two[0, 1] = (0.0, 0.0, 0.0), (0.0, 6.0, 0.0)
        one[0, first], two[0, second] = (0.0, 2.0, 0.0), (0.0, 2.0 + distance, 0.0)
        return too_close(one, two).item()

    assert not touch(0, 3, 2.7)
    assert touch(0, 3, 2.5)
    assert touch(3, 3, 2.7)
    assert not touch(3, 3, 3.0)
