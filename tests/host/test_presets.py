"""The layers of ``registry.toml``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from esmgn_core.errors import SettingsError
from esmgn_core.host.configure import check_tables, component_settings, configure
from esmgn_core.host.presets import (
    Catalogue,
    read_registry,
    read_user_registry,
    shipped_registry,
    user_registry,
)
from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind

pytestmark = pytest.mark.usefixtures("clean_environment")

WIDE = """
schema = 1
[struct.wide]
component = "gearnet"
summary = "A wide GearNet"
settings = { hidden_dim = 1024 }
[seq.mine]
component = "esm2"
summary = "My own weights"
checkpoint = { url = "https://example.org/mine.pt" }
[recipe.quick]
summary = "Two epochs"
run = { struct = "wide", train = { epochs = 2 } }
"""


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def error_of(path: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read_registry(written(path, text))
    return str(caught.value).replace(str(path), "FILE")


def test_a_layer_holds_presets_and_recipes(tmp_path: Path) -> None:
    file = written(tmp_path / "registry.toml", WIDE)
    layer = read_registry(file)
    preset = layer.presets[Kind.STRUCT, "wide"]
    assert (preset.component, preset.summary, preset.settings) == (
        "gearnet",
        "A wide GearNet",
        {"hidden_dim": 1024},
    )
    assert preset.origin == str(file)
    assert layer.recipes["quick"].run == {"struct": "wide", "train": {"epochs": 2}}


def test_a_checkpoint_becomes_the_setting_of_that_name(tmp_path: Path) -> None:
    layer = read_registry(written(tmp_path / "registry.toml", WIDE))
    assert layer.presets[Kind.SEQ, "mine"].settings == {"checkpoint": {"url": "https://example.org/mine.pt"}}


LAYOUT = """
schema = 1
[layout.mine]
summary = "s"
parts = { struct = "net." }
run.struct = ["gearnet", "gearnet_edge"]
"""


def test_a_layout_has_prefixes_and_the_tables_of_a_run(tmp_path: Path) -> None:
    layout = read_registry(written(tmp_path / "registry.toml", LAYOUT)).layouts["mine"]
    assert (layout.parts, layout.run) == ({Kind.STRUCT: "net."}, {"struct": ["gearnet", "gearnet_edge"]})
    assert (layout.optional, layout.constants) == ((), {})


def test_defaults_are_replaced_one_by_one(tmp_path: Path) -> None:
    lower = read_registry(written(tmp_path / "lower.toml", 'schema = 1\n[default]\nseq = "a"\nfuse = "b"'))
    upper = read_registry(written(tmp_path / "upper.toml", 'schema = 1\n[default]\nseq = "c"'))
    assert lower.under(upper).defaults == {"seq": "c", "fuse": "b"}
    text = error_of(tmp_path / "registry.toml", 'schema = 1\n[default]\nsequence = "a"')
    assert text.startswith("registry FILE: unknown key 'sequence' in [default]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            LAYOUT.replace("struct =", "strut ="),
            "unknown key 'strut' in [layout.mine.parts]\n  did you mean: struct?",
        ),
        (
            LAYOUT.replace("run.struct", "run.seq"),
            "[layout.mine] needs parts, and a table in run for each part",
        ),
        (LAYOUT.replace('"net."', "1"), '[layout.mine.parts] needs struct = "..."'),
        (LAYOUT + "optional = 'head'", "[layout.mine] optional must be a list of texts"),
        (LAYOUT + "constants = 'head'", "[layout.mine.constants] must be a table, got"),
    ],
)
def test_a_wrong_layout_is_named(tmp_path: Path, text: str, message: str) -> None:
    assert message in error_of(tmp_path / "registry.toml", text)


def test_an_upper_layer_replaces_whole_entries(tmp_path: Path) -> None:
    lower = read_registry(written(tmp_path / "lower.toml", WIDE))
    text = 'schema = 1\n[struct.wide]\ncomponent = "egnn"\nsummary = "Another"\n'
    upper = read_registry(written(tmp_path / "upper.toml", text))
    both = lower.under(upper)
    assert both.presets[Kind.STRUCT, "wide"].component == "egnn"
    assert both.presets[Kind.STRUCT, "wide"].settings == {}
    assert {name for _, name in both.presets} == {"wide", "mine"}
    assert both.recipes == lower.recipes


def test_the_users_registry_lies_in_the_configuration_folder(tmp_path: Path) -> None:
    assert user_registry() == tmp_path / "config" / "esmgn" / "registry.toml"


def test_a_user_needs_no_registry() -> None:
    assert read_user_registry() == Catalogue()


def test_a_variable_names_another_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESMGN_REGISTRY", str(written(tmp_path / "mine.toml", WIDE)))
    assert "quick" in read_user_registry().recipes


def test_a_registry_that_the_variable_names_must_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESMGN_REGISTRY", str(tmp_path / "mine.toml"))
    with pytest.raises(SettingsError) as caught:
        read_user_registry()
    assert str(caught.value) == (
        f"registry file not found: {tmp_path / 'mine.toml'}\n"
        "  the environment variable ESMGN_REGISTRY names it: unset it, or create the file"
    )


def test_the_working_directory_has_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "registry.toml", WIDE)
    monkeypatch.chdir(tmp_path)
    assert "quick" not in discover().catalogue.recipes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema = 1\n[seq", "cannot read registry FILE: Expected ']' at the end of a table declaration"),
        ("[seq.x]", "registry FILE: expected 'schema = 1' at the top"),
        ("schema = 2", "registry FILE: expected 'schema = 1' at the top"),
        (
            "schema = 1\n[sec.x]",
            "registry FILE: unknown section [sec]\n  did you mean: seq?\n  sections: seq,",
        ),
        ("schema = 1\nseq = 3", "registry FILE: [seq] must be a table, got 3"),
        ("schema = 1\n[seq]\nx = 'esm2'", 'registry FILE: [seq.x] must be a table, got "esm2"'),
        ("schema = 1\n[seq.x]\nsummary = 's'", 'registry FILE: [seq.x] needs component = "..."'),
        ("schema = 1\n[seq.x]\ncomponent = 'esm2'", 'registry FILE: [seq.x] needs summary = "..."'),
        (
            "schema = 1\n[seq.x]\ncomponents = 'esm2'",
            "registry FILE: unknown key 'components' in [seq.x]\n  did you mean: component?\n  keys: c",
        ),
        (
            "schema = 1\n[seq.x]\ncomponent = 'esm2'\nsummary = 's'\nsettings = { name = 'y' }",
            "registry FILE: 'name' cannot be a setting ([seq.x.settings])",
        ),
        (
            "schema = 1\n[recipe.x]\nsummary = 's'\nrun = 3",
            "registry FILE: [recipe.x.run] must be a table, got 3",
        ),
        (
            "schema = 1\ndisabled = 'esm2'",
            "registry FILE: 'disabled' must be a list of plugin names, got \"esm2\"",
        ),
    ],
)
def test_a_wrong_registry_is_refused_by_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    assert error_of(tmp_path / "registry.toml", text).startswith(message)


SHIPPED = read_registry(shipped_registry())


@pytest.mark.parametrize(("kind", "name"), SHIPPED.presets, ids="-".join)
def test_every_shipped_preset_has_a_component_and_valid_settings(kind: Kind, name: str) -> None:
    registry = discover()
    config = configure(registry, [{kind: {"name": name}}])
    component_settings(registry, kind, config)


@pytest.mark.parametrize("name", SHIPPED.recipes)
def test_every_shipped_recipe_is_a_valid_run(name: str) -> None:
    registry = discover()
    config = configure(registry, [check_tables(registry.recipe(name).run, origin="recipe")])
    for kind in config.kinds:
        component_settings(registry, kind, config)


PUBLISHED: dict[str, tuple[int, float, dict[str, float]]] = {
    "residue_type": (96, 2e-4, {"crop_length": 100, "head_layers": 2, "mask_rate": 0.15}),
    "distance": (96, 2e-4, {"crop_length": 100, "head_layers": 2, "num_samples": 256}),
    "angle": (96, 2e-4, {"crop_length": 100, "head_layers": 2, "num_samples": 512, "num_bins": 8}),
    "dihedral": (96, 2e-4, {"crop_length": 100, "head_layers": 2, "num_samples": 512, "num_bins": 8}),
    "multiview_contrast": (
        48,
        2e-4,
        {"crop_length": 50, "head_layers": 2, "mask_rate": 0.15, "temperature": 0.07, "group_size": 48},
    ),
    **dict.fromkeys(
        ("siamdiff", "diffpret"),
        (
            16,
            1e-4,
            {
                "crop_length": 150,
                "head_layers": 3,
                "num_noise_levels": 100,
                "sigma_begin": 1e-3,
                "sigma_end": 0.1,
                "structure_weight": 0.5,
                "min_mask_rate": 0.15,
                "max_mask_rate": 1.0,
            },
        ),
    ),
}
"""Proteins of one of four processes, learning rate and settings, from the study's configurations."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_recipe_of_an_objective_has_the_published_hyper_parameters(name: str) -> None:
    registry = discover()
    config = configure(registry, [check_tables(registry.recipe(name).run, origin="recipe")])
    batch, lr, settings = PUBLISHED[name]
    assert (config.seq.name, config.struct.name, config.fuse.name) == ("esm2_650m", "gearnet", "serial")
    assert (config.pretext.name, config.train.proteins_per_batch, config.train.epochs) == (name, batch, 50)
    assert (config.optim.lr, config.optim.seq_lr_scale, config.train.accumulate) == (lr, 0, 1)
    task = component_settings(registry, Kind.PRETEXT, config)[2].model_dump()
    assert {key: task[key] for key in settings} == settings
    struct = component_settings(registry, Kind.STRUCT, config)[2]
    assert (struct.num_layers, struct.hidden_dim) == (6, 512)


