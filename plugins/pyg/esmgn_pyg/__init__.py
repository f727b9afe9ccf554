"""Plugin ``pyg``: structure encoders built from torch-geometric's layers."""

from esmgn_core import ComponentSpec, Kind, hookimpl

_ENCODERS = {
    "pyg_dimenet": (
        "dimenet:DimeNet",
        "DimeNet++: messages from distances and angles",
        "Gasteiger et al. 2020 (arXiv 2003.03123 and 2011.14115)",
    ),
    "pyg_egnn": (
        "egnn:EGNN",
        "EGNN: equivariant messages that also move the CA atoms",
        "Satorras et al. 2021 (arXiv 2102.09844)",
    ),
    "pyg_gat": (
        "convs:GAT",
        "GATv2: graph attention with edge relations",
        "Brody et al. 2022 (arXiv 2105.14491)",
    ),
    "pyg_gcn": ("convs:GCN", "GCN: graph convolutional network", "Kipf and Welling 2017 (arXiv 1609.02907)"),
    "pyg_gin": ("convs:GIN", "GIN: graph isomorphism network", "Xu et al. 2019 (arXiv 1810.00826)"),
    "pyg_gps": (
        "gps:GPS",
        "GPS: messages along edges, and attention over the protein",
        "Rampasek et al. 2022 (arXiv 2205.12454)",
    ),
    "pyg_rgcn": (
        "convs:RGCN",
        "RGCN: relational graph convolutional network",
        "Schlichtkrull et al. 2018 (arXiv 1703.06103)",
    ),
    "pyg_sage": (
        "convs:SAGE",
        "GraphSAGE on full neighbourhoods",
        "Hamilton et al. 2017 (arXiv 1706.02216)",
    ),
    "pyg_schnet": (
        "schnet:SchNet",
        "SchNet: convolutions with filters of the distance",
        "Schuett et al. 2017 (arXiv 1706.08566)",
    ),
    "pyg_transformer": (
        "convs:Transformer",
        "Graph transformer with edge relations and distances",
        "Shi et al. 2021 (arXiv 2009.03509)",
    ),
}
_READ_DISTANCES = ("pyg_dimenet", "pyg_egnn", "pyg_gps", "pyg_schnet", "pyg_transformer")
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
            requires={"torch_geometric": "esmgn[pyg]"},
            citation=citation,
            reads=("CA",) if name in _READ_DISTANCES else (),
        )
        for name, (target, summary, citation) in _ENCODERS.items()
    ]
