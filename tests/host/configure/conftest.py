"""Components with presets, and what a run makes of layers of settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from esmgn_core.errors import EsmgnError
from esmgn_core.host.configure import (
    Tables,
    component_settings,
    configure,
)
from esmgn_core.host.presets import read_registry, shipped_registry
from esmgn_core.host.registry import Registry, discover
from esmgn_core.settings import ComponentSettings, ComponentTable
from esmgn_core.spec import Kind

from ...conftest import PluginHost

SHIPPED = {kind: name for kind in Kind if (name := read_registry(shipped_registry()).defaults.get(kind))}
"""What a run uses for a kind that nobody names."""


class Checkpoint(ComponentSettings):
    url: str
    md5: str | None = None


class Encoder:
    class Settings(ComponentSettings):
        num_layers: int = Field(6, ge=1)
        weights: str = "pretrained"
        checkpoint: Checkpoint | None = None


class Plain:
    class Settings(ComponentSettings):
        width: int = 8
        path: tuple[Path, ...] = ()


class WithoutSettings:
    pass


class NamesItself:
    class Settings(ComponentSettings):
        name: str = "x"


PRESETS = """
schema = 1
[seq.esm2_650m]
component = "lm"
summary = "The default"
[seq.small]
component = "lm"
summary = "Small"
settings = { num_layers = 2 }
checkpoint = { url = "https://example.org/small.pt", md5 = "1" }
[seq.large]
component = "lm"
summary = "Large"
settings = { num_layers = 12, weights = "random" }
[seq.wrong]
component = "lm"
summary = "Wrong"
settings = { layers = 12 }
"""


@pytest.fixture
def registry(bare_host: PluginHost) -> Registry:
    """Components under the names of the defaults, ``lm`` with presets, and some broken ones."""
    specs = [bare_host.component(kind, name, Plain) for kind, name in SHIPPED.items() if kind != Kind.SEQ]
    specs += [bare_host.component(Kind.SEQ, "lm", Encoder), bare_host.component(Kind.DATA, "folder", Plain)]
    specs += [bare_host.component(Kind.FUSE, "bare", WithoutSettings)]
    specs += [bare_host.component(Kind.FUSE, "taken", NamesItself)]
    specs += [
        replace(bare_host.component(Kind.STRUCT, "vectors", Plain), graph="ball"),
        bare_host.component(Kind.GRAPH, "ball", Plain),
    ]
    bare_host.install("test", *specs)
    bare_host.user_registry(PRESETS)
    return discover()


def seq_settings(registry: Registry, *layers: Tables) -> dict[str, Any]:
    """Settings of the sequence encoder that a run ends up with."""
    return dict(component_settings(registry, Kind.SEQ, configure(registry, layers))[2])


def resolved(registry: Registry, *layers: Tables) -> Tables:
    """The tables of the run file that a run leaves behind."""
    config = configure(registry, layers)
    tables = config.model_dump(mode="json", exclude_none=True)
    for kind in config.kinds:
        spec, _, settings = component_settings(registry, kind, config)
        name = getattr(config, kind).name
        table = ComponentTable(
            name=name, component=spec.name, **settings.model_dump(mode="json", exclude_none=True)
        )
        tables[kind] = table.model_dump(exclude_none=True)
    return {str(name): table for name, table in tables.items()}


def message(error: pytest.ExceptionInfo[EsmgnError]) -> str:
    return str(error.value)
