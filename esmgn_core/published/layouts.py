"""Models of published layouts: components, expected tensors, and differences of a file from them."""

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
    """The components of an encoder and their settings, without task and dataset."""
    kinds = [kind for kind in (*MODULES, Kind.GRAPH) if kind in config.kinds]
    return Blueprint(config, {kind: component_settings(registry, kind, config) for kind in kinds})


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model in a published layout.

    Attributes:
        layout: the layout.
        tables: tables of a run file with this model.
        blueprint: components of the model.
        modules: modules on the meta device, for names, shapes and types of tensors.
    """

    layout: PublishedLayout
    tables: Tables
    blueprint: Blueprint
    modules: Mapping[Kind, nn.Module]

    @classmethod
    def build(cls, layout: PublishedLayout, tables: Tables, blueprint: Blueprint) -> PublishedModel:
        """Build the modules on the meta device.

        Raises:
            PluginError, SettingsError: the components do not fit together.
        """
        bare = blueprint.with_random_weights()
        with torch.device("meta"):
            if layout.run.keys() == {Kind.SEQ}:
                return cls(layout, tables, blueprint, {Kind.SEQ: bare.build(Kind.SEQ)})
            encoder = bare.encoder()
        modules = {kind: encoder.get_submodule(name) for kind, name in MODULES.items()}
        return cls(layout, tables, blueprint, modules)

    def expected(self) -> dict[str, Tensor]:
        """All tensors of a file by published name: constants on the CPU, others on the meta device."""
        return self.to_published(self._own_state(), {})

    def num_parameters(self, names: Mapping[str, Any]) -> int:
        """Number of parameters in the tensors ``names``, without buffers; tied tensors count once."""
        # Tied tensors are one object. Mappings may permute a buffer, but keep its size.
        parameters = {
            id(value): value for name, value in self.expected().items() if value.is_meta and name in names
        }
        buffers = [
            buffer
            for kind in self.layout.parts
            for name, buffer in self.modules[kind].named_buffers()
            if name in self.modules[kind].state_dict()
        ]
        return sum(value.numel() for value in parameters.values()) - sum(buffer.numel() for buffer in buffers)

    def to_published(
        self, ours: Mapping[str, Tensor], unused: Mapping[Kind, dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Convert tensors to published names.

        Args:
            ours: tensors of a joint encoder by our names.
            unused: tensors that our components do not use, by kind and published name.

        Raises:
            PluginError: two components have a tensor with the same name.
        """
        tensors = {name: torch.tensor(values) for name, values in self.layout.constants.items()}
        for kind, prefix in self.layout.parts.items():
            module, beginning = self.modules[kind], f"{MODULES[kind]}."
            state = {name.removeprefix(beginning): ours[name] for name in ours if name.startswith(beginning)}
            if isinstance(module, PublishedNames):
                state = module.to_published(state, unused.get(kind, {}))
            if duplicates := [name for name in state if prefix + name in tensors]:
                raise PluginError(
                    f"{_origin(self.layout)}: two components have the tensor {prefix}{duplicates[0]}"
                )
            tensors |= {prefix + name: tensor for name, tensor in state.items()}
        return tensors

    def to_ours(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Convert tensors to our names; return unused tensors, by published names, too.

        Raises:
            PluginError: the result does not match the tensors of the encoder.
        """
        ours: dict[str, Tensor] = {}
        unused: dict[str, Tensor] = {}
        for kind, tensors in split_by_component(self.layout, state).items():
            module = self.modules[kind]
            left: dict[str, Tensor] = {}
            if isinstance(module, PublishedNames):
                tensors, left = module.from_published(tensors)
            ours |= {f"{MODULES[kind]}.{name}": tensor for name, tensor in tensors.items()}
            unused |= {self.layout.parts[kind] + name: tensor for name, tensor in left.items()}
        shapes, needed = (
            {(name, tensor.shape) for name, tensor in tensors.items()}
            for tensors in (ours, self._own_state())
        )
        if wrong := sorted({name for name, _ in shapes ^ needed}):
            raise PluginError(f"{_origin(self.layout)} does not match the encoder: {', '.join(wrong[:5])}")
        return ours, unused

    def differences(self, state: Mapping[str, Any]) -> list[str]:
        """A line for each missing, unexpected or wrong tensor."""
        expected = self.expected()
        required = [name for name in expected if not name.startswith(self.layout.optional)]
        missing = [f"missing: {name} {_shown(expected[name])}" for name in required if name not in state]
        unexpected = [f"unexpected: {name} {_shown(state[name])}" for name in state if name not in expected]
        wrong_shape = [
            f"wrong shape: {name} {_shown(state[name])} in the file, {_shown(tensor)} expected"
            for name, tensor in expected.items()
            if name in state and _shown(state[name]) != _shown(tensor)
        ]
        if wrong_shape:
            return [*missing, *unexpected, *wrong_shape]
        wrong_values = [
            f"wrong values: {name} differs from the constant in all files of this layout"
            for name, tensor in expected.items()
            # The tolerance allows constants that were stored in half precision.
            if name in state and not tensor.is_meta and not torch.allclose(state[name], tensor, 4e-3, 1e-7)
        ]
        return [*missing, *unexpected, *wrong_values]

    def _own_state(self) -> dict[str, Tensor]:
        return {
            f"{MODULES[kind]}.{name}": tensor
            for kind, module in self.modules.items()
            for name, tensor in module.state_dict().items()
        }


def split_by_component(layout: PublishedLayout, tensors: Mapping[str, Any]) -> dict[Kind, dict[str, Any]]:
    """The tensors of each component, without prefix; the longest matching prefix decides."""
    parts: dict[Kind, dict[str, Any]] = {kind: {} for kind in layout.parts}
    longest_first = sorted(layout.parts.items(), key=lambda part: -len(part[1]))
    for name, tensor in tensors.items():
        for kind, prefix in longest_first:
            if name.startswith(prefix) and name not in layout.constants:
                parts[kind][name.removeprefix(prefix)] = tensor
                break
    return parts


def layout_named(registry: Registry, name: str, where: str) -> PublishedLayout:
    """The layout with this name.

    Raises:
        SettingsError: the name is unknown.
    """
    layout: PublishedLayout | None = registry.entry("layouts", name)
    if layout is None:
        known = registry.catalogue.layouts
        available = f"available: {', '.join(known)}"
        raise SettingsError(f"unknown layout '{name}' ({where})", *did_you_mean(name, known), available)
    return layout


def choices(layout: PublishedLayout) -> Iterator[Tables]:
    """The tables of a run for each combination of alternative components."""
    listed = [tables if isinstance(tables, list) else [tables] for tables in layout.run.values()]
    for combination in itertools.product(*listed):
        yield check_tables(dict(zip(layout.run, combination, strict=True)), origin=_origin(layout))


def fit(
    registry: Registry, layout: PublishedLayout, content: Mapping[str, Any]
) -> tuple[PublishedModel, dict[str, Any]]:
    """Fit the model of a layout with the fewest differences from a file.

    Args:
        registry: all components.
        layout: the layout of the file.
        content: content of the file.

    Returns:
        The model, and the tensors of the file by published name.

    Raises:
        WeightsError: there are too few tensors to find the sizes of the model.
        UnknownComponentError: no plugin provides its components.
    """
    fitted, problems = [], []
    for tables in choices(layout):
        blueprint = encoder_blueprint(registry, configure(registry, [tables]))
        state = _unpacked(layout, blueprint, content)
        try:
            sized = _sized(layout, tables, blueprint, state)
            blueprint = encoder_blueprint(registry, configure(registry, [sized]))
        except (SettingsError, WeightsError) as error:  # impossible sizes: the file is damaged
            problems.append(error)
            continue
        model = PublishedModel.build(layout, sized, blueprint)
        fitted.append((len(model.differences(state)), model, state))
    if not fitted:
        raise WeightsError(problems[0].message)
    _, model, state = min(fitted, key=lambda candidate: candidate[0])
    return model, state


def _sized(layout: PublishedLayout, tables: Tables, blueprint: Blueprint, state: Mapping[str, Any]) -> Tables:
    """The tables with the sizes of the tensors, as found by the components.

    Raises:
        WeightsError: there are too few tensors.
    """
    sized = dict(tables)
    for kind, tensors in split_by_component(layout, state).items():
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


def _origin(layout: PublishedLayout) -> str:
    return f"[layout.{layout.name}] in {layout.origin}"


def _shown(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    suffix = "" if value.dtype == torch.float32 else f" {str(value.dtype).removeprefix('torch.')}"
    return f"{list(value.shape)}{suffix}"
