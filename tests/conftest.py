"""Fixtures shared by the tests of the core and of the program."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from esmgn_core import hookimpl
from esmgn_core.registry import discover
from esmgn_core.spec import ComponentSpec, Kind


@dataclass
class PluginHost:
    """Stands for this Python installation: packages with esmgn plugins are installed in it."""

    monkeypatch: pytest.MonkeyPatch
    folder: Path
    entries: list[Any] = field(default_factory=list)

    def install(
        self,
        name: str,
        *components: ComponentSpec,
        package: str = "",
        error: BaseException | None = None,
        **hooks: Any,
    ) -> ModuleType:
        """Install a package with one plugin; ``error`` is raised when the plugin is imported."""
        module = ModuleType(f"installed_{package or name}")
        module.__file__ = str(self.folder / module.__name__ / "__init__.py")
        (self.folder / module.__name__).mkdir(exist_ok=True)
        declared = {"esmgn_components": lambda: list(components), **hooks}
        for hook, function in declared.items():
            setattr(module, hook, hookimpl(function))
        self.monkeypatch.setitem(sys.modules, module.__name__, module)

        def load() -> ModuleType:
            if error is not None:
                raise error
            return importlib.import_module(module.__name__)

        dist = SimpleNamespace(name=package or f"esmgn-{name}", version="1.0")
        entry = SimpleNamespace(
            name=name, value=module.__name__, module=module.__name__, dist=dist, load=load
        )
        self.entries.append(entry)
        return module

    def entry_points(self, *, group: str) -> list[Any]:
        """Stands for :func:`importlib.metadata.entry_points`."""
        assert group == "esmgn"
        return self.entries

    def component(
        self, kind: Kind, name: str, component: object = None, summary: str = "A test"
    ) -> ComponentSpec:
        """A specification whose target is this very object."""
        module = ModuleType(f"target_{kind}_{name}")
        if component is not None:
            vars(module)["Component"] = component
        self.monkeypatch.setitem(sys.modules, module.__name__, module)
        return ComponentSpec(kind, name, f"{module.__name__}:Component", summary)


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Neither the user's registry nor variables of this shell have a say; plugins are found anew."""
    for name in ("ESMGN_REGISTRY", "ESMGN_DISABLE", "ESMGN_STRICT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    discover.cache_clear()
    yield monkeypatch
    discover.cache_clear()


@pytest.fixture
def bare_host(clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> PluginHost:
    """An installation without any plugin, not even the shipped ones."""
    host = PluginHost(clean_environment, tmp_path)
    clean_environment.setattr("esmgn_core.registry.entry_points", host.entry_points)
    return host


@pytest.fixture
def host(bare_host: PluginHost) -> PluginHost:
    """This installation, to which plugins can be added."""
    bare_host.entries += entry_points(group="esmgn")
    return bare_host
