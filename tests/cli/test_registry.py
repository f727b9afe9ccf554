"""``esmgn registry``: the user's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind

from ..conftest import PluginHost
from .conftest import Esmgn

ADD = ("registry", "add", "struct", "wide", "--component", "gearnet", "--set", "hidden_dim=1024")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "esmgn" / "registry.toml"


def test_a_preset_is_added_shown_used_and_removed(esmgn: Esmgn, file: Path) -> None:
    assert "does not exist" in esmgn("registry", "show").out
    done = esmgn(*ADD, "--default")
    assert (done.status, done.out) == (0, f"written: {file}\nuse it: --struct wide\n")
    discover.cache_clear()
    assert discover().find(Kind.STRUCT, "wide").settings == {"hidden_dim": 1024}
    assert discover().defaults()[Kind.STRUCT] == "wide"
    assert "struct.wide" in esmgn("registry", "show").out
    assert esmgn("registry", "validate").out == f"ok: {file}\n"
    assert esmgn("registry", "remove", "struct", "wide").status == 0
    assert "wide" not in file.read_text()


def test_a_preset_that_a_plugin_takes_the_name_of_can_be_seen_and_removed(
    esmgn: Esmgn, host: PluginHost
) -> None:
    assert esmgn(*ADD).status == 0
    host.install("other", host.component(Kind.STRUCT, "wide"))
    discover.cache_clear()
    assert "[struct.wide] has the name of a structure encoder" in esmgn("list", "struct").err
    assert "struct.wide" in esmgn("registry", "show").out
    assert esmgn("registry", "remove", "struct", "wide").status == 0
    discover.cache_clear()
    assert esmgn("list", "struct").err == ""


def test_comments_and_other_entries_stay(esmgn: Esmgn, file: Path) -> None:
    file.parent.mkdir(parents=True)
    text = '# mine\nschema = 1  # one\n\n[struct.narrow]\ncomponent = "gearnet" # why\nsummary = "Narrow"\n'
    file.write_text(text)
    assert esmgn(*ADD).status == 0
    added = file.read_text()
    assert added.startswith(text)
    assert esmgn("registry", "remove", "struct", "wide").status == 0
    assert file.read_text().strip() == text.strip()


def test_an_override_is_shown(esmgn: Esmgn) -> None:
    esmgn("registry", "add", "seq", "esm2_8m", "--component", "onehot")
    discover.cache_clear()
    assert "overrides " in esmgn("registry", "show").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("structt", "wide", "--component", "gearnet"), "did you mean: struct?"),
        (("struct", "Wide", "--component", "gearnet"), "the name 'Wide' is not allowed"),
        (("struct", "gvp", "--component", "gearnet"), "'gvp' is the name of a structure encoder"),
        (("struct", "wide", "--component", "gearnett"), "did you mean: gearnet"),
        (("struct", "wide", "--component", "gearnet", "--set", "hiden_dim=3"), "did you mean: hidden_dim?"),
    ],
)
def test_a_wrong_preset_is_not_written(
    esmgn: Esmgn, file: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = esmgn("registry", "add", *arguments)
    assert done.status == 2
    assert message in done.err
    assert not file.exists()


def test_an_entry_is_not_replaced_unasked(esmgn: Esmgn, file: Path) -> None:
    esmgn(*ADD)
    before = file.read_text()
    assert "has [struct.wide] already" in esmgn(*ADD).err
    assert file.read_text() == before
    assert esmgn(*ADD[:-1], "hidden_dim=2", "--replace").status == 0
    assert "hidden_dim = 2" in file.read_text()


def test_removing_what_is_not_there_is_an_error(esmgn: Esmgn) -> None:
    done = esmgn("registry", "remove", "struct", "wide")
    assert (done.status, "has no entry struct.wide" in done.err) == (2, True)


def test_every_wrong_entry_of_a_file_is_listed(esmgn: Esmgn, tmp_path: Path) -> None:
    file = tmp_path / "plugin.toml"
    file.write_text(
        'schema = 1\n[struct.one]\ncomponent = "gearnet"\nsummary = "s"\nsettings = { hiden_dim = 3 }\n'
        '[struct.two]\ncomponent = "nothing"\nsummary = "s"\n'
        '[recipe.three]\nsummary = "s"\nrun = { train = { epoch = 2 } }\n'
        '[layout.four]\nsummary = "s"\nparts = { struct = "" }\nrun = { struct = "nothing" }\n'
    )
    done = esmgn("registry", "validate", file)
    assert done.status == 1
    problems = [line for line in done.out.splitlines() if line.startswith("problem")]
    assert [line.split()[1] for line in problems] == [
        "[struct.one]",
        "[struct.two]",
        "[recipe.three]",
        "[layout.four]",
    ]


def test_wrong_entries_are_listed_beside_malformed_ones(esmgn: Esmgn, tmp_path: Path) -> None:
    file = tmp_path / "registry.toml"
    file.write_text(
        'schema = 1\ndisabled = ["nobody"]\n[default]\nseq_without_gpu = "esm2_9m"\n[structt.one]\n'
        '[struct.Two]\n[struct.three]\nsummary = "no component"\n'
        f'[weights.four]\nurl = "https://example.org/a.pt"\nmd5 = "{"0" * 32}"\nlayout = "other"\n'
        'license = "MIT"\nsummary = "s"\n'
    )
    done = esmgn("registry", "validate", file)
    assert done.status == 1
    text = " ".join(done.out.split())
    for message in (
        "unknown section [structt]",
        "the name 'Two' is not allowed",
        '[struct.three] needs component = "..."',
        "unknown layout 'other'",
        "did you mean: esm2_8m",
        "no plugin or package is called 'nobody'",
    ):
        assert message in text
    assert text.count("problem ") == 6


def test_a_default_is_set_shown_and_removed(esmgn: Esmgn, file: Path) -> None:
    assert esmgn("registry", "add", "default", "struct", "--component", "gvp").status == 0
    discover.cache_clear()
    assert discover().defaults()[Kind.STRUCT] == "gvp"
    assert "instead of gearnet" in esmgn("registry", "show").out
    done = esmgn("registry", "add", "default", "struct", "--component", "gvpp")
    assert (done.status, "did you mean: gvp" in done.err) == (2, True)
    assert "needs a component" in esmgn("registry", "add", "default", "struct").err
    assert esmgn("registry", "remove", "default", "struct").status == 0
    assert "gvp" not in file.read_text()


def test_a_plugin_is_disabled_and_used_again(esmgn: Esmgn, host: PluginHost, file: Path) -> None:
    host.install("other", host.component(Kind.STRUCT, "wide"))
    discover.cache_clear()
    assert esmgn("registry", "add", "disabled", "othre").status == 2
    assert not file.exists()
    done = esmgn("registry", "add", "disabled", "other")
    assert "use it again: esmgn registry remove disabled other" in done.out
    discover.cache_clear()
    assert "wide" not in discover().names(Kind.STRUCT)
    assert esmgn("registry", "remove", "disabled", "other").status == 0
    discover.cache_clear()
    assert "wide" in discover().names(Kind.STRUCT)


def test_the_shipped_registry_is_valid(esmgn: Esmgn) -> None:
    from esmgn_core.host.presets import shipped_registry

    assert esmgn("registry", "validate", shipped_registry()).status == 0
