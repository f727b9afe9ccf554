"""What a PDB file declares of its one chain is compared alike in the fast way and in the general one."""

from __future__ import annotations

import numpy as np
import pytest

from esmgn_core.alphabet import encode
from esmgn_core.io.arrays import NO_CODE, ResidueArrays
from esmgn_core.io.seqres import pdb_declared, standard_chain_account, standard_pdb_account

NAMES = ["MET", "ALA", "GLY", "TRP", "SER"] * 6


def chain(number):
    length = len(number)
    return ResidueArrays(
        residue_type=np.array(encode("MAGWS" * 6)[:length], dtype=np.uint8),
        backbone=np.zeros((length, 4, 3), dtype=np.float32),
        number=np.array(number, dtype=np.int32),
        insertion_code=np.full(length, NO_CODE, dtype=np.uint8),
        chain=np.zeros(length, dtype=np.int64),
        chains=("A",),
        plddt=None,
    )


def header(names=NAMES, chain="A", width=80, after="CRYST1\n"):
    rows = [names[k : k + 13] for k in range(0, len(names), 13)]
    lines = [f"SEQRES {n:>3} {chain} {len(names):>4}  {' '.join(row)}" for n, row in enumerate(rows, start=1)]
    return ("\nHEADER\n" + "".join(f"{line:<{width}}\n" for line in lines) + after).encode()


@pytest.mark.parametrize(
    "text",
    [
        header(),
        header(after=""),
        header(NAMES[:26]),
        header([*NAMES, "VAL"]),
        header(["MSE", *NAMES[1:]]),
        header(chain="B"),
        header(width=1),
        header(after="SEQRES\n"),
        header() + header(),
        header().replace(b"HEADER\n", b""),
        b"\n",
    ],
)
@pytest.mark.parametrize("number", [range(1, 31), [*range(1, 20), *range(40, 51)]])
def test_both_ways_give_one_account(text, number):
    residues = chain(list(number))
    assert standard_pdb_account(residues, text) == standard_chain_account(residues, pdb_declared(text))


def test_a_whole_chain_has_nothing_to_tell():
    assert standard_pdb_account(chain(range(5, 35)), header())[0].as_dict() == {
        "name": "A",
        "residues": 30,
        "declared": 30,
    }
