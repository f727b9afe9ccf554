"""The model that a published file holds: its components, its tensors, and how a file differs from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from esmgn_core.errors import PluginError, SettingsError, WeightsError, did_you_mean
from esmgn_core.host.configure import Tables, check_tables, component_settings, configure
from esmgn_core.host.presets import PublishedLayout
from esmgn_core.host.registry import Registry
from esmgn_core.model.compose import Blueprint
from esmgn_core.protocols import PublishedFile, PublishedNames, PublishedSizes
from esmgn_core.settings import RunConfig
from esmgn_core.spec import Kind
from esmgn_core.weights import state_dict

MODULES = {Kind.SEQ: "sequence", Kind.STRUCT: "structure", Kind.FUSE: "fuser"}
"""Name of the submodule of a joint encoder, by kind of component."""


def encoder_blueprint(registry: Registry, config: RunConfig) -> Blueprint:
    """The components of an encoder and their settings, without a task and a dataset."""
    kinds = (*MODULES, Kind.GRAPH)
    return Blueprint(config, {kind: component_settings(registry, kind, config) for kind in kinds})


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model in a published layout.

    Attributes:
        layout: the layout.
        tables: the tables of a run file that give the model.
        blueprint: its components.
        modules: its components on the meta device, for names, shapes and types of their tensors.
    """

    layout: PublishedLayout
    tables: Tables
    blueprint: Blueprint
    modules: Mapping[Kind, nn.Module]

    @classmethod
    def built(cls, layout: PublishedLayout, tables: Tables, blueprint: Blueprint) -> PublishedModel:
        """The model of a blueprint.

        Raises:
            PluginError, SettingsError: its components do not fit each other.
        """
        bare = blueprint.with_random_weights()
        with torch.device("meta"):
            if layout.run.keys() == {Kind.SEQ}:
                return cls(layout, tables, blueprint, {Kind.SEQ: bare.build(Kind.SEQ)})
            encoder = bare.encoder()
        modules = {kind: encoder.get_submodule(name) for kind, name in MODULES.items()}
        return cls(layout, tables, blueprint, modules)

    def expected(self) -> dict[str, Tensor]:
        """Every tensor of a file, by published name: constants on the CPU, all others on the meta device."""
        return self.to_published(self._own_state(self.modules), {})

    def num_parameters(self, names: Mapping[str, Any]) -> int:
        """Parameters among the tensors of these names, tied ones counted once; without buffers."""
        # Tied tensors are one object. Mappings permute tensors, so that the sizes of buffers stay.
        found = {
            id(value): value for name, value in self.expected().items() if value.is_meta and name in names
        }
        buffers = [
            buffer
            for kind in self.layout.parts
            for name, buffer in self.modules[kind].named_buffers()
            if name in self.modules[kind].state_dict()
        ]
        return sum(value.numel() for value in found.values()) - sum(buffer.numel() for buffer in buffers)

    def to_published(
        self, ours: Mapping[str, Tensor], unused: Mapping[Kind, dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The tensors of a file.

        Args:
            ours: tensors of a joint encoder by our names.
            unused: for each kind tensors that our component does not use, by its published names.

        Raises:
            PluginError: two components of the layout have a tensor of one name.
        """
        found = {name: torch.tensor(values) for name, values in self.layout.constants.items()}
        for kind, prefix in self.layout.parts.items():
            module, beginning = self.modules[kind], f"{MODULES[kind]}."
            state = {name.removeprefix(beginning): ours[name] for name in ours if name.startswith(beginning)}
            if isinstance(module, PublishedNames):
                state = module.to_published(state, unused.get(kind, {}))
            if twice := [name for name in state if prefix + name in found]:
                raise PluginError(f"{_what(self.layout)}: two components have the tensor {prefix}{twice[0]}")
            found |= {prefix + name: tensor for name, tensor in state.items()}
        return found

    def to_ours(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Tensors of the joint encoder by our names, and unused ones by published names.

        Raises:
            PluginError: the layout does not fill each tensor of the encoder.
        """
        ours: dict[str, Tensor] = {}
        unused: dict[str, Tensor] = {}
        for kind, tensors in split(self.layout, state).items():
            module = self.modules[kind]
            left: dict[str, Tensor] = {}
            if isinstance(module, PublishedNames):
                tensors, left = module.from_published(tensors)
            ours |= {f"{MODULES[kind]}.{name}": tensor for name, tensor in tensors.items()}
            unused |= {self.layout.parts[kind] + name: tensor for name, tensor in left.items()}
        needed = self._own_state(self.modules)
        shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in (ours, needed)]
        if wrong := sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()}):
            raise PluginError(f"{_what(self.layout)} does not fill the encoder: {', '.join(wrong[:5])}")
        return ours, unused

    def differences(self, state: Mapping[str, Any]) -> list[str]:
        """One line for each missing, unexpected, wrong-shaped or wrong-valued tensor; empty if none."""
        expected = self.expected()
        required = [name for name in expected if not name.startswith(self.layout.optional)]
        missing = [f"missing: {name} {_shown(expected[name])}" for name in required if name not in state]
        unexpected = [f"unexpected: {name} {_shown(state[name])}" for name in state if name not in expected]
        other = [
            f"wrong shape: {name} {_shown(state[name])} in the file, {_shown(tensor)} expected"
            for name, tensor in expected.items()
            if name in state and _shown(state[name]) != _shown(tensor)
        ]
        values = (
            []
            if other
            else [
                f"wrong values: {name} differs from the constant that every file of this layout holds"
                for name, tensor in expected.items()
                # Wide enough for constants that were stored in half precision.
                if name in state
                and not tensor.is_meta
                and not torch.allclose(state[name], tensor, 4e-3, 1e-7)
            ]
        )
        return [*missing, *unexpected, *other, *values]

    @staticmethod
    def _own_state(modules: Mapping[Kind, nn.Module]) -> dict[str, Tensor]:
        return {
            f"{MODULES[kind]}.{name}": tensor
            for kind, module in modules.items()
            for name, tensor in module.state_dict().items()
        }


