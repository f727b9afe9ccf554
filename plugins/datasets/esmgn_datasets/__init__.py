"""Plugin ``datasets``: made-up proteins, structure files, stores and labelled benchmarks."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.DATA,
            "sample",
            "esmgn_datasets.sample:Sample",
            "Made-up small proteins, generated at start: for first tries, not for science",
        ),
        ComponentSpec(
            Kind.DATA,
            "folder",
            "esmgn_datasets.structure_folder:StructureFolder",
            "Structure files (PDB, mmCIF, also compressed) from folders and paths",
        ),
        ComponentSpec(
            Kind.DATA,
            "store",
            "esmgn_datasets.store:StoreDataset",
            "Proteins of a store built by esmgn data build, for large data sets",
        ),
        ComponentSpec(
            Kind.DATA,
            "ec",
            "esmgn_datasets.function:EnzymeCommission",
            "PDB chains with EC numbers (DeepFRI splits)",
            license="Apache-2.0; data: none stated",
            citation="Gligorijevic et al. 2021 (doi 10.1038/s41467-021-23303-9)",
        ),
        ComponentSpec(
            Kind.DATA,
            "go",
            "esmgn_datasets.function:GeneOntology",
            "PDB chains with GO terms (DeepFRI splits)",
            license="Apache-2.0; data: none stated",
            citation="Gligorijevic et al. 2021 (doi 10.1038/s41467-021-23303-9)",
        ),
        ComponentSpec(
            Kind.DATA,
            "psr",
            "esmgn_datasets.atom3d:ModelQuality",
            "Models of CASP targets with their GDT-TS (ATOM3D PSR)",
            license="Apache-2.0; data: none stated",
            citation="Townshend et al. 2021 (arXiv 2012.04035)",
        ),
        ComponentSpec(
            Kind.DATA,
            "msp",
            "esmgn_datasets.atom3d:MutationPairs",
            "Complexes and their mutants, labelled by stronger binding (ATOM3D MSP)",
            license="Apache-2.0; data: none stated",
            citation="Townshend et al. 2021 (arXiv 2012.04035)",
        ),
        ComponentSpec(
            Kind.DATA,
            "fold",
            "esmgn_datasets.folds:Folds",
            "SCOP domains with their folds (three test sets)",
            license="Apache-2.0; data: none stated",
            citation="Hou et al. 2018 (doi 10.1093/bioinformatics/btx780)",
        ),
        ComponentSpec(
            Kind.DATA,
            "csv",
            "esmgn_datasets.table:Table",
            "Your own table of structure files and labels",
        ),
    ]
