"""The structure encoder GVP."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.STRUCT,
            "gvp",
            "esmgn_gvp.encoder:GVPGNN",
            "GVP: scalars and vectors of geometric vector perceptrons (Jing et al. 2021)",
            graph="radius",
        ),
    ]
