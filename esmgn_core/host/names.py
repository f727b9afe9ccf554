"""Names that several plugins claim, and their addresses ``plugin:name``.

A name of esmgn is never taken over by another package: the other entry is reached by its address alone. Of
two entries of other packages neither has the plain name. Only the user's own registry replaces entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from esmgn_core.host.presets import SECTIONS, Catalogue
from esmgn_core.spec import ComponentSpec, Kind

PACKAGE = "esmgn"
"""The distribution whose names have priority; also the qualifier of shipped presets."""
SEPARATOR = ":"
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


def addressed(
    components: Sequence[tuple[Owner, Sequence[ComponentSpec]]],
) -> tuple[list[tuple[ComponentSpec, ...]], list[str]]:
    """The components of each plugin, by address where the plain name belongs to another one; and warnings."""
    claims: dict[tuple[Kind, str], list[Owner]] = {}
    for owner, specs in components:
        for spec in specs:
            claims.setdefault((spec.kind, spec.name), []).append(owner)
    result = [
        tuple(
            spec
            if _holder(claims[spec.kind, spec.name]) == owner
            else replace(spec, name=owner.address(spec.name))
            for spec in specs
        )
        for owner, specs in components
    ]
    warnings = [
        conflict(f"{kind.long_name} '{name}'", name, owners)
        for (kind, name), owners in claims.items()
        if len(owners) > 1
    ]
    return result, warnings


def merged(
    shipped: Catalogue, catalogues: Iterable[tuple[Owner, Catalogue]], components: Iterable[ComponentSpec]
) -> tuple[Catalogue, list[str]]:
    """The entries of esmgn and of all plugins, and warnings about names that several claim.

    Args:
        shipped: the entries of esmgn.
        catalogues: those of each plugin.
        components: all components in use. A preset cannot have the name of one of its kind.
    """
    core = Owner(PACKAGE, PACKAGE)
    taken = {(spec.kind, spec.name) for spec in components}
    result, warnings = Catalogue(defaults=shipped.defaults), []
    layers = [(core, shipped), *catalogues]
    for section in SECTIONS:
        claims: dict[Any, list[Owner]] = {}
        for owner, layer in layers:
            for key in getattr(layer, section):
                claims.setdefault(key, []).append(owner)
        entries = getattr(result, section)
        for owner, layer in layers:
            for key, entry in getattr(layer, section).items():
                if key not in taken and _holder(claims[key]) == owner:
                    entries[key] = entry
                    continue
                address = owner.address(entry.name)
                place = (entry.kind, address) if section == "presets" else address
                entries[place] = replace(entry, name=address)
        for key, owners in claims.items():
            title = _TITLES.get(section) or f"{key[0].long_name} preset"
            name = key[1] if section == "presets" else key
            if key in taken:
                warnings.append(
                    f"{title} '{name}' of plugin {owners[0]} has the name of a component; "
                    f"it is {owners[0].address(name)}"
                )
            elif len(owners) > 1:
                warnings.append(conflict(f"{title} '{name}'", name, owners))
    return result, warnings


def conflict(what: str, name: str, owners: Sequence[Owner]) -> str:
    """The message about a name that several packages claim."""
    others = [owner for owner in owners if not owner.is_shipped]
    addresses = " or ".join(owner.address(name) for owner in others)
    off = " or ".join(f"ESMGN_DISABLE={owner.plugin}" for owner in others)
    if len(others) < len(owners):
        claims = " and ".join(f"plugin {owner}" for owner in others)
        hints = f"name the other: {addresses}", f"or switch it off: {off}"
        return "\n  ".join([f"{what} of esmgn is claimed by {claims} too: esmgn's is used", *hints])
    claims = " and ".join(map(str, others))
    hints = f"name one: {addresses}", f"or switch one off: {off}"
    return "\n  ".join([f"{what} is claimed by {len(owners)} plugins: {claims}", *hints])


def _holder(owners: Sequence[Owner]) -> Owner | None:
    """The owner of the plain name: esmgn, or the only one."""
    shipped = [owner for owner in owners if owner.is_shipped]
    return shipped[0] if shipped else owners[0] if len(owners) == 1 else None
