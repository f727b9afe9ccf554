"""The structure formats of this installation, of core and of plugins."""

from __future__ import annotations

from esmgn_core.errors import PluginError
from esmgn_core.host.registry import Registry, discover
from esmgn_core.io.formats import FORMATS, Format, Formats
from esmgn_core.spec import Kind


def structure_formats(registry: Registry | None = None) -> Formats:
    """Collect all structure formats by name, for the argument ``formats`` of readers.

    Args:
        registry: the components; those of this installation by default.

    Raises:
        PluginError: the format of a plugin cannot be imported, is not a :class:`Format`, or has a name that
            is in use.
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
