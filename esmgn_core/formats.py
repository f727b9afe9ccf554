"""The formats of structure files of this installation: those of core, and those of plugins."""

from __future__ import annotations

from esmgn_core.errors import PluginError
from esmgn_core.host.registry import Registry, discover
from esmgn_core.io.formats import FORMATS, Format, Formats
from esmgn_core.spec import Kind


def structure_formats(registry: Registry | None = None) -> Formats:
    """All structure formats by name; readers of structure files take them as an argument.

    Args:
        registry: all components; those of this installation if not given.

    Raises:
        PluginError: the format of a plugin cannot be imported, is not a :class:`Format`, or has the name of
            another.
    """
    registry = registry or discover()
    formats = dict(FORMATS)
    for spec, plugin in registry.components(Kind.FORMAT):
        found: object = registry.load(spec)
        hint = f"switch the plugin off: ESMGN_DISABLE={plugin.name}"
        if not isinstance(found, Format):
            raise PluginError(f"structure format '{spec.name}': {spec.target} is not a Format", hint)
        if spec.name in formats:
            raise PluginError(f"there are two structure formats '{spec.name}'", hint)
        formats[spec.name] = found
    return formats
