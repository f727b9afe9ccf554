"""Plugin ``fusion``: five ways to combine a sequence and a structure encoder, and each encoder alone."""

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
            "token",
            "esmgn_fusion.token:TokenFuser",
            "Exchange a token between the layers of both encoders (ESM-2 and GearNet)",
            citation="Kalifa et al. 2025 (FusionProt)",
            reads=("sequence",),
        ),
        ComponentSpec(
            Kind.FUSE,
            "inject",
            "esmgn_fusion.inject:InjectFuser",
            "Add graph convolutions to the attention of the sequence encoder (ESM-2); then as serial",
            citation="Chen et al. 2024 (arXiv 2401.14819)",
        ),
        ComponentSpec(
            Kind.STRUCT,
            "identity",
            "esmgn_fusion.identity:Identity",
            "Return the input features; for fusers that read the graph themselves",
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
