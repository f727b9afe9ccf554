"""A structure encoder for esmgn."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [ComponentSpec(Kind.STRUCT, "egnn", "esmgn_egnn.encoder:EGNN", "Equivariant messages on CA atoms")]
