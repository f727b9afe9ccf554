"""Help texts and the frozen surface of the program."""

from __future__ import annotations

from typing import Any

import pytest
import typer

import esmgn_core
from esmgn_cli.app import build_app
from esmgn_core.errors import EsmgnError

from ..conftest import PluginHost
from .conftest import Esmgn

RUN_FLAGS = {
    "--seq",
    "--struct",
    "--fuse",
    "--graph",
    "--pretext",
    "--downstream",
    "--data",
    "--recipe",
    "--set",
    "--out",
    "--init",
    "--resume",
    "--gpus",
    "--processes",
    "--slurm",
    "--time-limit",
    "--dry-run",
    "--help",
    "-h",
}


def flags(esmgn: Esmgn, command: str) -> set[str]:
    """Every flag in a command's list of options."""
    lines = esmgn(command, "--help").out.partition("Options:\n")[2].splitlines()
    words = [word.strip(",") for line in lines if line.startswith("  -") for word in line.split()[:2]]
    return {word for word in words if word.startswith("-")}


def test_the_flags_of_run_are_frozen(esmgn: Esmgn) -> None:
    """Everything else is --set. Another flag is another promise: change this list with care."""
    assert flags(esmgn, "run") == RUN_FLAGS


@pytest.mark.usefixtures("bare_host")
def test_the_commands(esmgn: Esmgn) -> None:
    finished = esmgn("--help")
    listed = finished.out.partition("Commands:\n")[2].splitlines()
    assert (finished.status, finished.err) == (0, "")
    assert [line.split()[0] for line in listed] == [
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


@pytest.mark.parametrize("command", ["run", "embed", "list", "show", "plugins", "weights", "data", "plugin"])
def test_every_command_and_each_of_its_parameters_explains_itself(command: str) -> None:
    parsed: Any = typer.main.get_group(build_app()).commands[command]
    assert parsed.help
    for each in [parsed, *getattr(parsed, "commands", {}).values()]:
        assert each.help
        assert all(getattr(parameter, "help", "") for parameter in each.params)


def test_the_version(esmgn: Esmgn) -> None:
    assert esmgn("--version")[:2] == (0, f"esmgn {esmgn_core.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--seqq", "esm2_8m"], "No such option: --seqq"),
        (["run", "--seq"], "Option '--seq' requires an argument"),
        (["run", "a.toml", "b.toml"], "Got unexpected extra argument"),
        (["lst"], "No such command 'lst'"),
        (["show"], "Missing argument"),
    ],
)
def test_a_wrong_command_line_is_status_2(esmgn: Esmgn, arguments: list[str], message: str) -> None:
    finished = esmgn(*arguments)
    assert (finished.status, finished.out) == (2, "")
    assert message in finished.err
    assert "Traceback" not in finished.err


def test_a_users_mistake_is_one_message_and_status_2(esmgn: Esmgn) -> None:
    status, out, err = esmgn("list", "structs")
    assert (status, out) == (2, "")
    assert err == (
        "error: unknown kind 'structs'\n"
        "  did you mean: struct?\n"
        "  available: seq, struct, fuse, graph, pretext, downstream, data, tracker, format, recipe\n"
    )


def test_other_processes_of_a_run_say_who_they_are(esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    assert esmgn("list", "structs").err.startswith("error (process 3): unknown kind 'structs'")


def _hello(app: typer.Typer) -> None:
    @app.command("hello")
    def hello() -> None:
        """Say hello."""
        typer.echo("hello")


def _fails(app: typer.Typer) -> None:
    _hello(app)
    raise EsmgnError("no screen")


def _replaces(app: typer.Typer) -> None:
    app.command("run")(lambda: None)


def _unbuildable(app: typer.Typer) -> None:
    def command(value: int | str) -> None: ...

    app.command("strange")(command)


def test_plugins_add_commands(host: PluginHost, esmgn: Esmgn) -> None:
    host.install("hello", esmgn_commands=_hello)
    assert esmgn("hello") == (0, "hello\n", "")
    assert "Say hello." in esmgn("--help").out


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (_fails, "EsmgnError: no screen"),
        (_replaces, "'run' exists already"),
        (_unbuildable, "AssertionError: "),
    ],
)
def test_commands_that_cannot_be_added_are_a_warning_and_the_rest_works(
    host: PluginHost, esmgn: Esmgn, hook: object, reason: str
) -> None:
    host.install("bad", esmgn_commands=hook)
    host.install("good", esmgn_commands=_hello)
    finished = esmgn("hello")
    assert (finished.status, finished.out) == (0, "hello\n")
    assert finished.err.startswith(f"warning: plugin 'bad' adds no commands: {reason}")
    assert finished.err.count("\n") == 1


def test_strict_mode_raises_errors_of_plugin_commands(
    host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESMGN_STRICT", "1")
    host.install("bad", esmgn_commands=_fails)
    with pytest.raises(EsmgnError, match="no screen"):
        build_app()


def test_only_the_main_process_prints_warnings(
    host: PluginHost, esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.install("bad", error=RuntimeError("no licence"))
    warning = "warning: plugin 'bad' (esmgn-bad 1.0) is not in use: RuntimeError: no licence\n"
    assert esmgn("list", "struct").err == warning
    monkeypatch.setenv("RANK", "1")
    assert esmgn("list", "struct").err == ""
