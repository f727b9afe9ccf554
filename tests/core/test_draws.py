"""Random streams belong to proteins."""

from __future__ import annotations

import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.crop import random_crop, random_windows, window_mask
from esmgn_core.draws import SeededDraws, uniform_index

from .test_batch import protein


def test_a_stream_does_not_depend_on_its_neighbours() -> None:
    """Splitting a batch over processes or passes changes no protein's numbers."""
    together = SeededDraws(1, 5, [0, 1, 2])
    apart = [SeededDraws(1, 5, [position]) for position in range(3)]
    counts = torch.tensor([2, 0, 3])
    for draw in ("uniform", "normal", "uniform"):
        whole = getattr(together, draw)(counts)
        parts = [getattr(one, draw)(counts[i : i + 1]) for i, one in enumerate(apart)]
        assert torch.equal(whole, torch.cat(parts))


def test_steps_seeds_and_positions_give_different_numbers() -> None:
    one = torch.tensor([4])
    drawn = {
        tuple(SeededDraws(seed, step, [position]).uniform(one).tolist())
        for seed in (0, 1)
        for step in (0, 1)
        for position in (0, 1)
    }
    assert len(drawn) == 8


def test_shared_numbers_are_those_of_the_step_whatever_the_batch() -> None:
    """Processes and passes that share a step agree on them, without having drawn anything together."""
    one, other = SeededDraws(1, 5, [0, 1, 2]), SeededDraws(1, 5, [7])
    other.uniform(torch.tensor([3]))
    first = one.shared(2)
    assert torch.equal(first, other.shared(2))
    assert not torch.equal(first, one.shared(2))
    assert not torch.equal(first, SeededDraws(1, 6, [0]).shared(2))
    assert not torch.equal(first, SeededDraws(1, 5, [0]).stream("part").shared(2))


def test_integers_are_uniform_below_their_bound() -> None:
    index = uniform_index(SeededDraws(0, 0, [0, 1]), torch.tensor([30_000, 2]), torch.tensor([3, 1]))
    frequency = index[:30_000].bincount(minlength=3) / 30_000
    assert (frequency - 1 / 3).abs().max() < 0.02
    assert index[30_000:].tolist() == [0, 0]


class Recorded:
    """Draws that are always just below one."""

    def uniform(self, counts: torch.Tensor) -> torch.Tensor:
        return torch.full((int(counts.sum()),), 1.0 - 1e-17, dtype=torch.float64)

    normal = uniform


def test_a_number_that_rounds_to_one_stays_in_bounds() -> None:
    assert uniform_index(Recorded(), torch.tensor([2]), torch.tensor([5])).tolist() == [4, 4]


def test_last_window_can_be_drawn_unless_the_original_is_followed() -> None:
    lengths = torch.tensor([10, 4])
    assert random_windows(lengths, 4, Recorded()).tolist() == [6, 0]
    assert random_windows(lengths, 4, Recorded(), skip_last_start=True).tolist() == [5, 0]


def test_window_mask_marks_the_window() -> None:
    batch = ProteinBatch.from_proteins([protein("a", 5), protein("b", 2)])
    mask = window_mask(batch, torch.tensor([2, 0]), 2)
    assert mask.tolist() == [False, False, True, True, False, True, True]


def test_crop_keeps_consecutive_residues_and_short_proteins() -> None:
    batch = ProteinBatch.from_proteins([protein("a", 50), protein("b", 7)])
    cropped = random_crop(batch, 10, SeededDraws(0, 0, [0, 1]))
    assert cropped.lengths.tolist() == [10, 7]
    assert cropped.residue_index[:10].diff().tolist() == [1] * 9


def test_cropping_uses_one_number_of_each_protein_whether_it_crops_or_not() -> None:
    """What is drawn after the crop must not depend on a neighbour's length."""
    long, short = protein("a", 50), protein("b", 7)
    mixed, alone = SeededDraws(0, 0, [0, 1]), SeededDraws(0, 0, [1])
    random_crop(ProteinBatch.from_proteins([long, short]), 10, mixed)
    random_crop(ProteinBatch.from_proteins([short]), 10, alone)
    one = torch.tensor([1])
    assert mixed.uniform(torch.tensor([0, 1])).item() == alone.uniform(one).item()
