"""``docs/reference.md`` agrees with the code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import typer

from esmgn_cli.app import build_app
from esmgn_core.errors import shown
from esmgn_core.host.configure import ENGINE_TABLES, check_tables
from esmgn_core.host.hooks import HookSpecs
from esmgn_core.host.presets import read_registry
from esmgn_core.host.registry import discover
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind
from esmgn_core.store import Layout

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
HOOKS = [function for name, function in vars(HookSpecs).items() if name.startswith("esmgn_")]
COMMANDS = [
    "run",
    "embed",
    "neighbors",
    "mutate",
    "predict",
    "contacts",
    "check",
    "reproduce",
    "report",
    "list",
    "show",
    "plugins",
    "runs",
    "study",
    "evaluate",
    "weights",
    "data",
    "plugin",
    "registry",
]


def section(title: str) -> str:
    """Text below a heading, up to the next one of its level or above."""
    level, _, _ = title.partition(" ")
    _, *after = re.split(rf"\n{re.escape(title)}(?!\w)", PAGE, maxsplit=1)
    return re.split(rf"\n#{{1,{len(level)}}} ", "".join(after))[0]


def rows(text: str) -> dict[str, list[str]]:
    """Rows of a table by their first cell."""
    cells = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return {first.strip("`"): rest for first, *rest in cells}


def code(text: str) -> str:
    """The first code block of a section."""
    return text.partition("```toml\n")[2].partition("```")[0]


@pytest.mark.usefixtures("bare_host")
def test_every_command_has_its_section() -> None:
    commands = typer.main.get_group(build_app()).commands
    assert list(commands) == COMMANDS
    assert re.findall(r"\n### esmgn (\w+)", PAGE) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_and_argument_of_a_command_is_explained(command: str) -> None:
    text = section(f"### esmgn {command}")
    top = typer.main.get_group(build_app()).commands[command]
    for within in [top, *getattr(top, "commands", {}).values()]:
        assert within is top or f"`esmgn {command} {within.name}" in text
        for parameter in within.params:
            name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper()
            assert name in text or f"{command} {name}" in PAGE


def test_the_defaults_of_names_are_those_of_the_program() -> None:
    flags = rows(section("### esmgn run"))
    for kind, name in discover().defaults().items():
        [explained] = [cells for flag, cells in flags.items() if flag.startswith(f"--{kind} ")]
        assert explained[0].endswith((f"; `{name}`", f"; `{name}` if nothing names one"))


def options() -> list[tuple[str, str, Any]]:
    """Command, section of the page and option of every flag with a value of its own."""
    group = typer.main.get_group(build_app())
    return [
        (f"{command} {within.name}", command, parameter)
        for command, top in group.commands.items()
        for within in [top, *getattr(top, "commands", {}).values()]
        for parameter in within.params
        if parameter.default not in (None, False) and parameter.opts[0].startswith("--")
    ]


@pytest.mark.parametrize(
    ("command", "option"),
    [pytest.param(command, option, id=f"{name} {option.name}") for name, command, option in options()],
)
def test_the_defaults_of_flags_are_those_of_the_program(command: str, option: Any) -> None:
    """The row of a flag has its default, or the flag has the same everywhere, as --device has."""
    text = section(f"### esmgn {command}")
    lines = [line for line in text.splitlines() if option.opts[0] in line]
    default = f"{option.default:g}" if isinstance(option.default, float) else str(option.default)
    assert [line for line in lines if re.search(rf"(?<![\w.]){re.escape(default)}(?![\w.]*\w)", line)], lines


def test_the_help_of_run_names_what_a_run_takes_if_nothing_is_named() -> None:
    text = " ".join((typer.main.get_group(build_app()).commands["run"].help or "").split())
    named = " ".join(f"--{kind} {name}," for kind, name in discover().defaults().items()).rstrip(",")
    assert f"Defaults: {named}." in text


def test_the_help_of_a_build_names_the_layout_that_is_built() -> None:
    data: Any = typer.main.get_group(build_app()).commands["data"]
    build = data.commands["build"]
    helps = {parameter.name: getattr(parameter, "help", "") for parameter in build.params}
    for name in ("atoms", "coordinates"):
        [default] = re.findall(r"(\w+)(?: \([^)]*\))?, the default", helps[name])
        assert default == getattr(Layout(), name)


def test_a_help_text_that_states_a_default_is_tested() -> None:
    """Defaults are shown by the program itself; a text that states one needs a test above."""
    stated = {
        parameter.name
        for command in typer.main.get_group(build_app()).commands.values()
        for within in [command, *getattr(command, "commands", {}).values()]
        for parameter in within.params
        if "the default" in (getattr(parameter, "help", "") or "")
    }
    assert stated == {"atoms", "coordinates"}


@pytest.mark.parametrize("table", ENGINE_TABLES)
def test_every_setting_of_the_engine_is_explained_with_its_default(table: str) -> None:
    explained = rows(section(f"### [{table}]"))
    fields = ENGINE_TABLES[table].model_fields
    assert list(explained) == list(fields)
    for name, field in fields.items():
        default = "not set" if field.default is None else f"`{shown(field.default)}`"
        assert explained[name][0] == default


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_every_hook_is_explained_with_its_arguments(hook: Callable[..., object]) -> None:
    arguments = ", ".join(name for name in signature(hook).parameters if name != "self")
    assert f"{hook.__name__}({arguments})" in rows(section("## Hooks"))


def test_every_environment_variable_is_explained() -> None:
    sources = [path for folder in ("esmgn_core", "cli", "plugins") for path in (ROOT / folder).rglob("*.py")]
    read = {
        name
        for path in sources
        if "tests" not in path.parts
        for name in re.findall(r"\b(?:ESMGN|HF_HUB)_[A-Z_]+", path.read_text(encoding="utf-8"))
    }
    assert set(rows(section("## Environment variables"))) == read


def test_every_file_of_a_run_folder_is_explained(tmp_path: Path) -> None:
    paths = [path for name, path in vars(RunFolder(tmp_path)).items() if name != "path"]
    names = {path.name for path in paths} | {".lock"}
    assert {name.strip("/") for name in rows(section("## Run folder"))} == names


def test_the_example_of_a_run_file_is_one() -> None:
    tables = check_tables(tomllib.loads(code(section("## Run files"))), origin="reference.md")
    assert tables["seq"] == {"name": "esm2_8m"}


def test_the_example_of_a_registry_is_one(tmp_path: Path) -> None:
    file = tmp_path / "registry.toml"
    file.write_text(code(section("## registry.toml")))
    example = read_registry(file)
    assert example.disabled == ("gvp",)
    assert (Kind.SEQ, "my_esm2") in example.presets
    assert example.weights["my_esm_gearnet"].layout == "esm_gearnet"
    assert example.layouts["my_gearnet"].parts == {Kind.STRUCT: "encoder."}
    assert check_tables(example.recipes["overnight"].run, origin="reference.md")


@pytest.mark.usefixtures("clean_environment")
def test_names_used_as_examples_exist() -> None:
    registry = discover()
    for kind, name in [(Kind.SEQ, "esm2_8m"), (Kind.SEQ, "esm2_35m"), (Kind.STRUCT, "gearnet")]:
        assert name in registry.names(kind)
        assert name in PAGE


def test_lines_are_short_except_in_tables() -> None:
    assert [line for line in PAGE.splitlines() if len(line) > 115 and not line.startswith("|")] == []
