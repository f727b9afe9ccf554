"""Datasets: made-up proteins, folders of structure files, stores, and proteins with labels."""

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
        ComponentSpec(
            Kind.DATA,
            "ec",
            "esmgn_datasets.function:EnzymeCommission",
            "Chains of the PDB with EC numbers (DeepFRI's splits)",
        ),
        ComponentSpec(
            Kind.DATA,
            "go",
            "esmgn_datasets.function:GeneOntology",
            "Chains of the PDB with GO terms (DeepFRI's splits)",
        ),
        ComponentSpec(
            Kind.DATA,
            "psr",
            "esmgn_datasets.atom3d:ModelQuality",
            "Models of CASP targets with their GDT-TS (ATOM3D)",
        ),
        ComponentSpec(
            Kind.DATA,
            "msp",
            "esmgn_datasets.atom3d:MutationPairs",
            "Complexes and mutants that bind more strongly or not (ATOM3D)",
        ),
        ComponentSpec(
            Kind.DATA,
            "fold",
            "esmgn_datasets.folds:Folds",
            "Domains of SCOP with their folds",
        ),
        ComponentSpec(
            Kind.DATA,
            "csv",
            "esmgn_datasets.table:Table",
            "A table of structure files and labels of your own",
        ),
    ]
