"""From names, files and flags to the configuration of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import Field

from esmgn_core.configure import (
    DEFAULTS,
    Tables,
    check_tables,
    component_settings,
    configure,
    data_tables,
    merged,
    parse_assignments,
    read_run_file,
)
from esmgn_core.errors import EsmgnError, PluginError, SettingsError, UnknownComponentError
from esmgn_core.registry import Registry, discover
from esmgn_core.settings import ComponentSettings, ComponentTable, RunConfig
from esmgn_core.spec import Kind

from ..conftest import PluginHost


class Checkpoint(ComponentSettings):
    url: str
    md5: str | None = None


class Encoder:
    class Settings(ComponentSettings):
        num_layers: int = Field(6, ge=1)
        weights: str = "pretrained"
        checkpoint: Checkpoint | None = None


class Plain:
    class Settings(ComponentSettings):
        width: int = 8
        path: tuple[Path, ...] = ()


class WithoutSettings:
    pass


class NamesItself:
    class Settings(ComponentSettings):
        name: str = "x"


PRESETS = """
schema = 1
[seq.esm2_650m]
component = "lm"
summary = "The default"
[seq.small]
component = "lm"
summary = "Small"
settings = { num_layers = 2 }
checkpoint = { url = "https://example.org/small.pt", md5 = "1" }
[seq.large]
component = "lm"
summary = "Large"
settings = { num_layers = 12, weights = "random" }
[seq.wrong]
component = "lm"
summary = "Wrong"
settings = { layers = 12 }
"""


@pytest.fixture
def registry(bare_host: PluginHost) -> Registry:
    """Components under the names of the defaults, ``lm`` with presets, and some broken ones."""
    specs = [bare_host.component(kind, name, Plain) for kind, name in DEFAULTS.items() if kind != Kind.SEQ]
    specs += [bare_host.component(Kind.SEQ, "lm", Encoder), bare_host.component(Kind.DATA, "folder", Plain)]
    specs += [bare_host.component(Kind.FUSE, "bare", WithoutSettings)]
    specs += [bare_host.component(Kind.FUSE, "taken", NamesItself)]
    specs += [
        replace(bare_host.component(Kind.STRUCT, "vectors", Plain), graph="ball"),
        bare_host.component(Kind.GRAPH, "ball", Plain),
    ]
    module = bare_host.install("test", *specs)
    Path(str(module.__file__)).with_name("registry.toml").write_text(PRESETS)
    return discover()


def seq_settings(registry: Registry, *layers: Tables) -> dict[str, Any]:
    """Settings of the sequence encoder that a run ends up with."""
    return dict(component_settings(registry, Kind.SEQ, configure(registry, layers))[2])


def resolved(registry: Registry, *layers: Tables) -> Tables:
    """The tables of the run file that a run leaves behind."""
    config = configure(registry, layers)
    tables = config.model_dump(mode="json", exclude_none=True)
    for kind in config.kinds:
        spec, _, settings = component_settings(registry, kind, config)
        name = getattr(config, kind).name
        table = ComponentTable(
            name=name, component=spec.name, **settings.model_dump(mode="json", exclude_none=True)
        )
        tables[kind] = table.model_dump(exclude_none=True)
    return {str(name): table for name, table in tables.items()}


def message(error: pytest.ExceptionInfo[EsmgnError]) -> str:
    return str(error.value)


# Run files


def test_a_run_file_is_tables(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('seq = "esm2_8m"\n[struct]\nname = "gearnet"\nnum_layers = 4\n[train]\nepochs = 3\n')
    assert read_run_file(file) == {
        "seq": {"name": "esm2_8m"},
        "struct": {"name": "gearnet", "num_layers": 4},
        "train": {"epochs": 3},
    }


def test_a_missing_run_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_run_file(tmp_path / "run.toml")
    assert message(caught) == f"run file not found: {tmp_path / 'run.toml'}\n  see: esmgn run --help"


def test_a_run_folder_in_place_of_its_run_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_run_file(tmp_path)
    assert message(caught) == (
        f"{tmp_path} is a folder, expected a run file\n"
        f"  repeat a run: esmgn run {tmp_path}/config.toml\n"
        f"  go on with it: esmgn run --resume {tmp_path}"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            b"[train\nepochs = 3",
            "cannot read run file FILE: Expected ']' at the end of a table declaration (at line 1",
        ),
        (b"\xff", "cannot read run file FILE: 'utf-8' codec can't decode"),
        (
            b"[structt]",
            "unknown table [structt] (FILE)\n  did you mean: struct?\n  tables: seq, struct, fuse,",
        ),
        (b"epochs = 3", "unknown table [epochs] (FILE)\n  tables: seq, struct,"),
        (b"train = 3", "[train] must be a table, got 3 (FILE)"),
        (b"train = 'long'", '[train] must be a table, got "long" (FILE)'),
        (b"[seq]\nname = 3", "seq.name must be text, got 3 (FILE)"),
        (
            b"[seq]\ncomponent = 'esm2'",
            'seq.component without seq.name (FILE)\n  choose by name: seq.name = "esm2"',
        ),
    ],
)
def test_a_wrong_run_file_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_run_file(file)
    assert message(caught).replace(str(file), "FILE").startswith(text)


# Flags


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("train.epochs=5", {"train": {"epochs": 5}}),
        ("optim.lr=1e-3", {"optim": {"lr": 0.001}}),
        ("seq.weights=random", {"seq": {"weights": "random"}}),
        ("seq.weights=./a b=c.pt", {"seq": {"weights": "./a b=c.pt"}}),
        ('seq.weights="true"', {"seq": {"weights": "true"}}),
        ("struct.concat=true", {"struct": {"concat": True}}),
        ("data.date=2024-01-01", {"data": {"date": "2024-01-01"}}),
        ('data.path=["a", "b"]', {"data": {"path": ["a", "b"]}}),
        ("optim.betas=[0.9,0.98]", {"optim": {"betas": [0.9, 0.98]}}),
        ("seq.checkpoint.url=x", {"seq": {"checkpoint": {"url": "x"}}}),
        ("train.device=cuda:1", {"train": {"device": "cuda:1"}}),
        ("seq.weights=", {"seq": {"weights": ""}}),
        (" train.epochs = 5 ", {"train": {"epochs": 5}}),
    ],
)
def test_an_assignment_is_toml_or_plain_text(text: str, tables: Tables) -> None:
    assert parse_assignments([text]) == tables


def test_assignments_add_up_and_the_last_wins() -> None:
    texts = ["train.epochs=5", "seq.a.b=1", "train.seed=2", "seq.a.c=2", "train.epochs=6"]
    assert parse_assignments(texts) == {"train": {"epochs": 6, "seed": 2}, "seq": {"a": {"b": 1, "c": 2}}}


@pytest.mark.parametrize("texts", [["seq.a=1", "seq.a.b=2"], ["seq.a.b=2", "seq.a=1"]])
def test_a_value_and_a_table_under_one_name_are_no_crash(texts: list[str]) -> None:
    assert parse_assignments(texts)["seq"] == parse_assignments(texts[-1:])["seq"]


@pytest.mark.parametrize("text", ["epochs=5", "train.epochs", "=5", "train.=5", ".epochs=5", ""])
def test_an_assignment_of_another_form(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_assignments([text])
    assert message(caught) == (
        f"cannot read --set '{text}'\n  expected TABLE.KEY=VALUE, such as train.epochs=5"
    )


def test_text_in_a_list_needs_quotes() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_assignments(["data.path=[a, b]"])
    first, hint = message(caught).splitlines()
    assert first.startswith("cannot read --set 'data.path=[a, b]': Invalid value")
    assert hint == """  quote text inside lists, and the whole for the shell: --set 'data.path=["a", "b"]'"""


def test_an_assignment_to_an_unknown_table() -> None:
    with pytest.raises(SettingsError, match=r"unknown table \[trian\] \(--set\)\n  did you mean: train\?"):
        parse_assignments(["trian.epochs=5"])


def test_data_is_a_dataset_before_it_is_a_path(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sample").mkdir()
    monkeypatch.chdir(tmp_path)
    assert data_tables(registry, "sample") == {"data": {"name": "sample"}}
    assert data_tables(registry, "./sample") == {
        "data": {"name": "folder", "path": [str(tmp_path / "sample")]}
    }


def test_data_that_is_neither_a_dataset_nor_a_path(registry: Registry) -> None:
    with pytest.raises(SettingsError) as caught:
        data_tables(registry, "sampel")
    assert message(caught) == (
        "no such dataset or path: 'sampel' (--data)\n"
        "  did you mean: sample?\n"
        f"  available: {', '.join(registry.names(Kind.DATA))}, or a store, a folder or a file of structures\n"
        "  see: esmgn list data"
    )


# Layers


def test_a_run_needs_no_names(registry: Registry) -> None:
    config = configure(registry, [])
    assert {kind: getattr(config, kind).name for kind in config.kinds} == dict(DEFAULTS)


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
    assert seq_settings(registry, nameless, {"seq": {"name": DEFAULTS[Kind.SEQ]}})["num_layers"] == 3
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
    assert merged(below, above) == {"a": {"b": 1, "c": 2}}
    assert (below, above) == ({"a": {"b": 1}}, {"a": {"c": 2}})


# The run file of a run


FIRST: Tables = {
    "seq": {"name": "small", "weights": "random"},
    "data": {"name": "folder", "path": ["/x"]},
    "optim": {"lr": 0.1},
}


def test_the_run_file_of_a_run_repeats_it(registry: Registry, tmp_path: Path) -> None:
    tables = resolved(registry, FIRST)
    file = tmp_path / "config.toml"
    file.write_text(tomli_w.dumps(tables))
    assert read_run_file(file) == tables
    assert resolved(registry, read_run_file(file)) == tables


def test_the_run_file_of_a_run_needs_no_preset(registry: Registry) -> None:
    """It repeats the run after the preset was changed or is gone."""
    tables = resolved(registry, FIRST)
    tables["seq"]["name"] = "gone"
    settings = seq_settings(registry, tables)
    assert (settings["num_layers"], settings["weights"]) == (2, "random")


def test_a_flag_switches_the_encoder_of_a_run_file_wholly(registry: Registry) -> None:
    settings = seq_settings(registry, resolved(registry, FIRST), {"seq": {"name": "large"}})
    assert settings == seq_settings(registry, {"seq": {"name": "large"}})
    assert settings["checkpoint"] is None


def test_the_run_file_of_a_run_lies_over_a_recipe_wholly(registry: Registry) -> None:
    recipe = {"seq": {"name": "large", "checkpoint": {"url": "https://example.org/other.pt"}}}
    tables = resolved(registry, {"seq": {"name": "large"}})
    assert seq_settings(registry, recipe, tables)["checkpoint"] is None


def test_single_settings_can_be_changed_over_the_run_file_of_a_run(registry: Registry) -> None:
    changed = seq_settings(registry, resolved(registry, FIRST), {"seq": {"num_layers": 9}})
    assert changed == {**seq_settings(registry, FIRST), "num_layers": 9}


# Wrong names and settings


def wrong(registry: Registry, layers: dict[str, Tables], kind: Kind = Kind.SEQ) -> str:
    """Message about layers that come from files and flags."""
    with pytest.raises(EsmgnError) as caught:
        component_settings(registry, kind, configure(registry, list(layers.values()), list(layers)))
    return message(caught)


def test_an_unknown_name_is_told_where_it_was_written(registry: Registry) -> None:
    text = wrong(registry, {"run.toml": {"seq": {"name": "smal"}}, "--set": {"seq": {"num_layers": 3}}})
    assert text.startswith(
        "unknown sequence encoder 'smal' (run.toml)\n  did you mean: small?\n  available: "
    )


def test_an_unknown_name_without_a_file_is_that_of_the_flag(registry: Registry) -> None:
    with pytest.raises(UnknownComponentError, match=r"^unknown fuser 'serail' \(--fuse\)"):
        configure(registry, [{"fuse": {"name": "serail"}}])


def test_a_run_file_whose_plugin_is_gone(registry: Registry) -> None:
    text = wrong(registry, {"config.toml": {"seq": {"name": "small", "component": "lmm"}}})
    assert text.startswith("unknown sequence encoder 'lmm' (config.toml)")


def test_wrong_settings_are_told_where_they_were_written(registry: Registry) -> None:
    text = wrong(
        registry, {"run.toml": {"seq": {"name": "lm", "num_layer": 3}}, "--seq": {"seq": {"name": "lm"}}}
    )
    assert text == (
        "invalid settings for seq 'lm' (run.toml)\n"
        "  num_layer  unknown setting, did you mean: num_layers?\n"
        "  see: esmgn show lm"
    )


def test_all_files_and_flags_that_set_something_are_told(registry: Registry) -> None:
    layers: dict[str, Tables] = {
        "recipe 'x'": {"seq": {"name": "lm", "weights": "w"}},
        "--set": {"seq": {"num_layers": 0}},
    }
    assert wrong(registry, layers).startswith("invalid settings for seq 'lm' (recipe 'x', --set)\n")


def test_a_wrong_preset_is_told_with_its_file(registry: Registry, bare_host: PluginHost) -> None:
    file = bare_host.folder / "installed_test" / "registry.toml"
    assert wrong(registry, {"--seq": {"seq": {"name": "wrong"}}}) == (
        f"invalid settings for seq 'wrong' (preset in {file})\n"
        "  layers  unknown setting, did you mean: num_layers?\n"
        "  see: esmgn show lm"
    )


def test_wrong_engine_settings_are_told_where_they_were_written(registry: Registry) -> None:
    assert wrong(registry, {"run.toml": {"train": {"epoch": 3}}, "--set": {"optim": {"lr": 0.1}}}) == (
        "invalid settings for train (run.toml)\n"
        "  epoch  unknown setting, did you mean: epochs?\n"
        "  see: esmgn show train"
    )


def test_a_component_without_settings_breaks_the_contract(registry: Registry) -> None:
    text = wrong(registry, {"--fuse": {"fuse": {"name": "bare"}}}, Kind.FUSE)
    assert text == "fuser 'bare' (target_fuse_bare:Component) has no nested class Settings(ComponentSettings)"


def test_a_component_must_not_use_the_run_files_own_names(registry: Registry) -> None:
    with pytest.raises(PluginError, match="has a setting 'name'; the run file needs this name itself"):
        component_settings(registry, Kind.FUSE, configure(registry, [{"fuse": {"name": "taken"}}]))


def test_a_string_is_short_for_a_name() -> None:
    assert check_tables({"seq": "esm2_8m"}, origin="recipe") == {"seq": {"name": "esm2_8m"}}


def test_a_configuration_is_one_table_for_each_kind_and_two_for_the_engine(registry: Registry) -> None:
    assert isinstance(configure(registry, [{"train": {"epochs": 3}}]), RunConfig)


# One task


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
    assert str(caught.value) == "a run has one task, not both [pretext] and [downstream] (run.toml)"


def test_settings_of_a_task_that_is_not_there() -> None:
    changes = parse_assignments(["downstream.dropout=0.5"])
    with pytest.raises(SettingsError) as caught:
        configure(discover(), [changes], ["--set"])
    assert str(caught.value) == (
        "settings for a downstream task (--set), but none is named\n"
        "  name one: --downstream NAME; see: esmgn list downstream"
    )
