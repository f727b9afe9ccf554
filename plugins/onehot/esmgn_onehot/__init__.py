"""Plugin ``onehot``: a sequence encoder without parameters, the baseline of every fusion."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.SEQ,
            "onehot",
            "esmgn_onehot.encoder:OneHot",
            "One-hot residue types without parameters, to run the structure encoder alone",
            reads=("sequence",),
        ),
    ]
