"""The versions of esmgn that a plugin was made for, found without importing the plugin."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

from esmgn_core.host.names import PACKAGE
from esmgn_core.version import __version__

if TYPE_CHECKING:
    from packaging.requirements import Requirement

CONSTANT = "esmgn_api"
"""Constant in the module of an entry point with the first version of esmgn that the plugin was made for."""
_REMOVED_AFTER = 2
"""Minor releases from the deprecation of a public name to its removal, at the earliest."""


def api_range(version: str) -> str:
    """Versions of esmgn for which a plugin works that was written for ``version``.

    The next minor release can deprecate a public name, and the second one after that can remove the name.

    >>> api_range("0.1.0")
    '>=0.1,<0.4'

    Raises:
        ValueError: ``version`` does not start with two numbers.
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    return f">={major}.{minor},<{major}.{minor + 1 + _REMOVED_AFTER}"


def api_requirement(entry: EntryPoint) -> str:
    """The versions of esmgn that a plugin was made for, such as ``>=0.1,<0.4``; empty if it states none.

    They are stated by the requirement of its package on esmgn, or by :data:`CONSTANT` in the module of its
    entry point. The module is read, but not imported.
    """
    if entry.dist is None or entry.dist.name == PACKAGE:
        return ""
    stated = [
        str(specifier)
        for requirement in _requirements(entry.dist.requires or [])
        for specifier in requirement.specifier
    ]
    # A specifier set has no order. Reversed, the lower bound comes first: >=0.1,<0.4.
    return ",".join(sorted(stated, reverse=True)) or _constant_range(entry.module)


def api_problem(entry: EntryPoint) -> str:
    """Why this version of esmgn cannot use a plugin; empty if it can, or if the plugin states no versions."""
    if not (stated := api_requirement(entry)):
        return ""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import Version

    try:
        allowed = SpecifierSet(stated, prereleases=True)
    except InvalidSpecifier:
        return f"{CONSTANT} = '{stated}' is not a version such as '0.1'"
    # 0.2.0.dev1 has the API of 0.2.0.
    if __version__ in allowed or Version(__version__).base_version in allowed:
        return ""
    package = entry.dist.name if entry.dist else "the plugin"
    return (
        f"made for {PACKAGE} {stated}; this is {__version__}: "
        f"install another version of {package}, or pip install '{PACKAGE}{stated}'"
    )


def _requirements(texts: list[str]) -> Iterator[Requirement]:
    """The requirements of a package on esmgn, without those of its extras."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in texts:
        if not text.lower().startswith(PACKAGE):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if requirement.name.lower() == PACKAGE and applies:
            yield requirement


def _constant_range(module: str) -> str:
    """The versions stated by the constant in a module's source; empty without a constant."""
    spec = _find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return ""
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""  # the import reports it
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        named = any(isinstance(target, ast.Name) and target.id == CONSTANT for target in targets)
        if named and isinstance(node.value, ast.Constant):
            return _range_of(str(node.value.value))
    return ""


def _range_of(constant: str) -> str:
    try:
        return api_range(constant)
    except ValueError:
        return constant


def _find_spec(module: str) -> ModuleSpec | None:
    """The specification of a module. Unlike ``importlib.util.find_spec``, imports no parent packages."""
    parent, *names = module.split(".")
    try:
        spec = importlib.util.find_spec(parent)
    except ValueError:  # a module without a specification, such as __main__
        return None
    for name in names:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{name}", spec.submodule_search_locations)
    return spec
