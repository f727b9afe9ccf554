"""Plugin ``graphs``: residue graphs for any structure encoder."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.GRAPH,
            "radius",
            "esmgn_graphs.radius:RadiusGraph",
            "Edges between CA atoms closer than a radius (one relation)",
            citation="Jing et al. 2021 (arXiv 2009.01411)",
            reads=("CA",),
        ),
    ]
