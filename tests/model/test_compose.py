"""Components are checked against their contract before they are used."""

# ruff: noqa: ARG002 - signatures are what is tested

from __future__ import annotations

import re
from typing import Any

import pytest
from torch import nn

from esmgn_core.errors import PluginError
from esmgn_core.host.components import build_component
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import ComponentSpec, Kind

SPEC = ComponentSpec(Kind.STRUCT, "mine", "my_package:Mine", "A test")


class Settings(ComponentSettings):
    pass


class WithoutWidth(nn.Module):
    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__()

    def forward(self) -> None: ...


class NoModule:
    output_dim = 3

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None: ...

    def __call__(self) -> None: ...


class OtherSignature(nn.Module):
    output_dim = 3

    def __init__(self, settings: Settings, width: int) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (WithoutWidth, "lacks: output_dim"),
        (NoModule, "lacks: torch.nn.Module as a base class"),
        (OtherSignature, "cannot be built with (settings, input_dim=, num_relations=): missing a required"),
    ],
)
def test_what_a_component_lacks_is_named(component: type, message: str) -> None:
    with pytest.raises(PluginError, match=re.escape(f"structure encoder 'mine' (my_package:Mine) {message}")):
        build_component(SPEC, component, Settings(), input_dim=4, num_relations=7)


def blueprint(**parts: Any) -> Blueprint:
    small = ["seq.name=esm2_tiny", "struct.hidden_dim=8", "struct.num_layers=1", "data.num_proteins=2"]
    drawn = resolve(discover(), configure(discover(), [parse_assignments(small)]))
    replaced: dict[Any, Any] = {**drawn.parts, **parts}
    return Blueprint(drawn.config, replaced)


def test_a_fuser_that_does_not_say_what_the_structure_encoder_reads() -> None:
    spec = ComponentSpec(Kind.FUSE, "mine", "my_package:Mine", "A test")
    with pytest.raises(PluginError, match="lacks: structure_input_dim"):
        blueprint(**{Kind.FUSE: (spec, nn.Identity, Settings())}).encoder()


def test_the_seed_of_the_run_decides_the_initial_weights() -> None:
    first, second = (blueprint().encoder().state_dict() for _ in range(2))
    assert all(first[name].equal(second[name]) for name in first)


def test_a_resolved_configuration_has_every_setting() -> None:
    resolved = blueprint().resolved()
    assert resolved.struct.settings["readout"] == "sum"
    assert (resolved.seq.name, resolved.seq.component) == ("esm2_tiny", "esm2")
