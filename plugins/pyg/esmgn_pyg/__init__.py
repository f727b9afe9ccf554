"""Structure encoders made of torch-geometric's layers."""

from esmgn_core import ComponentSpec, Kind, hookimpl

_ENCODERS = {
    "pyg_dimenet": ("dimenet:DimeNet", "DimeNet++: messages that know distances and angles"),
    "pyg_egnn": ("egnn:EGNN", "EGNN: messages that know relations and distances, and move the CA atoms"),
    "pyg_gat": ("convs:GAT", "Graph attention, GATv2, that knows relations"),
    "pyg_gcn": ("convs:GCN", "Graph convolutional network"),
    "pyg_gin": ("convs:GIN", "Graph isomorphism network"),
    "pyg_gps": ("gps:GPS", "GPS: messages along edges and attention over the protein"),
    "pyg_rgcn": ("convs:RGCN", "Relational graph convolutional network"),
    "pyg_sage": ("convs:SAGE", "GraphSAGE"),
    "pyg_schnet": ("schnet:SchNet", "SchNet: filters that are functions of distance"),
    "pyg_transformer": ("convs:Transformer", "Graph transformer that knows relations and distances"),
}
_READ_DISTANCES_ALONE = ("pyg_dimenet", "pyg_schnet")


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.STRUCT,
            name,
            f"esmgn_pyg.{target}",
            summary,
            graph="radius" if name in _READ_DISTANCES_ALONE else "",
        )
        for name, (target, summary) in _ENCODERS.items()
    ]
