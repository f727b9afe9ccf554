"""A wrapped protein language model for esmgn."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    summary = "A transformer with its own alphabet and padded rows"
    return [ComponentSpec(Kind.SEQ, "tokenlm", "esmgn_tokenlm.encoder:TokenLMEncoder", summary)]
