"""Write ``docs/components.md``: every shipped component, preset and recipe.

    python docs/generate_components.py

The page has the records of ``esmgn list --json``. A test compares it with the code.
"""

from __future__ import annotations

from pathlib import Path

from esmgn_cli.contents import KINDS, Record, entries, is_third_party
from esmgn_core.host.presets import RECIPE
from esmgn_core.host.registry import Registry, discover
from esmgn_core.spec import Kind

PAGE = Path(__file__).with_name("components.md")
_HEAD = """\
# Components

Everything that esmgn brings. `esmgn list` also has what plugins of other packages add.
`esmgn show NAME --size` prints settings, parameters and width.
This page is generated: `python docs/generate_components.py`.
"""


def page(registry: Registry) -> str:
    """The text of the page, without entries of other packages."""
    sections = [_HEAD]
    for kind in KINDS:
        records = [record for record in entries(registry, kind) if not is_third_party(record)]
        if records:
            title = "Recipes (`--recipe`)" if kind == RECIPE else _title(Kind(kind))
            sections.append("\n".join([f"## {title}\n", *_table(kind, records), ""]))
    return "\n".join(sections)


def _title(kind: Kind) -> str:
    return f"{kind.long_name.capitalize()}s (`{kind.chosen_by}`)"


def _table(kind: str, records: list[Record]) -> list[str]:
    if kind == RECIPE:
        return [
            "| name | what |",
            "|---|---|",
            *(f"| `{item['name']}` | {item['summary']} |" for item in records),
        ]
    lines = ["| name | of | what | reads | licence | source |", "|---|---|---|---|---|---|"]
    for item in records:
        of = f"plugin `{item['plugin']}`" if item["type"] == "component" else f"`{item['component']}`"
        cells = [
            f"`{item['name']}`",
            of,
            item["summary"],
            ", ".join(item["reads"]),
            item.get("license") or item.get("component_license"),
            item.get("citation") or item.get("component_citation"),
        ]
        lines.append(f"| {' | '.join(cell or '-' for cell in cells)} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(discover()), encoding="utf-8")
