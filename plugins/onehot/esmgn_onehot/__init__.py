"""A sequence encoder without a language model: the baseline every fusion is compared with."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.SEQ,
            "onehot",
            "esmgn_onehot.encoder:OneHot",
            "One-hot residue types, nothing to train: the structure encoder on its own",
        ),
    ]
