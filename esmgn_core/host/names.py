"""Names that several plugins claim, and their addresses ``plugin:name``.

A name of esmgn is never taken over by another package: the other entry is reached by its address alone. Of
two entries of other packages neither has the plain name. Only the user's own registry replaces entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from esmgn_core.host.presets import SECTIONS, Catalogue
from esmgn_core.spec import ComponentSpec

PACKAGE = "esmgn"
"""The distribution whose names have priority; also the qualifier of shipped presets."""
SEPARATOR = ":"
Key = tuple[str, Any]
"""Section and key of an entry of a :class:`Catalogue`; components have the keys of presets."""
_TITLES = {"recipes": "recipe", "weights": "published file", "layouts": "layout"}


@dataclass(frozen=True, slots=True)
class Owner:
    """The plugin and package of an entry."""

    plugin: str
    package: str

    @property
    def is_shipped(self) -> bool:
        """True for esmgn itself."""
        return self.package == PACKAGE

    def __str__(self) -> str:
        return f"'{self.plugin}' ({self.package})"

    def address(self, name: str) -> str:
        """The name as ``plugin:name``."""
        return f"{self.plugin}{SEPARATOR}{name}"


class Claims:
    """The owners of all names. Components and presets of one kind share their names.

    Args:
        layers: owner, components and entries of esmgn and of each plugin.

    Attributes:
        disputed: the message about each name that nobody has, by section and key.
        warnings: a message for each name with several owners.
    """

    def __init__(self, layers: Iterable[tuple[Owner, Sequence[ComponentSpec], Catalogue]]) -> None:
        self._owners: dict[Key, list[Owner]] = {}
        for owner, components, entries in layers:
            names = {("presets", (spec.kind, spec.name)) for spec in components}
            names |= {(section, key) for section in SECTIONS for key in getattr(entries, section)}
            for name in sorted(names, key=str):
                self._owners.setdefault(name, []).append(owner)
        contested = {name: owners for name, owners in self._owners.items() if len(owners) > 1}
        messages = {name: _conflict(name, owners) for name, owners in contested.items()}
        self.warnings = list(messages.values())
        self.disputed = {
            name: messages[name]
            for name, owners in contested.items()
            if not any(owner.is_shipped for owner in owners)
        }

    def components(self, owner: Owner, specs: Iterable[ComponentSpec]) -> tuple[ComponentSpec, ...]:
        """Components of a plugin, by address where the plain name belongs to another one."""
        return tuple(
            spec
            if self._has(owner, ("presets", (spec.kind, spec.name)))
            else replace(spec, name=owner.address(spec.name))
            for spec in specs
        )

    def catalogue(self, layers: Iterable[tuple[Owner, Catalogue]]) -> Catalogue:
        """All entries, by address where the plain name belongs to another owner."""
        result = Catalogue()
        for owner, layer in layers:
            result.defaults.update(layer.defaults)
            for section in SECTIONS:
                entries = getattr(result, section)
                for key, entry in getattr(layer, section).items():
                    if self._has(owner, (section, key)):
                        entries[key] = entry
                        continue
                    address = owner.address(entry.name)
                    place = (entry.kind, address) if section == "presets" else address
                    entries[place] = replace(entry, name=address)
        return result

    def _has(self, owner: Owner, name: Key) -> bool:
        owners = self._owners[name]
        return owner.is_shipped or len(owners) == 1


def _conflict(name: Key, owners: Sequence[Owner]) -> str:
    """The message about a name with several owners."""
    section, key = name
    kind, local = key if section == "presets" else (None, key)
    what = f"{kind.long_name if kind else _TITLES[section]} '{local}'"
    others = [owner for owner in owners if not owner.is_shipped]
    addresses = " or ".join(owner.address(local) for owner in others)
    off = " or ".join(f"ESMGN_DISABLE={owner.plugin}" for owner in others)
    if len(others) < len(owners):
        claims = " and ".join(f"plugin {owner}" for owner in others)
        hints = f"name the other: {addresses}", f"or switch it off: {off}"
        return "\n  ".join([f"{what} of esmgn is claimed by {claims} too: esmgn's is used", *hints])
    claims = " and ".join(map(str, others))
    hints = f"name one: {addresses}", f"or switch one off: {off}"
    return "\n  ".join([f"{what} is claimed by {len(owners)} plugins: {claims}", *hints])
