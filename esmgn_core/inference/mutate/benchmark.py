"""ProteinGym as a whole: averages over its assays, saved scores, ensembles, and public values."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import fmean

import numpy as np

from esmgn_core.errors import RunError
from esmgn_core.inference.mutate.assays import read_rows
from esmgn_core.inference.mutate.fitness import Scored, rank_correlation
from esmgn_core.inference.tables import as_text
from esmgn_core.machine.files import write_atomically

SOURCE = "ProteinGym, summary of zero-shot substitutions, repository at commit f35cfd4"
"""Where the public values are from. Other releases of ProteinGym differ in the third digit."""
_ABOUT = "about.json"
_PROTEIN, _FUNCTION = "UniProt_ID", "coarse_selection_type"


@dataclass(frozen=True, slots=True)
class Average:
    """Correlations averaged as on ProteinGym's leaderboard.

    Attributes:
        mean: mean over functions.
        functions: mean of each function, by name.
        num_assays: number of assays in the average.
        num_reference: number of assays in the reference file.
    """

    mean: float
    functions: Mapping[str, float]
    num_assays: int
    num_reference: int


def average(values: Mapping[str, float], reference: Path) -> Average | None:
    """Average correlations over assays of a protein and function, then proteins, then functions.

    Args:
        values: correlation of each assay by ``DMS_id``; undefined ones are left out.
        reference: ProteinGym's reference file, with UniProt_ID and coarse_selection_type of each assay.

    Returns:
        ``None`` if no assay is in the file.

    Raises:
        RunError: the file lacks these columns.
    """
    groups: dict[str, dict[str, list[float]]] = {}
    number = 0
    rows = list(read_rows(reference))
    for row in rows:
        if not {"DMS_id", _PROTEIN, _FUNCTION} <= row.keys():
            raise RunError(f"{reference} lacks a column: DMS_id, {_PROTEIN} or {_FUNCTION}")
        value = values.get(row["DMS_id"] or "", math.nan)
        if math.isfinite(value):
            number += 1
            groups.setdefault(row[_FUNCTION] or "", {}).setdefault(row[_PROTEIN] or "", []).append(value)
    if not groups:
        return None
    functions = {
        function: fmean(fmean(found) for found in proteins.values())
        for function, proteins in sorted(groups.items())
    }
    return Average(fmean(functions.values()), functions, number, len(rows))


def leaderboard() -> list[dict[str, str]]:
    """Public values: ``model``, ``average`` and one column for each function. See :data:`SOURCE`."""
    text = resources.files(__package__).joinpath("leaderboard.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


class ScoreFolder:
    """Predicted scores on disk, a table ``ASSAY.csv`` for each assay, so that a stopped command continues.

    Tables have the columns ``mutant``, ``DMS_score`` and ``score``, as ProteinGym's scripts read them.

    Args:
        path: the folder.
        about: what computed the scores; the folder is refused if it has scores of something else.

    Raises:
        RunError: the folder has scores of another model or other settings.
    """

    def __init__(self, path: Path, about: Mapping[str, object] | None = None) -> None:
        self.path = path
        if about is None:
            return
        file, text = path / _ABOUT, json.dumps(about, indent=1, sort_keys=True) + "\n"
        if file.exists() and file.read_text(encoding="utf-8") != text:
            raise RunError(
                f"{path} has scores of another model or other settings (--scores)", "name another folder"
            )
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)

    @property
    def names(self) -> list[str]:
        """Names of the assays with scores."""
        return sorted(file.stem for file in self.path.glob("*.csv"))

    def read(self, name: str) -> Scored | None:
        """Scores of an assay; ``None`` without them.

        Raises:
            RunError: the table is damaged.
        """
        file = self._file(name)
        if not file.is_file():
            return None
        try:
            rows = list(read_rows(file))
            return Scored(
                [row["mutant"] or "" for row in rows],
                [float(row["DMS_score"] or "") for row in rows],
                [float(row["score"] or "") for row in rows],
            )
        except (KeyError, ValueError) as error:
            raise RunError(f"{file} is not a table of scores: delete it", str(error)) from error

    def write(self, name: str, scored: Scored) -> None:
        """Write the scores of an assay."""
        columns = scored.variants, scored.measured, scored.predicted
        rows = [
            {"mutant": variant, "DMS_score": measured, "score": predicted}
            for variant, measured, predicted in zip(*columns, strict=True)
        ]
        write_atomically(self._file(name), as_text(rows, ","))

    def _file(self, name: str) -> Path:
        return self.path / f"{name.replace('/', '_').removesuffix('.csv')}.csv"


def ensemble(folders: Sequence[ScoreFolder]) -> Iterator[tuple[str, float, int]]:
    """Correlation of the mean rank of several models, for each assay that all have.

    Yields:
        Name, Spearman's correlation (NaN if it is undefined), and number of variants. Variants that a model
        did not score are left out.
    """
    from scipy.stats import rankdata

    for name in sorted(set.intersection(*({*folder.names} for folder in folders))):
        parts = [scored for folder in folders if (scored := folder.read(name)) is not None]
        values = [dict(zip(part.variants, part.predicted, strict=True)) for part in parts]
        common = [variant for variant in values[0] if all(variant in other for other in values[1:])]
        measured = dict(zip(parts[0].variants, parts[0].measured, strict=True))
        ranks = np.mean([rankdata([value[variant] for variant in common]) for value in values], axis=0)
        scored = Scored(common, [measured[variant] for variant in common], ranks.tolist())
        yield name, rank_correlation(scored)[0], len(common)
