"""Plugin ``hf``: sequence encoders of the library transformers, from a folder or the Hugging Face Hub."""

from esmgn_core import ComponentSpec, Kind, hookimpl

_REQUIRES = {"transformers": "esmgn[transformers]"}


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """The sequence encoders ``hf`` and ``protbert``."""
    return [
        ComponentSpec(
            Kind.SEQ,
            "hf",
            "esmgn_hf.encoder:HuggingFaceEncoder",
            "Any protein language model that transformers loads: ESM C, ProtT5, Ankh, ESM-2 and others",
            requires=_REQUIRES,
            license="Apache-2.0; weights: see the model",
            citation="Wolf et al. 2020 (doi 10.18653/v1/2020.emnlp-demos.6)",
            reads=("sequence",),
        ),
        ComponentSpec(
            Kind.SEQ,
            "protbert",
            "esmgn_hf.protbert:ProtBERT",
            "Protein language model ProtBERT-BFD",
            requires=_REQUIRES,
            license="Apache-2.0; weights: see Rostlab/prot_bert_bfd",
            citation="Elnaggar et al. 2021 (doi 10.1109/TPAMI.2021.3095381)",
            reads=("sequence",),
        ),
    ]
