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
            "Protein language model ProtBERT-BFD",
            requires={"transformers": "esmgn[transformers]"},
            license="Apache-2.0; weights: see Rostlab/prot_bert_bfd",
            citation="Elnaggar et al. 2021 (doi 10.1109/TPAMI.2021.3095381)",
            reads=("sequence",),
        ),
    ]
