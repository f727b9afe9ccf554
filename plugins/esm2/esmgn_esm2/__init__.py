"""ESM-2, the protein language model of Lin et al. 2023."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """The sequence encoder ``esm2``."""
    summary = "Protein language model ESM-2, packed without padding"
    return [ComponentSpec(Kind.SEQ, "esm2", "esmgn_esm2.encoder:ESM2", summary)]
