import numpy as np
import pytest

from esmgn_datasets.made_up.backbone import Frames, chain_frames
from esmgn_datasets.made_up.library import loop_libraries
from esmgn_datasets.made_up.loops import LONGEST_LOOP, SHORTEST_LOOP, loop_atoms, self_clashes

NOWHERE = Frames(np.eye(3), np.zeros(3))


def ends(loops):
    return chain_frames(loops.phi, loops.psi).at(np.arange(len(loops)), loops.length + 1)


@pytest.mark.parametrize("kind", ["H", "E"])
def test_the_loops_that_end_nearest_are_found(kind):
    library = loop_libraries()[kind]
    many = library.nearest(NOWHERE, 300)
    target = ends(many).at(17)
    apart = np.linalg.norm(ends(library.nearest(target, 5)).origin - target.origin, axis=-1)
    assert apart.min() < 1e-6
    assert apart.max() < np.median(np.linalg.norm(ends(many).origin - target.origin, axis=-1))


@pytest.mark.parametrize("kind", ["H", "E"])
def test_loops_of_every_length_are_in_store_and_none_touches_itself(kind):
    loops = loop_libraries()[kind].nearest(NOWHERE, 300)
    assert set(loops.length) == set(range(SHORTEST_LOOP, LONGEST_LOOP + 1))
    origin = Frames(np.tile(np.eye(3), (300, 1, 1)), np.zeros((300, 3)))
    assert not self_clashes(loops, loop_atoms(loops, origin)).any()
