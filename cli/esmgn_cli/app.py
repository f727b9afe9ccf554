"""The program: all commands in one app."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import typer

from esmgn_cli import (
    check_command,
    contacts_command,
    data_command,
    embed_command,
    evaluate_command,
    list_command,
    mutate_command,
    neighbors_command,
    plugin_command,
    plugins_command,
    predict_command,
    registry_command,
    reproduce_command,
    run_command,
    runs_command,
    show_command,
    study_command,
    weights_command,
)
from esmgn_cli.render import echo
from esmgn_core.host.plugins import strict
from esmgn_core.host.registry import Registry, discover
from esmgn_core.version import __version__


def build_app() -> typer.Typer:
    """Build the program with its commands and those of plugins."""
    registry = discover()
    app = _new_app()
    app.command("run", help=run_command.run_help())(run_command.run)
    app.command("embed")(embed_command.embed)
    app.command("neighbors")(neighbors_command.neighbors)
    app.command("mutate")(mutate_command.mutate)
    app.command("predict")(predict_command.predict)
    app.command("contacts")(contacts_command.contacts)
    app.command("check")(check_command.check)
    app.add_typer(_runs(), name="runs")
    app.command("reproduce")(reproduce_command.reproduce)
    app.command("report")(runs_command.report)
    app.command("list")(list_command.list_names)
    app.command("show")(show_command.show)
    app.command("plugins")(plugins_command.plugins)
    app.add_typer(_group("Run and compare a grid of runs", study_command.COMMANDS), name="study")
    app.add_typer(_group("Compare models with measurements", evaluate_command.COMMANDS), name="evaluate")
    app.add_typer(_group("Download and convert published weights", weights_command.COMMANDS), name="weights")
    app.add_typer(_group("Build and inspect stores of proteins", data_command.COMMANDS), name="data")
    app.add_typer(_group("Write and check plugins", plugin_command.COMMANDS), name="plugin")
    app.add_typer(_group("Edit the user's registry", registry_command.COMMANDS), name="registry")
    warnings = [*registry.warnings, *_add_plugin_commands(app, registry)]

    @app.callback()
    def program(
        *,
        version: Annotated[  # noqa: ARG001 - handled by its callback
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """Joint protein sequence-structure representation learning."""
        if os.environ.get("RANK", "0") == "0":
            for warning in warnings:
                echo(f"warning: {warning}".partition("\n")[0], err=True)
            if registry.conflicts:
                echo("  what to do: esmgn plugins", err=True)

    return app


def _runs() -> typer.Typer:
    app = _new_app()
    app.info.no_args_is_help = False
    app.callback(invoke_without_command=True)(runs_command.runs)
    app.command("compare")(runs_command.compare)
    app.command("bins")(runs_command.bins)
    return app


def _new_app() -> typer.Typer:
    return typer.Typer(
        name="esmgn",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _group(purpose: str, commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    """A command with subcommands."""
    app = _new_app()
    for name, command in commands.items():
        app.command(name)(command)
    app.callback(help=f"{purpose}: {', '.join(commands)}.")(lambda: None)
    return app


def _version(requested: bool) -> None:
    if requested:
        echo(f"esmgn {__version__}")
        raise typer.Exit


def _add_plugin_commands(app: typer.Typer, registry: Registry) -> Iterator[str]:
    """Add the commands of plugins; yield a warning for each plugin whose commands cannot be added."""
    taken = set(_command_names(app))
    for hook in registry.manager.hook.esmgn_commands.get_hookimpls():
        offered = _new_app()
        try:
            hook.function(offered) if hook.argnames else hook.function()
            names = _command_names(offered)
        except (Exception, SystemExit) as error:
            if strict():
                raise
            yield f"plugin '{hook.plugin_name}' adds no commands: {type(error).__name__}: {error}"
            continue
        if clash := taken.intersection(names):
            yield f"plugin '{hook.plugin_name}' adds no commands: '{clash.pop()}' exists already"
            continue
        taken.update(names)
        app.registered_commands += offered.registered_commands
        app.registered_groups += offered.registered_groups


def _command_names(app: typer.Typer) -> list[str]:
    """Names of an app's commands. Builds them, so that a command that typer refuses raises here."""
    whole = typer.Typer(callback=lambda: None)
    whole.registered_commands, whole.registered_groups = app.registered_commands, app.registered_groups
    return list(typer.main.get_group(whole).commands)
