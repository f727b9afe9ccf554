"""Plugin ``esm2``: the protein language models ESM-2, ESM-1b and ESM-1v."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """The sequence encoders ``esm1`` and ``esm2``."""
    return [
        ComponentSpec(
            Kind.SEQ,
            "esm1",
            "esmgn_esm2.esm1:ESM1",
            "Protein language models ESM-1b and ESM-1v, computed without padding",
            citation="Rives et al. 2021 (doi 10.1073/pnas.2016239118)",
            reads=("sequence",),
        ),
        ComponentSpec(
            Kind.SEQ,
            "esm2",
            "esmgn_esm2.encoder:ESM2",
            "Protein language model ESM-2, computed without padding",
            license="Apache-2.0; weights: MIT",
            citation="Lin et al. 2023 (doi 10.1126/science.ade2574)",
            reads=("sequence",),
        ),
    ]
