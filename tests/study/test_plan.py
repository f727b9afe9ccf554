"""Study files: cells, their configurations, labels and hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esmgn_core.errors import EsmgnError, SettingsError
from esmgn_core.host.registry import discover
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.study.plan import Cell, Study
from esmgn_core.study.published import differences_from, published
from esmgn_core.study.shipped import shipped_studies

from ..conftest import PluginHost

REGISTRY = discover()
SMALL = {"name": "gearnet", "hidden_dim": 16, "num_layers": 1}


def study(**content: Any) -> Study:
    return Study.of({"run": {"seq": "onehot"}, **content}, origin="a.toml", name="a")


def cells(**content: Any) -> list[Cell]:
    return study(**content).cells(REGISTRY)


def test_every_combination_of_rows_and_axes_is_a_cell() -> None:
    found = cells(
        axes={"seed": [0, 1]},
        rows=[
            {"label": "{fuse}", "struct": SMALL, "fuse": ["serial", "parallel"]},
            {"label": "sequence", "fuse": "sequence"},
        ],
    )
    assert [tuple(cell.labels.values()) for cell in found] == [
        (row, seed) for row in ("serial", "parallel", "sequence") for seed in ("0", "1")
    ]
    assert [cell.config.train.seed for cell in found] == [0, 1] * 3
    assert [cell.config.struct is None for cell in found] == [False] * 4 + [True] * 2


def test_axes_may_be_dotted_names_or_tables() -> None:
    for axes in ({"optim.lr": [0.1, 0.2]}, {"optim": {"lr": [0.1, 0.2]}}):
        assert [cell.config.optim.lr for cell in cells(axes=axes)] == [0.1, 0.2]


def test_a_later_stage_starts_from_the_cells_of_an_earlier_one() -> None:
    found = cells(
        axes={"seed": [0, 1]},
        rows=[{"struct": SMALL}],
        stages=[
            {"name": "pretrain", "axes": {"pretext": ["residue_type", "distance"]}},
            {"name": "tune", "init": ["none", "pretrain"], "run": {"pretext": "angle"}},
        ],
    )
    tuned = [cell for cell in found if cell.stage == "tune"]
    assert [cell.parent and cell.parent.labels["pretext"] for cell in tuned] == [
        None,
        None,
        *["residue_type", "distance"] * 2,
    ]
    assert all(cell.parent.config.train.seed == cell.config.train.seed for cell in tuned if cell.parent)
    assert {cell.config.task.name for cell in tuned} == {"angle"}
    assert tuned[-1].labels["pretext"] == "distance"


def test_the_id_changes_with_what_changes_the_result() -> None:
    def ids(**train: Any) -> list[str]:
        return [cell.id for cell in cells(run={"seq": "onehot", "train": train}, axes={"seed": [0, 1]})]

    assert ids(epochs=2) == ids(epochs=2, trackers=[], workers=3, time_limit=5)
    assert not set(ids(epochs=2)) & set(ids(epochs=3))


def test_a_new_value_adds_cells_and_keeps_the_ids_of_the_others() -> None:
    two, three = ([cell.id for cell in cells(axes={"seed": seeds})] for seeds in ([0, 1], [0, 2, 1]))
    assert set(two) < set(three)


def test_a_setting_of_a_first_stage_changes_the_stages_after_it() -> None:
    def ids(epochs: int) -> dict[str, str]:
        stages = [
            {"name": "pretrain", "run": {"train": {"epochs": epochs}}},
            {"name": "tune", "init": "pretrain", "run": {"train": {"epochs": 1}}},
            {"name": "alone", "run": {"train": {"epochs": 7}}},
        ]
        return {cell.stage: cell.id for cell in cells(stages=stages)}

    first, second = ids(2), ids(3)
    assert first["pretrain"] != second["pretrain"]
    assert first["tune"] != second["tune"]
    assert first["alone"] == second["alone"]


def test_a_row_may_belong_to_some_stages_and_have_another_recipe_there() -> None:
    found = cells(
        rows=[
            {"label": "alone", "fuse": "sequence", "stages": ["a"]},
            {"label": "alone", "fuse": "sequence", "recipe": "psr", "stages": ["b"]},
            {"label": "both", "struct": SMALL},
        ],
        stages=[{"name": "a", "run": {"pretext": "residue_type"}}, {"name": "b", "recipe": "ec"}],
    )
    names = [(cell.stage, cell.labels["row"], cell.config.task.name) for cell in found]
    assert names == [
        ("a", "alone", "residue_type"),
        ("a", "both", "residue_type"),
        ("b", "alone", "psr"),
        ("b", "both", "ec"),
    ]


def test_an_encoder_of_a_plugin_joins_by_one_name(host: PluginHost) -> None:
    def ids(*names: Any) -> set[str]:
        content = {"run": {"seq": "onehot"}, "rows": [{"struct": list(names)}]}
        return {cell.id for cell in Study.of(content, origin="a.toml", name="a").cells(discover())}

    before = ids(SMALL)
    host.install("mine", host.component(Kind.STRUCT, "mine", Mine))
    discover.cache_clear()
    after = ids(SMALL, "mine")
    assert before < after
    assert len(after) == 2


class Mine:
    """A structure encoder of a plugin."""

    Settings = ComponentSettings


def test_recipes_can_be_an_axis() -> None:
    found = cells(stages=[{"name": "a", "axes": {"recipe": ["residue_type", "siamdiff"]}}])
    assert [cell.config.optim.lr for cell in found] == [2e-4, 1e-4]
    assert [cell.labels["recipe"] for cell in found] == ["residue_type", "siamdiff"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"axis": {}}, "a.toml: unknown entry 'axis'\n  did you mean: axes?"),
        ({"axes": {"sed": [0]}}, "unknown key 'sed'"),
        ({"axes": {"seed": 0}}, r"a.toml, \[axes\]: seed must be a list of values, got 0"),
        ({"axes": {"seed": []}}, "seed must be a list of values"),
        ({"axes": {"struct": [3]}}, r"\[struct\] must be a table, got 3"),
        ({"schema": 9}, "schema 9 is unknown, expected 1"),
        ({"rows": [{"label": "{nothing}", "fuse": "serial"}]}, r"label \"\{nothing\}\" has \{nothing\}"),
        ({"rows": [{"fuse": "serial"}, {"fuse": "serial"}]}, "two rows are called 'serial'"),
        ({"rows": "x"}, r"\[\[rows\]\] must be a list of tables"),
        ({"rows": [{"fuse": "serial", "stages": ["rum"]}]}, "row 'serial' has an unknown stage 'rum'"),
        ({"stages": [{"name": "a"}, {"name": "a"}]}, "two stages are called 'a'"),
        ({"stages": [{"name": "a", "init": "b"}]}, "stage 'a' starts from 'b', not an earlier stage"),
        ({"stages": [{"init": "b"}]}, r"\[\[stages\]\] number 1: a stage needs a name"),
        ({"stages": [{"name": "a", "runs": {}}]}, "unknown entry 'runs'"),
    ],
)
def test_mistakes_are_named(content: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        study(**content)


def test_a_mistake_in_a_cell_names_the_cell() -> None:
    with pytest.raises(EsmgnError) as caught:
        cells(axes={"seed": [0]}, rows=[{"label": "small", "struct": {"name": "gearnet", "hiden_dim": 3}}])
    assert "hiden_dim" in str(caught.value)
    assert "in the cell: stage 'run', small, 0" in str(caught.value)


def test_a_file_that_is_not_a_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read study"):
        Study.read(tmp_path / "missing.toml")


@pytest.mark.parametrize("name", shipped_studies())
def test_shipped_studies_are_valid(name: str) -> None:
    found = Study.read(shipped_studies()[name])
    assert found.name == name
    assert found.summary
    assert found.cells(REGISTRY)


@pytest.mark.parametrize(("name", "number"), [("smoke", 78), ("fusion", 76), ("pretraining", 48)])
def test_shipped_studies_have_the_cells_of_their_tables(name: str, number: int) -> None:
    assert len(Study.read(shipped_studies()[name]).cells(REGISTRY)) == number


def test_rows_of_the_fusion_study_are_comparable_with_the_published_ones() -> None:
    for cell in Study.read(shipped_studies()["fusion"]).cells(REGISTRY):
        assert differences_from(cell.config, cell.stage, REGISTRY) == []
        assert published(cell.labels["row"], cell.stage) or cell.labels["row"] == "ESM-CDConv cross"