def test_the_seed_recipe_trains_the_language_model_at_a_tenth_of_the_rate() -> None:
    registry = discover()
    config = configure(registry, [check_tables(registry.recipe("seed").run, origin="recipe")])
    assert config.train.proteins_per_batch * config.train.accumulate * 4 == 256
    assert (config.optim.lr, config.optim.seq_lr_scale, config.train.epochs) == (2e-4, 0.1, 50)


def test_only_the_plddt_recipe_looks_at_plddt() -> None:
    registry, thresholds = discover(), {}
    for name in SHIPPED.recipes:
        config = configure(registry, [check_tables(registry.recipe(name).run, origin="recipe")])
        if config.pretext is None:
            continue
        thresholds[name] = component_settings(registry, Kind.PRETEXT, config)[2].plddt.threshold
    assert {name: value for name, value in thresholds.items() if value} == {"plddt": 70}


def test_every_shipped_checksum_has_the_length_of_its_kind() -> None:
    checkpoints = [preset.settings.get("checkpoint", {}) for preset in SHIPPED.presets.values()]
    assert any(checkpoints)
    for checkpoint in filter(None, checkpoints):
        assert re.fullmatch("[0-9a-f]{32}", checkpoint.get("md5", "0" * 32))
        assert re.fullmatch("[0-9a-f]{64}", checkpoint.get("sha256", "0" * 64))
