"""Which edges are drawn, and which are taken away."""

from __future__ import annotations

import itertools

import pytest

from esmgn_pretext.angle import Angle
from esmgn_pretext.dihedral import Dihedral
from esmgn_pretext.distance import Distance

TASKS = [Distance, Angle, Dihedral]


def asked_pairs(view) -> set[frozenset[int]]:
    """Pairs of residues that were joined by a drawn edge."""
    residues = view.targets.get("pair", view.targets.get("residues"))
    # Walking order: i - j, then j - k for angles; i - j, j - t, t - k for dihedral angles.
    order = {2: (0, 1), 3: (0, 1, 2), 4: (0, 1, 3, 2)}[len(residues)]
    walk = residues[list(order)].T.tolist()
    return {frozenset(step) for nodes in walk for step in itertools.pairwise(nodes)}


def left_pairs(view) -> set[frozenset[int]]:
    return {frozenset(edge) for edge in view.graph.edge_index.T.tolist()}


@pytest.mark.parametrize("task_class", TASKS)
def test_hidden_pairs_leave_no_edge_behind_and_ask_for_no_self_loop(task_class, batch, build_graph, draws):
    task = task_class(task_class.Settings(hide_pairs=True, num_samples=20), encoder_dim=4)
    (view,) = task.views(batch, build_graph, draws)
    asked = asked_pairs(view)
    assert asked
    assert all(len(pair) == 2 for pair in asked)
    assert not asked & left_pairs(view)
    whole = {frozenset(edge) for edge in build_graph(view.batch).edge_index.T.tolist()}
    assert left_pairs(view) == whole - asked


@pytest.mark.parametrize("task_class", TASKS)
def test_by_default_the_reverse_edge_stays_as_in_the_original(task_class, batch, build_graph, draws):
    task = task_class(task_class.Settings(num_samples=20), encoder_dim=4)
    (view,) = task.views(batch, build_graph, draws)
    assert asked_pairs(view) & left_pairs(view)
    assert any(len(pair) == 1 for pair in asked_pairs(view))
    num_drawn = 20 * {2: 1, 3: 2, 4: 3}[len(next(iter(view.targets.values())))]
    removed = build_graph(view.batch).num_edges - view.graph.num_edges
    assert 0 < removed <= num_drawn * len(batch)
