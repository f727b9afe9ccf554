"""The dataset ``fold``: SCOP domains with their folds."""

from __future__ import annotations

from pathlib import Path

from esmgn_core.batch import Protein
from esmgn_core.errors import StructureError
from esmgn_core.io import Refusal, UnreadableError, atoms_to_residues, read_datasets
from esmgn_core.settings import ComponentSettings
from esmgn_core.text import read_lines
from esmgn_core.weights import RemoteFile
from esmgn_datasets.archives import folder_with, unpacked
from esmgn_datasets.labelled import Gathered, LabeledProteins

FOLD_ARCHIVE = RemoteFile(
    url="https://zenodo.org/records/7593591/files/fold3d.zip",
    md5="7b052a94afa4c66f9bebeb9efd769186",
    license="none stated",
)
_DATASETS = ("atom_pos", "atom_names", "atom_residue_names", "atom_residue_id")
_SPLITS = ("train", "valid", "test_fold", "test_superfamily", "test_family")
"""Splits; their proteins are in folders of the same names."""


class Folds(LabeledProteins):
    """Domains with one of 1,195 folds, and three test sets.

    The superfamilies of ``test_fold``, the families of ``test_superfamily`` and the domains of
    ``test_family`` do not occur in training. Damaged files are left out, each with its reason.

    Source: Hermosilla et al. 2021 (arXiv 2007.06252); Hou et al. 2018 (doi 10.1093/bioinformatics/btx780).

    Raises:
        WeightsError: the archive cannot be downloaded.
        StructureError: the folder is not the unpacked archive, or no training protein is left.
    """

    class Settings(ComponentSettings):
        """Settings of :class:`Folds`."""

        path: Path | None = None
        """Folder of the unpacked archive. If not set, the published archive is downloaded."""

    def __init__(self, settings: Settings) -> None:
        root = settings.path or unpacked(FOLD_ARCHIVE)
        root = folder_with(root, "class_map.txt", "train.txt", what="fold dataset")
        rows = (line.split("\t") for line in _lines(root / "class_map.txt"))
        number = {fold: int(index) for fold, index in rows}
        gathered = Gathered()
        for split in _SPLITS:
            for line in _lines(root / f"{split}.txt"):
                domain, *_, fold = line.split("\t")
                file = root / split / f"{domain}.hdf5"
                try:
                    gathered.add(split, [read_domain(file)], [number[fold]])
                except (KeyError, UnreadableError) as error:
                    gathered.refused.append(Refusal(file, str(error)))
        self.hold(gathered, sorted(number, key=number.__getitem__), classes=False)


def read_domain(file: Path) -> Protein:
    """Read the protein of one HDF5 file of the archive. It has one chain and no insertion codes.

    Raises:
        UnreadableError: the file is missing or damaged, or contains no protein.
    """
    content = read_datasets(file, _DATASETS)
    try:
        position = content["atom_pos"][0]
        residues = content["atom_residue_id"].tolist()
        names, kinds = ([name.decode() for name in content[key].tolist()] for key in _DATASETS[1:3])
        x, y, z = position.T.tolist()
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnreadableError(f"its datasets differ in form from those of the archive ({error})") from error
    blank = [" "] * len(names)
    atoms = {
        "chain": ["A"] * len(names),
        "hetero": blank,
        "insertion_code": blank,
        "altloc": blank,
        "occupancy": [1.0] * len(names),
        "bfactor": [0.0] * len(names),
        "element": [name[0] for name in names],
        "residue": residues,
        "resname": kinds,
        "name": names,
        "x": x,
        "y": y,
        "z": z,
    }
    return atoms_to_residues(atoms).protein(file.stem)


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in read_lines(file) if line.strip()]
    except (OSError, ValueError) as error:
        raise StructureError(f"cannot read {file}: {error}") from error
