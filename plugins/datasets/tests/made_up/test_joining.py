import numpy as np

from esmgn_datasets.made_up.backbone import backbone_atoms, chain_frames
from esmgn_datasets.made_up.contacts import too_close
from esmgn_datasets.made_up.elements import Slot, place_elements
from esmgn_datasets.made_up.folds import FOLDS
from esmgn_datasets.made_up.joining import join_elements
from esmgn_datasets.made_up.library import loop_libraries


def joined(name, length):
    rng = np.random.default_rng(0)
    while True:
        elements = place_elements(FOLDS[name].design(length, rng), rng)
        joins = join_elements(elements, loop_libraries(), rng)
        if joins is not None:
            return elements, joins


def placed(elements, gap, join):
    frames = elements[gap].frames[join.leave] @ chain_frames(join.torsions)
    return frames, backbone_atoms(frames, join.torsions[:, 1])


def test_loops_lead_from_one_element_exactly_to_the_next():
    elements, joins = joined("ferredoxin", 90)
    assert len(joins) == len(elements) - 1
    for gap, join in enumerate(joins):
        frames, _ = placed(elements, gap, join)
        target = elements[gap + 1].frames[join.enter]
        np.testing.assert_allclose(frames[-1, :3, 3], target[:3, 3], atol=0.02)
        np.testing.assert_allclose(frames[-1, :3, :3], target[:3, :3], atol=0.01)


def test_loops_touch_neither_each_other_nor_other_elements():
    elements, joins = joined("alpha_beta", 150)
    loops = [placed(elements, gap, join)[1][1:-1] for gap, join in enumerate(joins)]
    for gap, loop in enumerate(loops):
        for other in loops[gap + 1 :]:
            assert not too_close(loop, other).any()
        for number, element in enumerate(elements):
            if number not in (gap, gap + 1):
                assert not too_close(loop, element.atoms).any()


def test_elements_too_far_apart_are_not_joined():
    slots = [Slot("H", 12, up=True, x=0.0, z=0.0, turn=0.0), Slot("H", 12, up=False, x=60.0, z=0.0, turn=0.0)]
    rng = np.random.default_rng(0)
    assert join_elements(place_elements(slots, rng), loop_libraries(), rng) is None
