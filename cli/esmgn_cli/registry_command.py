"""``esmgn registry``: the user's own presets and defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.errors import SettingsError, check_choice
from esmgn_core.host.presets import (
    DEFAULT,
    DISABLED,
    Catalogue,
    Preset,
    read_registry,
    read_user_registry,
    user_registry,
)
from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind

_SECTIONS = (*Kind, "recipe", "weights", "layout", DEFAULT, DISABLED)

KindName = Annotated[
    str,
    typer.Argument(metavar="KIND", help=f"Kind of the preset ({', '.join(Kind)}), {DEFAULT} or {DISABLED}."),
]


def show() -> None:
    """Show the user's registry file and its entries."""
    file = user_registry()
    if not file.exists():
        echo(f"{file} does not exist", "add an entry: esmgn registry add KIND NAME --component COMPONENT")
        return
    echo(file)
    rows = list(_rows(read_user_registry()))
    block(table(rows, width=line_width()) if rows else "  no entries")


def _rows(own: Catalogue) -> Iterator[tuple[str, str, str]]:
    registry = discover()
    known = registry.catalogue
    for key, preset in own.presets.items():
        replaced = known.presets.get(key, preset).overrides
        yield f"{key[0]}.{key[1]}", f"preset of {preset.component}", _replaced(replaced)
    for section in ("recipes", "weights", "layouts"):
        for name in getattr(own, section):
            entry = getattr(known, section)[name]
            yield f"{section.removesuffix('s')}.{name}", entry.summary, _replaced(entry.overrides)
    for kind, name in own.defaults.items():
        shipped = registry.shipped_defaults.get(kind)
        yield f"default.{kind}", name, f"instead of {shipped}" if shipped else ""
    for name in own.disabled:
        yield "disabled", name, ""


def _replaced(origin: str) -> str:
    return f"overrides {origin}" if origin else ""


def add(
    kind: KindName,
    name: Annotated[str, typer.Argument(help="Name of the preset or plugin, or kind of a default.")],
    *,
    component: Annotated[
        str | None, typer.Option(help="Component that the entry names.", show_default=False)
    ] = None,
    summary: Annotated[str, typer.Option(help="One line for esmgn list.")] = "",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting. Repeatable.")
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Use it in runs that name none.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an entry of this name.")] = False,
) -> None:
    """Add a preset, a default or a disabled plugin to the user's registry.

    Examples: esmgn registry add struct wide --component gearnet --set hidden_dim=1024 --default;
    esmgn registry add default struct --component gvp; esmgn registry add disabled PLUGIN.
    """
    from esmgn_core.host.configure import parse_assignments
    from esmgn_core.host.presets import check_name
    from esmgn_core.host.registry_file import add_preset, disable, set_default

    check_choice("kind", kind, [*Kind, DEFAULT, DISABLED], "KIND")
    file = user_registry()
    if kind == DISABLED:
        disable(file, name, discover())
        echo(f"written: {file}", f"use it again: esmgn registry remove {DISABLED} {name}")
        return
    if component is None:
        raise SettingsError(f"'{name}' needs a component", "name it: --component NAME")
    if kind == DEFAULT:
        set_default(file, name, component, discover())
        echo(f"written: {file}")
        return
    check_name(f"{kind} preset", name)
    tables = parse_assignments([f"{kind}.{text}" for text in assignments or []])
    settings = tables.get(kind, {})
    preset = Preset(
        Kind(kind), name, component, summary or f"{component} with own settings", settings, str(file)
    )
    add_preset(file, preset, discover(), default=default, replace=replace)
    echo(f"written: {file}", f"use it: --{kind} {name}")


def remove(
    section: Annotated[str, typer.Argument(metavar="SECTION", help=f"One of: {', '.join(_SECTIONS)}.")],
    name: Annotated[str, typer.Argument(help="Name of the entry.")],
) -> None:
    """Remove an entry from the user's registry."""
    from esmgn_core.host.registry_file import remove_entry

    check_choice("section", section, _SECTIONS, "SECTION")
    remove_entry(user_registry(), section, name)
    echo(f"removed: {section}.{name} from {user_registry()}")


def validate(
    file: Annotated[
        Path | None, typer.Argument(help="Registry file. Default: the user's.", show_default=False)
    ] = None,
) -> None:
    """Validate a registry file, the user's or that of a plugin.

    All wrong entries are listed. The exit status is 1 if there are any.
    """
    from esmgn_core.host.registry_file import problems_of

    path = file or user_registry()
    if not path.exists():
        raise SettingsError(f"registry file not found: {path}")
    problems: list[str] = []
    problems += problems_of(read_registry(path, problems), discover())
    for problem in problems:
        block(f"problem  {problem}")
    if problems:
        raise typer.Exit(1)
    echo(f"ok: {path}")


COMMANDS: dict[str, Callable[..., None]] = {"show": show, "add": add, "remove": remove, "validate": validate}
