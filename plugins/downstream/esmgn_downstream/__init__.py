"""Plugin ``downstream``: prediction heads trained on labels."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.DOWNSTREAM,
            "multilabel",
            "esmgn_downstream.multilabel:Multilabel",
            "Predict any number of classes of a protein, such as EC numbers or GO terms",
            reads=("labels",),
        ),
        ComponentSpec(
            Kind.DOWNSTREAM,
            "classification",
            "esmgn_downstream.classification:Classification",
            "Predict one class of a protein, such as its fold",
            reads=("labels",),
        ),
        ComponentSpec(
            Kind.DOWNSTREAM,
            "regression",
            "esmgn_downstream.regression:Regression",
            "Predict numbers for a protein, such as the quality of a model",
            reads=("labels",),
        ),
        ComponentSpec(
            Kind.DOWNSTREAM,
            "paired",
            "esmgn_downstream.paired:Paired",
            "Predict yes or no for a protein and its mutant, such as stronger binding",
            reads=("labels",),
        ),
    ]
