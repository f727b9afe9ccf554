"""Plugin ``pyg``: structure encoders built from torch-geometric's layers."""

from esmgn_core import ComponentSpec, Kind, hookimpl

_ENCODERS = {
    "pyg_dimenet": ("dimenet:DimeNet", "DimeNet++: messages from distances and angles"),
    "pyg_egnn": ("egnn:EGNN", "EGNN: equivariant messages that also move the CA atoms"),
    "pyg_gat": ("convs:GAT", "GATv2: graph attention with edge relations"),
    "pyg_gcn": ("convs:GCN", "GCN: graph convolutional network"),
    "pyg_gin": ("convs:GIN", "GIN: graph isomorphism network"),
    "pyg_gps": ("gps:GPS", "GPS: messages along edges, and attention over the protein"),
    "pyg_rgcn": ("convs:RGCN", "RGCN: relational graph convolutional network"),
    "pyg_sage": ("convs:SAGE", "GraphSAGE on full neighbourhoods"),
    "pyg_schnet": ("schnet:SchNet", "SchNet: convolutions with filters of the distance"),
    "pyg_transformer": ("convs:Transformer", "Graph transformer with edge relations and distances"),
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
