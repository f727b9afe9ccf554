"""Fusions of a sequence and a structure encoder."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.FUSE,
            "serial",
            "esmgn_fusion.serial:SerialFuser",
            "Sequence representations are the structure encoder's input; both are the output",
        ),
    ]
