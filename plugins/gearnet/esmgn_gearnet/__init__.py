"""GearNet and the relational residue graph it runs on."""

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
        ),
        ComponentSpec(
            Kind.GRAPH,
            "relational",
            "esmgn_gearnet.graph:RelationalGraph",
            "Sequential, radius and nearest-neighbour edges: seven relations",
        ),
    ]
