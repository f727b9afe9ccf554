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
        ComponentSpec(
            Kind.FUSE,
            "parallel",
            "esmgn_fusion.parallel:ParallelFuser",
            "Both encoders on their own, the structure encoder on residue types; both are the output",
        ),
        ComponentSpec(
            Kind.FUSE,
            "cross",
            "esmgn_fusion.cross:CrossFuser",
            "Attention over sequence and structure representations of all residues",
        ),
    ]
