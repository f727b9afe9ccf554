"""Datasets: made-up sample proteins, folders of structure files, stores."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.DATA,
            "sample",
            "esmgn_datasets.sample:Sample",
            "Made-up small proteins, generated on the spot: for trying out, not for science",
        ),
        ComponentSpec(
            Kind.DATA,
            "folder",
            "esmgn_datasets.structure_folder:StructureFolder",
            "Structure files (PDB, mmCIF, also gzipped) from folders and paths",
        ),
        ComponentSpec(
            Kind.DATA,
            "store",
            "esmgn_datasets.store:StoreDataset",
            "Proteins of a store, which esmgn data build makes from any number of structures",
        ),
    ]
