"""The sequence that a PDB file declares of a chain is compared with the residues that were read."""

from __future__ import annotations

import numpy as np
import pytest

from esmgn_core.alphabet import encode
from esmgn_core.io.seqres import chain_accounts, pdb_declared
from esmgn_core.io.table import ResidueTable

NAMES = ["MET", "ALA", "GLY", "TRP", "SER"] * 6


def chain(number):
    length = len(number)
    return ResidueTable.of_standard_chain(
        np.array(encode("MAGWS" * 6)[:length], dtype=np.uint8),
        np.array(number, dtype=np.int32),
        np.zeros((length, 4, 3), dtype=np.float32),
        np.zeros(length, dtype=np.float32),
        "A",
    )


def header(names=NAMES, chain="A", width=80, after="CRYST1\n"):
    rows = [names[k : k + 13] for k in range(0, len(names), 13)]
    lines = [f"SEQRES {n:>3} {chain} {len(names):>4}  {' '.join(row)}" for n, row in enumerate(rows, start=1)]
    return ("\nHEADER\n" + "".join(f"{line:<{width}}\n" for line in lines) + after).encode()


def account(number, text):
    (found,) = chain_accounts(chain(list(number)), pdb_declared(text))
    return found.as_dict()


@pytest.mark.parametrize(
    ("text", "differs"),
    [
        (header(), {"declared": 30}),
        (header(after=""), {"declared": 30}),
        (header(NAMES[:26]), {"declared": 26, "undeclared": 4}),
        (header([*NAMES, "VAL"]), {"declared": 31, "missing": ((31, 31),)}),
        (header(["MSE", *NAMES[1:]]), {"declared": 30, "mismatched": ((1, "MSE", "MET"),)}),
        (header(chain="B"), {}),
        (header(width=1), {"declared": 30}),
        (header(after="SEQRES\n"), {"declared": 30}),
        (header() + header(), {"declared": 30}),
        (header().replace(b"HEADER\n", b""), {"declared": 30}),
        (b"\n", {}),
    ],
)
def test_a_chain_is_compared_with_its_first_block_of_records(text, differs):
    assert account(range(1, 31), text) == {"name": "A", "residues": 30} | differs


def test_a_jump_of_the_numbers_is_a_break():
    assert account([*range(1, 20), *range(40, 51)], header())["breaks"] == (("19", "40"),)


def test_a_whole_chain_is_described_by_its_length():
    assert account(range(5, 35), header()) == {"name": "A", "residues": 30, "declared": 30}
