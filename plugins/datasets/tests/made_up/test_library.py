import numpy as np
import pytest

from esmgn_datasets.made_up.library import loop_libraries
from esmgn_datasets.made_up.loops import LONGEST_LOOP, SHORTEST_LOOP, self_clashes


@pytest.mark.parametrize("kind", ["H", "E"])
def test_the_loops_that_end_nearest_are_found(kind):
    library = loop_libraries()[kind]
    many = library.nearest(np.eye(4), 300)
    target = many.ends()[17]
    apart = np.linalg.norm((library.nearest(target, 5).ends() - target)[:, :3, 3], axis=-1)
    assert apart.min() < 1e-6
    assert apart.max() < np.median(np.linalg.norm((many.ends() - target)[:, :3, 3], axis=-1))


@pytest.mark.parametrize("kind", ["H", "E"])
def test_loops_of_every_length_are_in_store_and_none_touches_itself(kind):
    loops = loop_libraries()[kind].nearest(np.eye(4), 300)
    assert set(loops.length) == set(range(SHORTEST_LOOP, LONGEST_LOOP + 1))
    assert not self_clashes(loops, loops.atoms(np.eye(4))).any()
