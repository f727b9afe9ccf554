"""The dataset ``fold``: domains of SCOP with their folds."""

from __future__ import annotations

from pathlib import Path

import h5py

from esmgn_core.batch import Protein
from esmgn_core.errors import StructureError
from esmgn_core.io import Refusal
from esmgn_core.io.atom3d import atoms_to_protein
from esmgn_core.settings import ComponentSettings
from esmgn_core.text import read_lines
from esmgn_core.weights import RemoteFile
from esmgn_datasets.archives import folder_with, unpacked
from esmgn_datasets.labelled import Gathered, LabelledProteins

FOLD_ARCHIVE = RemoteFile(
    url="https://zenodo.org/records/7593591/files/fold3d.zip",
    md5="7b052a94afa4c66f9bebeb9efd769186",
    license="none stated",
)
_SPLITS = {
    "train": "train",
    "valid": "valid",
    "test_fold": "test_fold",
    "test_superfamily": "test_superfamily",
    "test_family": "test_family",
}


class Folds(LabelledProteins):
    """Domains with one of 1,195 folds; three test sets, of new folds' superfamilies, families and members.

    Source: Hermosilla et al. 2021 (arXiv 2007.06252); Hou et al. 2018 (doi 10.1093/bioinformatics/btx780).

    Raises:
        WeightsError: the archive cannot be had.
        StructureError: the folder is not the unpacked archive, or a file of it is damaged.
    """

    class Settings(ComponentSettings):
        """Settings of :class:`Folds`."""

        path: Path | None = None
        """Folder of the unpacked archive; not set: the published archive, downloaded once."""

    def __init__(self, settings: Settings) -> None:
        root = settings.path or unpacked(FOLD_ARCHIVE)
        root = folder_with(root, "class_map.txt", "train.txt", what="fold dataset")
        rows = (line.split("\t") for line in _lines(root / "class_map.txt"))
        number = {fold: int(index) for fold, index in rows}
        gathered = Gathered()
        for split, folder in _SPLITS.items():
            for line in _lines(root / f"{split}.txt"):
                domain, *_, fold = line.split("\t")
                file = root / folder / f"{domain}.hdf5"
                try:
                    gathered.add(split, [read_domain(file)], [number[fold]])
                except (OSError, KeyError, StructureError) as error:
                    gathered.refused.append(Refusal(file, str(error)))
        self.hold(gathered, sorted(number, key=number.__getitem__), classes=False)


def read_domain(file: Path) -> Protein:
    """The protein in one HDF5 file of the archive; it has one chain and no insertion codes.

    Raises:
        OSError: the file is missing or no HDF5.
        KeyError: a data set is missing in it.
        StructureError: there is no protein in it.
    """
    with h5py.File(file) as content:
        position = content["atom_pos"][0]
        names = [name.decode() for name in content["atom_names"][:]]
        residues = content["atom_residue_id"][:].tolist()
        kinds = [name.decode() for name in content["atom_residue_names"][:]]
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
        **{axis: position[:, column].tolist() for column, axis in enumerate("xyz")},
    }
    return atoms_to_protein(atoms, file.stem)


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in read_lines(file) if line.strip()]
    except (OSError, ValueError) as error:
        raise StructureError(f"cannot read {file}: {error}") from error
