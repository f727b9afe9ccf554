"""Plugin ``gearnet``: three GearNet encoders and their relational residue graph."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.STRUCT,
            "gearnet",
            "esmgn_gearnet.encoder:GearNet",
            "GearNet: relational graph convolutions over residues (Zhang et al. 2023)",
            citation="Zhang et al. 2023 (arXiv 2203.06125)",
        ),
        ComponentSpec(
            Kind.STRUCT,
            "gearnet_edge",
            "esmgn_gearnet.edge_encoder:GearNetEdge",
            "GearNet-Edge: GearNet with messages between edges, by their angle (Zhang et al. 2023)",
            citation="Zhang et al. 2023 (arXiv 2203.06125)",
            reads=("CA", "sequence"),
        ),
        ComponentSpec(
            Kind.STRUCT,
            "gearnet_ieconv",
            "esmgn_gearnet.ieconv_encoder:GearNetIEConv",
            "GearNet-IEConv: GearNet-Edge with a learned filter per edge (Zhang et al. 2023)",
            citation="Zhang et al. 2023 (arXiv 2203.06125); Hermosilla et al. 2021 (arXiv 2007.06252)",
            reads=("CA", "sequence"),
        ),
        ComponentSpec(
            Kind.GRAPH,
            "relational",
            "esmgn_gearnet.graph:RelationalGraph",
            "Sequential, radius and nearest-neighbour edges (seven relations)",
            citation="Zhang et al. 2023 (arXiv 2203.06125)",
            reads=("CA",),
        ),
    ]
