"""Claims about the names of a component's attributes."""

from __future__ import annotations

import difflib

from torch import nn

from esmgn_core.protocols import HasReadout, HasSettings, optional_members
from esmgn_core.spec import Kind
from esmgn_core.testing.claims import Claims

_NEAR = 0.85
_FURTHER = (
    *("recompute", "resolves_residues", "reads_graph"),
    *("predicts_residues", "removes_edges", "couples_proteins"),
)
"""Members of modules inside an encoder, and declarations of classes (:mod:`esmgn_core.engine.advice`)."""


def check_names(claims: Claims, kind: Kind, component: object) -> None:
    """No public attribute or setting has nearly the name of an optional member; it would be ignored."""
    names = {name for name in dir(component) if not name.startswith("_")} - {*dir(nn.Module)}
    _check(claims, "attribute", names, (*optional_members(kind), *_FURTHER))
    if isinstance(component, HasSettings):
        fields = getattr(type(component.settings), "model_fields", {})
        _check(claims, "setting", {*fields}, tuple(HasReadout.__annotations__))


def _check(claims: Claims, what: str, names: set[str], members: tuple[str, ...]) -> None:
    plain = {_plain(member): member for member in members}
    for name in sorted(names - {"Settings", *members}):
        near = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_NEAR)
        claims.require(
            not near,
            f"the {what} '{name}' is not part of the contract; "
            f"rename it to '{plain[near[0]] if near else ''}' if that is meant, else to another name",
        )


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
