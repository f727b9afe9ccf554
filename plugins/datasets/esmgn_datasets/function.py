"""The datasets ``ec`` and ``go``: PDB chains with EC numbers or GO terms."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from esmgn_core.batch import Protein
from esmgn_core.errors import StructureError
from esmgn_core.formats import structure_formats
from esmgn_core.io import find_structures
from esmgn_core.settings import ComponentSettings
from esmgn_core.text import read_lines
from esmgn_core.weights import RemoteFile
from esmgn_datasets.archives import folder_with, unpacked
from esmgn_datasets.labelled import Gathered, LabeledProteins, read_files

_RECORD = "https://zenodo.org/records/6622158/files"
EC_ARCHIVE = RemoteFile(
    url=f"{_RECORD}/EnzymeCommission.zip", md5="33f799065f8ad75f87b709a87293bc65", license="none stated"
)
GO_ARCHIVE = RemoteFile(
    url=f"{_RECORD}/GeneOntology.zip", md5="376be1f088cd1fe720e1eaafb701b5cb", license="none stated"
)
_SPLITS = ("train", "valid", "test")
_CUTOFFS = (30, 40, 50, 70, 95)
_BRANCHES = ("MF", "BP", "CC")


class FunctionSettings(ComponentSettings):
    """Settings of the datasets of functions."""

    path: Path | None = None
    """Folder of the unpacked archive. If not set, the published archive is downloaded."""
    max_identity: Literal[30, 40, 50, 70, 95] = 95
    """Leave out chains with a higher sequence identity to a training chain, in percent. The published files
    mark no chain above 95. Test sets of all lower cutoffs are scored too."""
    keep: Path | None = None
    """File of chain identifiers, one per line. All other chains are left out."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """Class names in their published order, and the class numbers of each chain."""

    names: tuple[str, ...]
    classes: Mapping[str, Sequence[int]]


def read_ec_annotation(file: Path) -> Annotation:
    """Read EC numbers: a comment, the class names, a header, then lines ``chain<TAB>classes``.

    Raises:
        StructureError: the file cannot be read or has another form.
    """
    lines = _lines(file)
    if len(lines) < 3:
        raise StructureError(f"{file} is not a file of EC annotations: it has {len(lines)} lines")
    rows = [line.split("\t") for line in lines[3:] if line]
    return _annotation(file, lines[1].split("\t"), {row[0]: row[1] if len(row) > 1 else "" for row in rows})


def read_go_annotation(file: Path, branch: str) -> Annotation:
    """Read GO terms of one branch: 4 lines for each of MF, BP and CC, a header, then 3 columns.

    Raises:
        StructureError: the file cannot be read or has another form.
    """
    lines = _lines(file)
    if len(lines) < 13:
        raise StructureError(f"{file} is not a file of GO annotations: it has {len(lines)} lines")
    column = _BRANCHES.index(branch)
    rows = [line.split("\t") for line in lines[13:] if line]
    cells = {row[0]: row[column + 1] if len(row) > column + 1 else "" for row in rows}
    return _annotation(file, lines[4 * column + 1].split("\t"), cells)


def _annotation(file: Path, names: Sequence[str], cells: Mapping[str, str]) -> Annotation:
    number = {name: place for place, name in enumerate(names)}
    try:
        classes = {
            chain: [number[name] for name in cell.strip().split(",") if name] for chain, cell in cells.items()
        }
    except KeyError as error:
        raise StructureError(f"{file}: {error} is not among the {len(names)} classes of its header") from None
    return Annotation(tuple(names), classes)


def read_identities(file: Path) -> dict[str, list[bool]]:
    """Read, for each test chain, five flags: True if it is below the identity cutoff."""
    rows = list(csv.reader(_lines(file)))[1:]
    return {row[0]: [flag.strip() == "1" for flag in row[1:]] for row in rows if row}


def _lines(file: Path) -> list[str]:
    try:
        return list(read_lines(file))
    except (OSError, ValueError) as error:
        raise StructureError(f"cannot read {file}: {error}") from error


class _Functions(LabeledProteins):
    """Chains of the published splits. A chain without any class is kept, with a label of zeros."""

    def gather(
        self, root: Path, settings: FunctionSettings, annotation: Annotation, identities: Path
    ) -> None:
        """Read all chains in the folders ``train``, ``valid`` and ``test`` of ``root``."""
        # Training and validation chains are not in the file of identities: they pass every cutoff.
        below_cutoffs = defaultdict(lambda: [True] * len(_CUTOFFS), read_identities(identities))
        kept = set(_lines(settings.keep)) if settings.keep else None
        column = _CUTOFFS.index(settings.max_identity)
        gathered = Gathered()
        for split in _SPLITS:
            files = sorted(find_structures([root / split], structure_formats()), key=lambda path: path.name)
            chains = {path: chain_of(path) for path in files}
            wanted = [
                path
                for path, chain in chains.items()
                if (kept is None or chain in kept) and below_cutoffs[chain][column]
            ]
            for path, result in read_files(wanted):
                if not isinstance(result, Protein):
                    gathered.refused.append(result)
                    continue
                chain = chains[path]
                stricter = zip(_CUTOFFS[:column], below_cutoffs[chain], strict=False)
                sets = [f"test_{cutoff}" for cutoff, is_below in stricter if is_below and split == "test"]
                protein = replace(result, name=chain)
                gathered.add(split, [protein], annotation.classes.get(chain, []), *sets)
        if missing := sum(protein.name not in annotation.classes for protein in gathered.proteins):
            gathered.notes.append(f"{missing} chains have no annotation and count as chains without a class")
        self.hold(gathered, annotation.names, classes=True)


def chain_of(path: Path) -> str:
    """PDB identifier and chain in a file name: the part before ``_`` or the suffix.

    >>> chain_of(Path("2FOR-A_updated.pdb")), chain_of(Path("2FOR-A.pdb.gz"))
    ('2FOR-A', '2FOR-A')
    """
    return path.name.partition("_")[0].partition(".")[0]


class EnzymeCommission(_Functions):
    """Chains with EC numbers: 538 classes of the third and fourth level.

    Source: Gligorijevic et al. 2021 (doi 10.1038/s41467-021-23303-9).

    Raises:
        WeightsError: the archive cannot be downloaded.
        StructureError: the folder is not the unpacked archive, or its annotations are damaged.
    """

    class Settings(FunctionSettings):
        """Settings of :class:`EnzymeCommission`."""

    def __init__(self, settings: Settings) -> None:
        root = settings.path or unpacked(EC_ARCHIVE)
        root = folder_with(root, *_SPLITS, "nrPDB-EC_annot.tsv", what="EC dataset")
        annotation = read_ec_annotation(root / "nrPDB-EC_annot.tsv")
        self.gather(root, settings, annotation, root / "nrPDB-EC_test.csv")


class GeneOntology(_Functions):
    """Chains with GO terms: 489 molecular functions, 1,943 biological processes, 320 cellular components.

    Source: Gligorijevic et al. 2021 (doi 10.1038/s41467-021-23303-9).

    Raises:
        WeightsError: the archive cannot be downloaded.
        StructureError: the folder is not the unpacked archive, or its annotations are damaged.
    """

    class Settings(FunctionSettings):
        """Settings of :class:`GeneOntology`."""

        branch: Literal["MF", "BP", "CC"] = "MF"
        """Branch of GO: molecular function, biological process or cellular component."""

    def __init__(self, settings: Settings) -> None:
        root = settings.path or unpacked(GO_ARCHIVE)
        root = folder_with(root, *_SPLITS, "nrPDB-GO_annot.tsv", what="GO dataset")
        annotation = read_go_annotation(root / "nrPDB-GO_annot.tsv", settings.branch)
        self.gather(root, settings, annotation, root / "nrPDB-GO_test.csv")
