"""Downstream tasks: prediction heads that learn from labels."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.DOWNSTREAM,
            "multilabel",
            "esmgn_downstream.multilabel:Multilabel",
            "Which of many classes a protein has, such as EC numbers or GO terms",
        ),
        ComponentSpec(
            Kind.DOWNSTREAM,
            "classification",
            "esmgn_downstream.classification:Classification",
            "Which one of many classes a protein has, such as its fold",
        ),
        ComponentSpec(
            Kind.DOWNSTREAM,
            "regression",
            "esmgn_downstream.regression:Regression",
            "Numbers that describe a protein, such as the quality of a model",
        ),
        ComponentSpec(
            Kind.DOWNSTREAM,
            "paired",
            "esmgn_downstream.paired:Paired",
            "Yes or no for a protein and its mutant, such as stronger binding",
        ),
    ]
