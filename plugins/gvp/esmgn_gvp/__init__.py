"""Plugin ``gvp``: the structure encoder GVP."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.STRUCT,
            "gvp",
            "esmgn_gvp.encoder:GVPGNN",
            "GVP: equivariant scalar and vector features (Jing et al. 2021)",
            graph="radius",
            citation="Jing et al. 2021 (arXiv 2009.01411)",
            reads=("CA",),
        ),
    ]
