"""The ATOM3D datasets ``psr`` (quality of models) and ``msp`` (mutations of complexes)."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from esmgn_core.batch import Protein
from esmgn_core.errors import StructureError
from esmgn_core.io import Atom3DRecords, Refusal, atoms_to_protein
from esmgn_core.settings import ComponentSettings
from esmgn_core.weights import RemoteFile
from esmgn_datasets.archives import folder_with, unpacked
from esmgn_datasets.labelled import Gathered, LabeledProteins

PSR_ARCHIVE = RemoteFile(
    url="https://zenodo.org/records/4915648/files/PSR-split-by-year.tar.gz",
    md5="8647b9d10d0a79dff81d1d83c825e74c",
    license="none stated",
)
MSP_ARCHIVE = RemoteFile(
    url="https://zenodo.org/records/4962515/files/MSP-split-by-sequence-identity-30.tar.gz",
    md5="6628e8efac12648d3b78bb0fc0d8860c",
    license="none stated",
)
_DAMAGED = (
    *(StructureError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    *(SyntaxError, RecursionError, MemoryError),  # of ast.literal_eval
)
_FOLDERS = {"train": "train", "valid": "val", "test": "test"}

Example = tuple[list[Protein], list[float]]
"""The proteins of a record, and their labels."""


class Atom3DSettings(ComponentSettings):
    """Settings of the ATOM3D datasets."""

    path: Path | None = None
    """Folder with the LMDB folders ``train``, ``val`` and ``test``. If not set, the published archive is
    downloaded."""


class ModelQuality(LabeledProteins):
    """Structure models with their GDT-TS. Proteins are named ``TARGET/MODEL``.

    Damaged records are left out, each with its reason.

    Source: Townshend et al. 2021 (arXiv 2012.04035), task PSR.

    Raises:
        WeightsError: the archive cannot be downloaded.
        StructureError: the folder does not contain the data set, or no training protein is left.
    """

    class Settings(Atom3DSettings):
        """Settings of :class:`ModelQuality`."""

    def __init__(self, settings: Settings) -> None:
        gathered = _gathered(settings.path or unpacked(PSR_ARCHIVE), _model, what="PSR dataset")
        self.hold(gathered, ["gdt_ts"], classes=False)


def _model(record: Any) -> Example:
    target, decoy = ast.literal_eval(record["id"])
    protein = atoms_to_protein(record["atoms"], f"{target}/{decoy}")
    return [protein], [float(record["scores"].get("gdt_ts", math.nan))]


class MutationPairs(LabeledProteins):
    """Complexes and their mutants, with the label 1 if the mutant binds more strongly.

    Damaged records and pairs of different lengths are left out, each with its reason.

    Source: Townshend et al. 2021 (arXiv 2012.04035), task MSP.

    Raises:
        WeightsError: the archive cannot be downloaded.
        StructureError: the folder does not contain the data set, or no training protein is left.
    """

    class Settings(Atom3DSettings):
        """Settings of :class:`MutationPairs`."""

    group_size = 2

    def __init__(self, settings: Settings) -> None:
        gathered = _gathered(settings.path or unpacked(MSP_ARCHIVE), _pair, what="MSP dataset")
        self.hold(gathered, ["stronger_binding"], classes=False)


def _pair(record: Any) -> Example:
    name = record["id"]
    wild = atoms_to_protein(record["original_atoms"], f"{name}:wild")
    mutant = atoms_to_protein(record["mutated_atoms"], f"{name}:mutant")
    if len(wild) != len(mutant):
        raise StructureError(f"wild type and mutant have {len(wild)} and {len(mutant)} residues")
    label = float(record["label"])
    if label not in (0, 1):
        raise StructureError(f"the label is {label}, not 1 or 0")
    return [wild, mutant], [label]


def _gathered(root: Path, parse: Callable[[Any], Example], *, what: str) -> Gathered:
    """Examples of all splits; records that ``parse`` cannot read are refused."""
    root = folder_with(root, *(f"{folder}/data.mdb" for folder in _FOLDERS.values()), what=what)
    gathered = Gathered()
    for split, folder in _FOLDERS.items():
        records = Atom3DRecords(root / folder)
        for number in range(len(records)):
            try:
                gathered.add(split, *parse(records.read(number)))
            except _DAMAGED as error:
                known = isinstance(error, StructureError)
                reason = str(error) if known else f"{type(error).__name__}: {error}"
                gathered.refused.append(Refusal(root / folder / str(number), reason))
    if unknown := sum(math.isnan(values[0]) for values in gathered.values):
        gathered.notes.append(f"{unknown} of {len(gathered.values)} proteins without a label")
    return gathered
