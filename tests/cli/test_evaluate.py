"""``esmgn evaluate``: its exit status."""

from __future__ import annotations

from pathlib import Path

from esmgn_core.batch import Protein

from ..conftest import pdb_text
from .conftest import Esmgn


def test_no_scan_that_can_be_scored_is_an_error_status(
    esmgn: Esmgn, tmp_path: Path, proteins: list[Protein]
) -> None:
    protein = proteins[0]
    (tmp_path / "scan.pdb").write_text(pdb_text(protein))
    table = tmp_path / "scan.csv"
    arguments = ("evaluate", "proteingym", tmp_path, "--seq", "esm2_tiny", "--device", "cpu")
    table.write_text("mutant,DMS_score\nhello,1.0\n")
    failed = esmgn(*arguments)
    assert failed.status == 1
    assert "the table has no variant to score: 'hello', expected a variant such as A12G" in failed.out
    rows = [
        f"{protein.sequence[at]}{at + 1}{'A' if protein.sequence[at] != 'A' else 'G'},{at}"
        for at in (3, 5, 7)
    ]
    table.write_text("\n".join(["mutant,DMS_score", *rows]) + "\n")
    assert esmgn(*arguments).status == 0
