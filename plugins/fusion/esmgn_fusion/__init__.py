"""Plugin ``fusion``: three ways to combine a sequence and a structure encoder, and each encoder alone."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.FUSE,
            "serial",
            "esmgn_fusion.serial:SerialFuser",
            "Feed sequence representations to the structure encoder; return both",
            citation="Zhang et al. 2023 (arXiv 2303.06275)",
        ),
        ComponentSpec(
            Kind.FUSE,
            "parallel",
            "esmgn_fusion.parallel:ParallelFuser",
            "Run both encoders independently (structure on residue types); return both",
            citation="Zhang et al. 2023 (arXiv 2303.06275)",
            reads=("sequence",),
        ),
        ComponentSpec(
            Kind.FUSE,
            "cross",
            "esmgn_fusion.cross:CrossFuser",
            "Attend over the sequence and structure representations of all residues",
            citation="Zhang et al. 2023 (arXiv 2303.06275)",
            reads=("sequence",),
        ),
        ComponentSpec(
            Kind.FUSE,
            "sequence",
            "esmgn_fusion.single:SequenceFuser",
            "Use the sequence encoder alone; no structure is read",
            encoders=(Kind.SEQ,),
        ),
        ComponentSpec(
            Kind.FUSE,
            "structure",
            "esmgn_fusion.single:StructureFuser",
            "Use the structure encoder alone, on residue types",
            encoders=(Kind.STRUCT,),
            reads=("sequence",),
        ),
    ]