def split(layout: PublishedLayout, tensors: Mapping[str, Any]) -> dict[Kind, dict[str, Any]]:
    """The tensors of each component without its prefix; the longest prefix that fits decides."""
    parts: dict[Kind, dict[str, Any]] = {kind: {} for kind in layout.parts}
    longest_first = sorted(layout.parts.items(), key=lambda part: -len(part[1]))
    for name, tensor in tensors.items():
        for kind, prefix in longest_first:
            if name.startswith(prefix) and name not in layout.constants:
                parts[kind][name.removeprefix(prefix)] = tensor
                break
    return parts


def layout_named(registry: Registry, name: str, where: str) -> PublishedLayout:
    """The layout of this name.

    Raises:
        SettingsError: there is none.
    """
    known = registry.catalogue.layouts
    if name not in known:
        available = f"available: {', '.join(known)}"
        raise SettingsError(f"unknown layout '{name}' ({where})", *did_you_mean(name, known), available)
    return known[name]


def choices(layout: PublishedLayout) -> Iterator[Tables]:
    """The tables of a run, once for each choice among alternatives."""
    listed = [tables if isinstance(tables, list) else [tables] for tables in layout.run.values()]
    for chosen in itertools.product(*listed):
        yield check_tables(dict(zip(layout.run, chosen, strict=True)), origin=_what(layout))


def fit(
    registry: Registry, layout: PublishedLayout, content: Mapping[str, Any]
) -> tuple[PublishedModel, dict[str, Any]]:
    """The model of a layout that differs least from a file, and the file's tensors by published name.

    Args:
        registry: all components.
        layout: the layout of the file.
        content: content of the file.

    Raises:
        WeightsError: there are too few tensors to find the sizes of the model.
        UnknownComponentError: no plugin provides its components.
    """
    found, problems = [], []
    for tables in choices(layout):
        blueprint = encoder_blueprint(registry, configure(registry, [tables]))
        state = _unpacked(layout, blueprint, content)
        try:
            sized = _sized(layout, tables, blueprint, state)
            blueprint = encoder_blueprint(registry, configure(registry, [sized]))
        except (SettingsError, WeightsError) as error:  # sizes that no model has: the file is damaged
            problems.append(error)
            continue
        model = PublishedModel.built(layout, sized, blueprint)
        found.append((len(model.differences(state)), model, state))
    if not found:
        raise WeightsError(problems[0].message)
    _, model, state = min(found, key=lambda fitted: fitted[0])
    return model, state


def _sized(layout: PublishedLayout, tables: Tables, blueprint: Blueprint, state: Mapping[str, Any]) -> Tables:
    """The tables with the sizes that the components find in the tensors.

    Raises:
        WeightsError: there are too few of them.
    """
    sized = dict(tables)
    for kind, tensors in split(layout, state).items():
        spec, component, _ = blueprint.parts[kind]
        if isinstance(component, PublishedSizes):
            tensors = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
            settings = component.published_settings(tensors)
            if settings is None:
                raise WeightsError(f"too few tensors of the {kind.long_name} '{spec.name}' to find its sizes")
            sized[kind] = {**tables[kind], **settings}
    return sized


def _unpacked(layout: PublishedLayout, blueprint: Blueprint, content: Mapping[str, Any]) -> dict[str, Any]:
    if len(layout.parts) == 1:
        [kind] = layout.parts
        component = blueprint.parts[kind][1]
        if isinstance(component, PublishedFile):
            return component.unpack_published(content)
    return state_dict(content)


def _what(layout: PublishedLayout) -> str:
    return f"[layout.{layout.name}] in {layout.origin}"


def _shown(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    suffix = "" if value.dtype == torch.float32 else f" {str(value.dtype).removeprefix('torch.')}"
    return f"{list(value.shape)}{suffix}"
