"""JSON and TOML that are wrong in any way are errors of the file they are in."""

from __future__ import annotations

import tomllib

import pytest

from esmgn_core.engine.checkpoint_files import verify
from esmgn_core.errors import DataError, RunError, SettingsError
from esmgn_core.host.configure import parse_assignments, read_run_file
from esmgn_core.machine.parse import parse_json, parse_toml
from esmgn_core.store.filters import Filters
from esmgn_core.store.plan import Plan, write_plan
from esmgn_core.store.sources import Item

DEEP = 100_000
KEYS = ".".join("a" * 500)


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP, "", "{", b"\xff", b"\x80[]", "1" * 5000])
def test_json(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * DEEP,
        "a = " + "{a=" * DEEP,
        ".".join("a" * 500) + " = 1",
        "[" + ".".join("a" * 500) + "]",
        ".".join("a" * DEEP) + " = 1",  # took minutes
        '["a"' + ' . "a"' * DEEP + "]",
        "=",
    ],
)
def test_toml(text):
    with pytest.raises(tomllib.TOMLDecodeError):
        parse_toml(text)


def test_what_is_well_formed_comes_back():
    assert parse_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert parse_toml("[train]\nepochs = 3\nbetas = [0.9, 0.99]") == {
        "train": {"epochs": 3, "betas": [0.9, 0.99]}
    }


@pytest.mark.parametrize("text", ["[seq]\nname = " + "[" * DEEP, f"train.{KEYS} = 1"])
def test_a_run_file_nested_too_deeply_is_named(tmp_path, text):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"cannot read run file .*run\.toml: nested too deeply"):
        read_run_file(tmp_path / "run.toml")


def test_a_setting_nested_too_deeply_is_named():
    with pytest.raises(SettingsError, match="cannot read --set"):
        parse_assignments(["train.betas=" + "[" * DEEP])


@pytest.mark.parametrize("text", ["{}", "[]", "null", "[" * DEEP])
def test_a_checkpoint_without_checksums_is_damaged(tmp_path, text):
    (tmp_path / "checksums.json").write_text(text)
    with pytest.raises(RunError, match="is damaged"):
        verify(tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_plan_is_named_or_read(tmp_path, seed):
    path = tmp_path / "plan.arrow"
    write_plan(path, ["/a"], [Item("file", f"/a/{n}.pdb", name=f"p{n}") for n in range(40)], Filters())
    content = bytearray(path.read_bytes())
    for k in range(5):
        content[(seed * 7919 + k * 104_729) % len(content)] ^= 0xFF
    path.write_bytes(content[: len(content) // 2] if seed == 0 else content)
    try:
        plan = Plan(path)
        [list(plan.items(part)) for part in plan.parts]
    except DataError as error:
        assert "plan.arrow" in error.message  # noqa: PT017
