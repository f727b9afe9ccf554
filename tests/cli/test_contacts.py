"""``esmgn contacts``."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from esmgn_core.batch import CA
from esmgn_core.inference.contacts import Contacts, precisions
from esmgn_core.inference.embedding import residues_of
from esmgn_core.io.write import pdb_text
from esmgn_core.testing import example_proteins

from .conftest import Esmgn


def test_a_table_a_picture_and_precisions_are_made(esmgn: Esmgn, tmp_path: Path) -> None:
    protein = example_proteins()[0]
    (tmp_path / "two.pdb").write_text(pdb_text(protein))
    table, picture = tmp_path / "contacts.csv", tmp_path / "map.png"
    command = ("contacts", tmp_path / "two.pdb", "--seq", "esm2_tiny", "--device", "cpu")
    done = esmgn(*command, "-o", table, "--picture", picture)
    assert done.status == 0, done.err
    assert "random weights: sequence encoder" in done.err
    assert done.out.splitlines()[0].split() == ["separation", "P@L/5", "P@L/2", "P@L"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {row["residue_1"][0] + row["residue_2"][0] for row in rows} == {"AA", "BB"}
    probabilities = [float(row["probability"]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    names = [str(residue) for residue in residues_of(protein)]
    one, two = (names.index(rows[0][key]) for key in ("residue_1", "residue_2"))
    expected = float((protein.backbone[one, CA] - protein.backbone[two, CA]).norm())
    assert float(rows[0]["distance"]) == pytest.approx(expected, abs=0.02)
    wrong = esmgn(*command[:2], "--seq", "onehot")
    assert (wrong.status, "has no contact head" in wrong.err) == (2, True)
    assert esmgn(*command, "--picture", tmp_path / "map.txt").status == 2


def test_precision_counts_true_contacts_among_the_most_probable_pairs() -> None:
    protein = example_proteins()[2]
    ca = protein.backbone[:, CA]
    distance = torch.cdist(ca, ca).numpy()
    perfect = Contacts(protein, (1 / (1 + distance)).astype(np.float32), distance, random=False)
    number = int(np.triu(distance < 8, 2).sum())
    assert number > 0
    assert perfect.precision(2, 1 << 30, number) == 1.0
    assert perfect.precision(2, 1 << 30, 2 * number) == 0.5
    assert precisions(perfect)["short"][0] >= precisions(perfect)["short"][2]
    random = Contacts(protein, np.full_like(distance, np.nan), distance, random=False)
    assert all(np.isnan(value) for values in precisions(random).values() for value in values)
