"""Plugin ``protbert``: the language model ProtBERT-BFD, run by the extra ``transformers``."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """The sequence encoder ``protbert``."""
    return [
        ComponentSpec(
            Kind.SEQ,
            "protbert",
            "esmgn_protbert.encoder:ProtBERT",
            "Protein language model ProtBERT-BFD (needs transformers)",
        ),
    ]
