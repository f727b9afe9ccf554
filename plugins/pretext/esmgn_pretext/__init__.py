"""Plugin ``pretext``: self-supervised tasks on sequence and structure."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.PRETEXT,
            "residue_type",
            "esmgn_pretext.residue_type:ResidueType",
            "Predict the types of masked residues",
            citation="Zhang et al. 2023 (arXiv 2203.06125)",
            reads=("sequence", "pLDDT"),
        ),
        ComponentSpec(
            Kind.PRETEXT,
            "distance",
            "esmgn_pretext.distance:Distance",
            "Predict the CA-CA distance of edges removed from the graph",
            citation="Zhang et al. 2023 (arXiv 2203.06125)",
            reads=("CA", "pLDDT"),
        ),
        ComponentSpec(
            Kind.PRETEXT,
            "angle",
            "esmgn_pretext.angle:Angle",
            "Predict the angle between consecutive edges removed from the graph",
            citation="Zhang et al. 2023 (arXiv 2203.06125)",
            reads=("CA", "pLDDT"),
        ),
        ComponentSpec(
            Kind.PRETEXT,
            "dihedral",
            "esmgn_pretext.dihedral:Dihedral",
            "Predict the dihedral angle of consecutive edges removed from the graph",
            citation="Zhang et al. 2023 (arXiv 2203.06125)",
            reads=("CA", "pLDDT"),
        ),
        ComponentSpec(
            Kind.PRETEXT,
            "siamdiff",
            "esmgn_pretext.siamdiff:SiamDiff",
            "Predict the noise of each of two views from the other (Zhang et al. 2023)",
            citation="Zhang et al. 2023 (arXiv 2301.12068)",
            reads=("sequence", "CA", "pLDDT"),
        ),
        ComponentSpec(
            Kind.PRETEXT,
            "diffpret",
            "esmgn_pretext.diffpret:DiffPreT",
            "Predict the noise on sequence and structure from the noised protein",
            citation="Zhang et al. 2023 (arXiv 2301.12068)",
            reads=("sequence", "CA", "pLDDT"),
        ),
        ComponentSpec(
            Kind.PRETEXT,
            "multiview_contrast",
            "esmgn_pretext.multiview_contrast:MultiviewContrast",
            "Match two windows of one protein against windows of other proteins",
            citation="Zhang et al. 2023 (arXiv 2203.06125)",
            reads=("pLDDT",),
        ),
    ]
