"""Plugin ``cdconv``: the structure encoder CDConv."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.STRUCT,
            "cdconv",
            "esmgn_cdconv.encoder:CDConv",
            "CDConv: continuous-discrete convolutions with sequence pooling (Fan et al. 2023)",
            graph="radius",
            citation="Fan et al. 2023 (ICLR)",
            reads=("CA",),
        ),
    ]
