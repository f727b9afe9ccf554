"""Layers of settings: what wins over what, and the one task of a run."""

from __future__ import annotations

import pytest

from esmgn_core.errors import SettingsError
from esmgn_core.host.configure import (
    Tables,
    check_tables,
    configure,
    merge_tables,
    parse_assignments,
)
from esmgn_core.host.registry import Registry, discover
from esmgn_core.settings import RunConfig
from esmgn_core.spec import Kind

from .conftest import Checkpoint, seq_settings


def test_a_run_needs_no_names(registry: Registry) -> None:
    config = configure(registry, [])
    assert {kind: getattr(config, kind).name for kind in config.kinds} == registry.defaults()


def test_later_layers_win(registry: Registry) -> None:
    """Component defaults, preset, recipe, run file, flags."""
    named = {"seq": {"name": "small"}}
    assert seq_settings(registry, {"seq": {"name": "lm"}})["num_layers"] == 6
    assert seq_settings(registry, named)["num_layers"] == 2
    assert seq_settings(registry, named, {"seq": {"num_layers": 3}})["num_layers"] == 3
    assert (
        seq_settings(registry, named, {"seq": {"num_layers": 3}}, {"seq": {"num_layers": 4}})["num_layers"]
        == 4
    )


def test_settings_that_no_layer_names_keep_their_values(registry: Registry) -> None:
    settings = seq_settings(registry, {"seq": {"name": "large"}}, {"seq": {"num_layers": 3}})
    assert settings == {"num_layers": 3, "weights": "random", "checkpoint": None}


def test_another_name_drops_what_lower_layers_set(registry: Registry) -> None:
    settings = seq_settings(registry, {"seq": {"name": "large", "num_layers": 3}}, {"seq": {"name": "small"}})
    assert (settings["num_layers"], settings["weights"]) == (2, "pretrained")


def test_the_same_name_keeps_what_lower_layers_set(registry: Registry) -> None:
    settings = seq_settings(registry, {"seq": {"name": "large", "num_layers": 3}}, {"seq": {"name": "large"}})
    assert settings["num_layers"] == 3


def test_settings_without_a_name_belong_to_the_default(registry: Registry) -> None:
    nameless = {"seq": {"num_layers": 3}}
    assert seq_settings(registry, nameless)["num_layers"] == 3
    assert (
        seq_settings(registry, nameless, {"seq": {"name": registry.defaults()[Kind.SEQ]}})["num_layers"] == 3
    )
    assert seq_settings(registry, nameless, {"seq": {"name": "small"}})["num_layers"] == 2


def test_a_layer_may_name_and_set_at_once(registry: Registry) -> None:
    layer = parse_assignments(["seq.weights=random", "seq.name=small"])
    assert seq_settings(registry, {"seq": {"name": "large"}}, layer)["weights"] == "random"


@pytest.mark.parametrize(
    ("layers", "graph"),
    [
        ([], "relational"),
        ([{"struct": {"name": "vectors"}}], "ball"),
        ([{"struct": {"name": "vectors"}}, {"graph": {"width": 3}}], "ball"),
        ([{"struct": {"name": "vectors"}}, {"graph": {"name": "relational"}}], "relational"),
        ([{"graph": {"name": "relational"}}, {"struct": {"name": "vectors"}}], "relational"),
    ],
)
def test_a_structure_encoder_brings_its_graph_unless_one_is_named(
    registry: Registry, layers: list[Tables], graph: str
) -> None:
    assert configure(registry, layers).graph.name == graph


def test_tables_within_tables_are_merged_key_by_key(registry: Registry) -> None:
    settings = seq_settings(
        registry, {"seq": {"name": "small"}}, parse_assignments(["seq.checkpoint.md5=two"])
    )
    assert settings["checkpoint"] == Checkpoint(url="https://example.org/small.pt", md5="two")


def test_merging_changes_neither_table() -> None:
    below, above = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge_tables(below, above) == {"a": {"b": 1, "c": 2}}
    assert (below, above) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_a_downstream_task_takes_the_place_of_the_pretext_task() -> None:
    config = configure(
        discover(), [{"pretext": {"name": "distance"}}, {"downstream": {"name": "multilabel"}}]
    )
    assert config.pretext is None
    assert config.task.name == "multilabel"
    back = configure(discover(), [{"downstream": {"name": "multilabel"}}, {"pretext": {"name": "distance"}}])
    assert back.downstream is None
    assert back.task.name == "distance"


def test_a_downstream_task_brings_the_dataset_of_its_name() -> None:
    named = {"downstream": {"name": "go_bp"}}
    config = configure(discover(), [named, {"data": {"path": "somewhere"}}])
    assert (config.data.name, config.data.component) == ("go_bp", "go")
    assert config.data.settings == {"branch": "BP", "path": "somewhere"}
    assert configure(discover(), [named, {"data": {"name": "csv"}}]).data.name == "csv"


def test_two_tasks_in_one_layer() -> None:
    layer = {"pretext": {"name": "distance"}, "downstream": {"name": "multilabel"}}
    with pytest.raises(SettingsError) as caught:
        configure(discover(), [layer], ["run.toml"])
    assert str(caught.value) == "[pretext] and [downstream] exclude each other: a run has one task (run.toml)"


def test_settings_of_a_task_that_is_not_there() -> None:
    changes = parse_assignments(["downstream.dropout=0.5"])
    with pytest.raises(SettingsError) as caught:
        configure(discover(), [changes], ["--set"])
    assert str(caught.value) == (
        "settings for a downstream task (--set), but the run names none\n"
        "  name one: --downstream NAME; see: esmgn list downstream"
    )


def test_a_string_is_short_for_a_name() -> None:
    assert check_tables({"seq": "esm2_8m"}, origin="recipe") == {"seq": {"name": "esm2_8m"}}


def test_a_configuration_is_one_table_for_each_kind_and_two_for_the_engine(registry: Registry) -> None:
    assert isinstance(configure(registry, [{"train": {"epochs": 3}}]), RunConfig)
