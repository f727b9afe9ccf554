"""Declarations of components."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from esmgn_core.host.registry import discover
from esmgn_core.spec import ComponentSpec, Kind


def spec(**more: Any) -> ComponentSpec:
    return ComponentSpec(Kind.SEQ, "far", "far.encoder:Far", "A test", **more)


def test_missing_requirements_are_found_without_an_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    declared = spec(
        requires={"colorsys": "far", "no_such": "far[x]", "nor_this": "far[x]", "lost": "lost>=2"}
    )
    assert declared.install_command == "pip install 'far[x]' 'lost>=2'"
    assert "colorsys" not in sys.modules
    assert spec(requires={"colorsys": "far"}).install_command == ""
    assert spec().install_command == ""
    monkeypatch.setitem(sys.modules, "without_a_specification", ModuleType("without_a_specification"))
    assert spec(requires={"without_a_specification": "far"}).install_command == ""


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            {"requires": "far[x]"},
            (
                "requires of component 'far' must map modules to what to install, "
                'such as {"module": "package[extra]"}, got \'far[x]\''
            ),
        ),
        (
            {"requires": {"far.fast": "far[x]"}},
            "requires of component 'far' must name top-level modules, got 'far.fast'",
        ),
        (
            {"reads": ("CA", "ca")},
            (
                "reads of component 'far' must be a tuple of sequence, CA, backbone, labels, pLDDT, "
                "got ('CA', 'ca')"
            ),
        ),
        (
            {"reads": "CA"},
            "reads of component 'far' must be a tuple of sequence, CA, backbone, labels, pLDDT, got 'CA'",
        ),
    ],
)
def test_wrong_declarations_are_refused(declared: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        spec(**declared)
    assert str(caught.value) == message


def test_shipped_components_declare_what_they_read_and_their_licence() -> None:
    registry = discover()
    for kind in Kind:
        for declared, plugin in registry.components(kind):
            assert plugin.license_of(declared).startswith("Apache-2.0")
            if kind in (Kind.SEQ, Kind.GRAPH, Kind.DOWNSTREAM):
                assert declared.reads, declared
    reads = {declared.name: declared.reads for declared, _ in registry.components(Kind.STRUCT)}
    assert reads["gvp"] == ("CA",)
    assert reads["pyg_gcn"] == ()


def test_a_declared_licence_replaces_that_of_the_package() -> None:
    registry = discover()
    plugins = {declared.name: (declared, plugin) for declared, plugin in registry.components(Kind.SEQ)}
    declared, plugin = plugins["esm2"]
    assert plugin.license_of(declared) == "Apache-2.0; weights: MIT"
