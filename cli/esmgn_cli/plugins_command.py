"""``esmgn plugins``: plugins, their state, and what they bring."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from esmgn_cli.completion import plugin_names
from esmgn_cli.contents import Record, plugin_record
from esmgn_cli.render import block, echo, line_width, table
from esmgn_core.errors import UnknownComponentError, did_you_mean
from esmgn_core.host.registry import discover


def plugins(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A plugin or package: show all it brings.", show_default=False, autocompletion=plugin_names
        ),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list with all facts.")] = False,
) -> None:
    """List plugins and their state."""
    registry = discover()
    records = [
        plugin_record(registry, plugin)
        for plugin in registry.plugins
        if name in (None, plugin.name, plugin.distribution)
    ]
    if not records:
        known = [text for plugin in registry.plugins for text in (plugin.name, plugin.distribution)]
        raise UnknownComponentError(
            f"no plugin or package is called '{name}'", *did_you_mean(name or "", known), "see: esmgn plugins"
        )
    if as_json:
        block(json.dumps(records, indent=1))
    elif name is not None:
        block("\n\n".join(map(_described, records)))
    else:
        header = ("plugin", "package", "state", "components or error")
        block(table([header, *map(_row, records)], indent="", width=line_width()))
        for conflict in registry.conflicts:
            echo("", *conflict.split("\n"))
        echo("", "disable a plugin: ESMGN_DISABLE=NAME; show the traceback of a broken one: ESMGN_STRICT=1")


def _row(record: Record) -> tuple[str, str, str, str]:
    facts = [record["problem"] or ", ".join(record["components"]), *record["notes"]]
    text = "; ".join(fact for fact in facts if fact)
    return record["name"], f"{record['package']} {record['version']}", record["state"], text


def _described(record: Record) -> str:
    """All facts about a plugin, one a line."""
    shown = {
        "package": f"{record['package']} {record['version']}",
        "module": record["module"],
        "state": record["state"],
        "problem": record["problem"],
        "made for": f"esmgn{record['made_for']}" if record["made_for"] else "",
        **{key: ", ".join(record[key]) for key in ("components", "presets", "recipes", "observers")},
        "commands": "yes" if record["commands"] else "",
        "notes": "; ".join(record["notes"]),
    }
    rows = [(key, text) for key, text in shown.items() if text]
    return f"plugin '{record['name']}'\n{table(rows, width=line_width())}"
