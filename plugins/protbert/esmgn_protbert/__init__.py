"""ProtBERT, the protein language model of Elnaggar et al. 2021, through the extra ``transformers``."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """The sequence encoder ``protbert``."""
    return [
        ComponentSpec(
            Kind.SEQ,
            "protbert",
            "esmgn_protbert.encoder:ProtBERT",
            "Protein language model ProtBERT-BFD, by transformers",
        ),
    ]
