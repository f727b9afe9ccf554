"""The datasets ``psr`` and ``msp`` of ATOM3D: quality of models, and mutations of complexes."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from functools import partial
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


class Atom3DSettings(ComponentSettings):
    """Settings of datasets of ATOM3D."""

    path: Path | None = None
    """Folder with the LMDB folders ``train``, ``val`` and ``test``; not set: the published archive."""


class ModelQuality(LabeledProteins):
    """Models of proteins with their GDT-TS; proteins are called ``TARGET/MODEL``.

    Source: Townshend et al. 2021 (arXiv 2012.04035), task PSR.

    Raises:
        WeightsError: the archive cannot be had.
        StructureError: there is no such data set in the folder, or a record is damaged.
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
    """Complexes and their mutants: 1 where the mutant binds more strongly.

    Pairs whose proteins differ in length are left out.

    Source: Townshend et al. 2021 (arXiv 2012.04035), task MSP.

    Raises:
        WeightsError: the archive cannot be had.
        StructureError: there is no such data set in the folder, or a record is damaged.
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


def _gathered(root: Path, example: Callable[[Any], Example], *, what: str) -> Gathered:
    root = folder_with(root, *(f"{folder}/data.mdb" for folder in _FOLDERS.values()), what=what)
    gathered = Gathered()
    for split, folder in _FOLDERS.items():
        for number, record in _records(root / folder):
            try:
                gathered.add(split, *example(record()))
            except _DAMAGED as error:
                reason = (
                    str(error) if isinstance(error, StructureError) else f"{type(error).__name__}: {error}"
                )
                gathered.refused.append(Refusal(root / folder / str(number), reason))
    if unknown := sum(math.isnan(values[0]) for values in gathered.values):
        gathered.notes.append(f"{unknown} of {len(gathered.values)} proteins without a label")
    return gathered


def _records(folder: Path) -> Iterator[tuple[int, Callable[[], Any]]]:
    """Number of each record, and what reads it."""
    records = Atom3DRecords(folder)
    for number in range(len(records)):
        yield number, partial(records.read, number)
