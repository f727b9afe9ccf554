import numpy as np
import pytest

from esmgn_datasets.made_up.assembly import make_chain
from esmgn_datasets.made_up.backbone import backbone_atoms, chain_frames
from esmgn_datasets.made_up.contacts import clashes
from esmgn_datasets.made_up.library import loop_libraries


@pytest.mark.parametrize("length", [30, 31, 45, 68, 113, 157, 200])
def test_a_chain_has_exactly_the_length_asked_for(length):
    chain = make_chain(length, length, loop_libraries(), np.random.default_rng(length))
    assert len(chain.secondary_structure) == length
    assert chain.torsions.shape == (length, 2)
    assert chain.backbone.shape == (length, 4, 3)
    assert not clashes(chain.backbone).any()


def test_the_backbone_is_the_one_its_torsions_describe():
    chain = make_chain(60, 80, loop_libraries(), np.random.default_rng(2))
    rebuilt = backbone_atoms(chain_frames(chain.torsions), chain.torsions[:, 1])
    expected, actual = (
        np.linalg.norm(atoms[:, None, 1] - atoms[None, :, 1], axis=-1) for atoms in (rebuilt, chain.backbone)
    )
    np.testing.assert_allclose(actual, expected, atol=1e-9)
    np.testing.assert_allclose(chain.backbone[:, 1].mean(axis=0), 0.0, atol=1e-9)


def test_helices_and_strands_keep_their_torsions_up_to_a_few_degrees():
    """All but the ends, which turn into the loops."""
    chain = make_chain(150, 200, loop_libraries(), np.random.default_rng(0))
    phi, psi = np.degrees(chain.torsions).T
    letters = np.array(list(chain.secondary_structure))
    inside = (letters[1:-1] == letters[:-2]) & (letters[1:-1] == letters[2:])
    helix = np.flatnonzero(inside & (letters[1:-1] == "H")) + 1
    assert len(helix) > 30
    assert np.abs(phi[helix] + 62.0).max() <= 3.0
    assert np.abs(psi[helix] + 43.0).max() <= 3.0
