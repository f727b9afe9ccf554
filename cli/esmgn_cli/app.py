"""The program's commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

import esmgn_core
from esmgn_cli import list_command, plugins_command, run_command, show_command
from esmgn_core.registry import discover


def build_app() -> typer.Typer:
    """The program with its own commands and those of plugins."""
    app = typer.Typer(
        name="esmgn",
        help="Joint protein sequence-structure representation learning.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_program)
    app.command("run")(run_command.run)
    app.command("list")(list_command.list_names)
    app.command("show")(show_command.show)
    app.command("plugins")(plugins_command.plugins)
    discover().manager.hook.esmgn_commands(app=app)
    return app


def _version(*, asked: bool) -> None:
    if asked:
        typer.echo(f"esmgn {esmgn_core.__version__}")
        raise typer.Exit


def _program(
    *,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool, typer.Option("--version", callback=lambda value: _version(asked=value), is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Joint protein sequence-structure representation learning."""
