"""Warnings of what works, but is seldom meant: few proteins for batch norm, tasks an encoder cannot serve."""

from __future__ import annotations

import pytest

from esmgn_core.engine.advice import batch_norm_warning, component_warnings, fewest_proteins
from esmgn_core.engine.schedule import ProteinSchedule
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.settings import TrainTable

from .conftest import Start, small_config


def schedule(num: int, world_size: int = 1, group_size: int = 1, **train: int) -> ProteinSchedule:
    settings = TrainTable(**train)
    return ProteinSchedule(range(num), group_size=group_size, settings=settings, world_size=world_size)


@pytest.mark.parametrize(
    ("made", "together", "fewest"),
    [
        (schedule(64, proteins_per_batch=8), False, 8),
        (schedule(64, proteins_per_batch=2, accumulate=4), False, 2),
        (schedule(13, proteins_per_batch=4), False, 3),  # 4 steps: 4, 3, 3, 3
        (schedule(64, 4, proteins_per_batch=2), True, 8),
        (schedule(64, 4, proteins_per_batch=2), False, 2),
        (schedule(63, 4, proteins_per_batch=2), True, 7),  # the last step is one short
        (schedule(64, 4, 2, proteins_per_batch=2), True, 8),  # pairs of wild type and mutant
    ],
)
def test_proteins_that_are_normalised_together_are_counted(
    made: ProteinSchedule, together: bool, fewest: int
) -> None:
    assert fewest_proteins(made, together=together) == fewest


def test_passes_that_were_cut_for_want_of_memory_count_as_cut() -> None:
    assert fewest_proteins(schedule(64, proteins_per_batch=8), together=False, pieces=4) == 2


def warned(world_size: int, *sets: str) -> list[str]:
    config = small_config("data.num_proteins=40", *sets)
    blueprint = resolve(discover(), config)
    dataset = blueprint.dataset()
    settings = config.train
    made = ProteinSchedule(range(32), group_size=1, settings=settings, world_size=world_size)
    return batch_norm_warning(blueprint.with_random_weights().step(dataset), made, settings)


def test_few_proteins_are_warned_of_with_the_way_out() -> None:
    [text] = warned(1, "train.proteins_per_batch=2", "train.accumulate=4")
    assert text.startswith("batch normalisation sees only 2 proteins at a time, fewer than 4")
    assert text.endswith("use train.proteins_per_batch=8 and train.accumulate=1; this changes the training")
    [text] = warned(2, "train.proteins_per_batch=2", "train.sync_batch_norm=false")
    assert "only 2 proteins at a time in each process" in text
    assert text.endswith("or train.sync_batch_norm=true")
    assert warned(2, "train.proteins_per_batch=2") == []
    assert warned(1, "train.proteins_per_batch=4") == []


def test_a_model_without_batch_norm_is_not_warned_of() -> None:
    assert warned(1, "train.proteins_per_batch=1", "struct.name=gvp", "graph.name=radius") == []


def test_a_run_warns_when_it_starts(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[str] = []
    monkeypatch.setattr("esmgn_core.engine.observers.Observers.notice", lambda _, text: notices.append(text))
    start("train.max_steps=1", "train.proteins_per_batch=2")
    assert any("fewer than 4: its statistics are noise" in text and "\n" not in text for text in notices)


@pytest.mark.parametrize(
    ("task", "texts"),
    [
        (("pretext", "residue_type"), ["the same representation"]),
        (("pretext", "distance"), ["the same representation", "removes edges"]),
        (("pretext", "angle"), ["the same representation", "removes edges"]),
        (("pretext", "dihedral"), ["the same representation", "removes edges"]),
        (("pretext", "siamdiff"), ["the same representation"]),
        (("pretext", "multiview_contrast"), []),
        (("pretext", "multiview_contrast+distance"), ["the same representation", "removes edges"]),
        (("downstream", "msp"), ["the same representation"]),
        (("downstream", "ec"), []),
    ],
)
def test_cdconv_is_warned_of_for_tasks_on_residues_and_edges(task: tuple[str, str], texts: list[str]) -> None:
    kind, name = task
    tables = {"struct": {"name": "cdconv"}, kind: {"name": name}}
    found = component_warnings(resolve(discover(), configure(discover(), [tables, parse_assignments([])])))
    assert len(found) == len(texts)
    assert all(text in warning for text, warning in zip(texts, found, strict=True))
    tables["struct"] = {"name": "gearnet"}
    assert component_warnings(resolve(discover(), configure(discover(), [tables]))) == []
