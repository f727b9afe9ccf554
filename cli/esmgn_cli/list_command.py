"""``esmgn list``: the names of components, presets and recipes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

from esmgn_cli.completion import plugin_names, words
from esmgn_cli.contents import KINDS, Record, check_kind, entries, is_third_party, is_usable
from esmgn_cli.render import block, line_width, table
from esmgn_core.errors import UnknownComponentError, did_you_mean
from esmgn_core.host.presets import RECIPE
from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help=f"List one kind: {', '.join(KINDS)}.", show_default=False, autocompletion=words(KINDS)
        ),
    ] = None,
    *,
    plugin: Annotated[
        str | None,
        typer.Option(
            help="Only entries of this plugin or package.", show_default=False, autocompletion=plugin_names
        ),
    ] = None,
    usable: Annotated[bool, typer.Option("--usable", help="Only entries that need no installation.")] = False,
    third_party: Annotated[
        bool, typer.Option("--third-party", help="Only entries that are not of esmgn.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list with all facts.")] = False,
) -> None:
    """List components, presets and recipes."""
    registry = discover()
    if kind is not None:
        check_kind(kind)
    known = [name for item in registry.plugins for name in (item.name, item.distribution)]
    if plugin is not None and plugin not in known:
        unknown = f"no plugin or package is called '{plugin}' (--plugin)"
        raise UnknownComponentError(unknown, *did_you_mean(plugin, known), "see: esmgn plugins")

    def is_wanted(record: Record) -> bool:
        return (
            (plugin is None or plugin in (record.get("plugin"), record.get("package")))
            and (not usable or is_usable(record))
            and (not third_party or is_third_party(record))
        )

    found = {
        name: [record for record in entries(registry, name) if is_wanted(record)]
        for name in KINDS
        if kind in (None, name)
    }
    if as_json:
        block(json.dumps([record for records in found.values() for record in records], indent=1))
        return
    narrowed = plugin is not None or usable or third_party
    shown = {name: records for name, records in found.items() if records or not narrowed}
    block("\n\n".join(_section(name, records) for name, records in shown.items()) or "no such entry")


def _section(kind: str, records: Sequence[Record]) -> str:
    title = "recipes (--recipe)" if kind == RECIPE else f"{Kind(kind).long_name}s ({Kind(kind).chosen_by})"
    rows = [(record["name"], *_source(record), _summary(record)) for record in records]
    return "\n".join([title, table(rows, width=line_width()) if rows else "  none"])


def _source(record: Record) -> tuple[str, ...]:
    if record["type"] == RECIPE:
        return ()
    if record["type"] == "component":
        return (f"plugin {record['plugin']}",)
    return (f"preset of {record['component']}",)


def _summary(record: Record) -> str:
    """The summary, what is missing, and the file that overrides another one."""
    texts = [record["summary"]]
    if record.get("overrides"):
        texts.append(f"overridden by {record['origin']}")
    if record.get("needs"):
        texts.append(f"needs {record['needs']}")
    elif record.get("missing"):
        texts.append(record["missing"])
    return "; ".join(texts)
