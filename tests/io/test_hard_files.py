"""One small file by formula for each kind of hard or broken file that public repositories hold.

``test_edge_files.py`` tests the files themselves, which are not part of the repository. CA atoms are
compared with those that mdtraj reads from the same file.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mdtraj
import pytest
import torch

from esmgn_core.errors import StructureError
from esmgn_core.io import read_structure

from .made_up import CALCIUM, DNA, WATER, Atom, ca, chain, cif, pdb, residue

SIX = ("GLY", "SER", "LYS", "ASP", "LEU", "TRP")
RNA = [Atom(name, "U", 1, (70.0 + i, 0.0, 0.0), chain="R") for i, name in enumerate(("P", "C1'", "C4'"))]


def changed(atoms: Iterable[Atom], number: int, **changes: Any) -> list[Atom]:
    """The atoms, with those of one residue changed."""
    return [replace(atom, **changes) if atom.number == number else atom for atom in atoms]


def without(atoms: Iterable[Atom], *names: str, every: int = 1) -> list[Atom]:
    """The atoms without those of some names, in every residue or in every n-th."""
    return [atom for atom in atoms if atom.name not in names or atom.number % every]


def model(number: int, *parts: object) -> str:
    return f"MODEL     {number:>4}\n{pdb(*parts)}ENDMDL\n"


@dataclass(frozen=True)
class Hard:
    """A file and what it holds.

    ``like_mdtraj``: False where mdtraj cannot read the file, or reads it in another way (conformers, UNK).
    """

    content: str | bytes
    sequence: str
    chains: tuple[str, ...] = ("A",)
    name: str = "a.pdb"
    numbers: tuple[int, int] = (1, 6)
    inserted: int = 0
    missing_atoms: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    like_mdtraj: bool = True


plain = chain(*SIX)
text = pdb(plain)
first, second = chain(*SIX), chain(*SIX[::-1], chain="B")
mixed = changed(plain, 3, residue="MSE", record="HETATM")
conformers = [
    *without(plain, "N", "CA", "C", "O", every=7),
    *(
        atom
        for pair in zip(
            residue(7, "VAL", altloc="A", occupancy=0.4),
            residue(7, "VAL", altloc="B", occupancy=0.6, shift=0.5),
            strict=True,
        )
        for atom in pair
    ),
]
READ: dict[str, Hard] = {
    # chains
    "two chains, an atom missing": Hard(
        pdb(without(first, "N", every=6), "TER\n", second), "GSKDLWWLDKSG", ("A", "B"), missing_atoms=1
    ),
    "a chain name of four letters": Hard(cif(chain(*SIX, chain="ABCD")), "GSKDLW", ("ABCD",), "a.cif"),
    "blank chains, TER, calcium, water": Hard(
        pdb(
            chain("GLU", "THR", chain=" "),
            "TER\n",
            chain("GLY", "GLN", start=3, chain=" "),
            "TER\n",
            [replace(CALCIUM, chain=" "), replace(WATER, chain=" ")],
        ),
        "ETGQ",
        ("1", "2"),
        numbers=(1, 4),
        report={"left_out": 2},
    ),
    # residue numbers
    "insertion codes": Hard(
        pdb(
            [
                atom
                for i, code in enumerate(" AB ")
                for atom in residue(i + 1, SIX[i], number=(1, 1, 1, 2)[i], icode=code)
            ]
        ),
        "GSKD",
        numbers=(1, 2),
        inserted=2,
    ),
    "an insertion code in every residue": Hard(
        pdb(chain("NLE", "HIP", "ASP", icode="P")),
        "LHD",
        numbers=(1, 3),
        inserted=3,
        report={"modified": {"NLE": "L", "HIP": "H"}},
    ),
    "negative numbers": Hard(
        pdb([atom for i, name in enumerate(SIX, 1) for atom in residue(i, name, number=i - 3)]),
        "GSKDLW",
        numbers=(-2, 3),
    ),
    "numbers of the authors and of the entry": Hard(
        cif(plain).replace(" 1 1 . A", " 1 0 . A").replace(" 2 2 . A", " 2 1 . A"),
        "GSKDLW",
        name="a.cif",
        numbers=(0, 6),
        like_mdtraj=False,
    ),
    # alternate locations
    "two conformers": Hard(pdb(conformers), "GSKDLWV", numbers=(1, 7), like_mdtraj=False),
    "two conformers of two types": Hard(
        cif(
            [
                *residue(1, "SER", altloc="A", occupancy=0.2),
                *residue(1, "PRO", altloc="C", occupancy=0.6, shift=0.1),
            ]
        ),
        "P",
        name="a.cif",
        numbers=(1, 1),
        like_mdtraj=False,
    ),
    # modified residues
    "selenomethionine, PDB": Hard(
        pdb(mixed, "TER\n", [WATER]), "GSMDLW", report={"left_out": 1, "modified": {"MSE": "M"}}
    ),
    "selenomethionine, mmCIF": Hard(
        cif([*mixed, WATER]), "GSMDLW", name="a.cif", report={"left_out": 1, "modified": {"MSE": "M"}}
    ),
    "selenocysteine": Hard(
        pdb(changed(plain, 2, residue="SEC")), "GCKDLW", report={"modified": {"SEC": "C"}}
    ),
    "phosphotyrosine": Hard(
        pdb(changed(plain, 2, residue="PTR", record="HETATM")), "GYKDLW", report={"modified": {"PTR": "Y"}}
    ),
    "TER on both sides of a phosphorylated residue": Hard(
        pdb(plain[:8], "TER\n", changed(plain, 3, residue="SEP", record="HETATM")[8:12], "TER\n", plain[12:]),
        "GSSDLW",
        report={"modified": {"SEP": "S"}},
    ),
    "unknown residues": Hard(
        pdb(chain("UNK", "UNK", "UNK")),
        "XXX",
        numbers=(1, 3),
        report={"unknown": {"UNK": 3}},
        like_mdtraj=False,
    ),
    # nucleic acids
    "D-amino acids and DNA": Hard(
        cif([*chain("THR", "DVA", "PRO", "SAR", "MVA"), *DNA]),
        "TVPGV",
        name="a.cif",
        numbers=(1, 5),
        report={"left_out": 1, "modified": {"DVA": "V", "SAR": "G", "MVA": "V"}},
        like_mdtraj=False,
    ),
    "protein and RNA": Hard(cif([*plain, *RNA]), "GSKDLW", name="a.cif", report={"left_out": 1}),
    "protein and DNA": Hard(pdb(plain, "TER\n", DNA), "GSKDLW", report={"left_out": 1}),
    # models
    "three models": Hard(
        "".join(model(i, chain(*SIX)) for i in (1, 2, 3)), "GSKDLW", report={"num_models": 3}
    ),
    "a cap": Hard(
        pdb(plain, [Atom("N", "NH2", 7, ca(7), record="HETATM")]), "GSKDLW", report={"left_out": 1}
    ),
    # alpha carbons
    "residues without CA": Hard(
        pdb(without(plain, "CA", every=3)), "GSDL", numbers=(1, 5), report={"without_ca": 2}
    ),
    "CA atoms alone": Hard(pdb(chain(*SIX, atoms=("CA",))), "GSKDLW", missing_atoms=18),
    "CA atoms alone, two chains": Hard(
        pdb(chain(*SIX, atoms=("CA",)), "TER\n", chain(*SIX, atoms=("CA",), chain="B")),
        2 * "GSKDLW",
        ("A", "B"),
        missing_atoms=36,
    ),
    "calcium named CA": Hard(pdb(plain, "TER\n", [CALCIUM]), "GSKDLW", report={"left_out": 1}),
    # columns
    "no element column": Hard("".join(f"{line[:66]}\n" for line in text.splitlines()), "GSKDLW"),
    "blank occupancy": Hard(
        "".join(f"{line[:54]}      {line[60:]}\n" for line in text.splitlines()), "GSKDLW"
    ),
    # packing and damage that costs nothing
    "CRLF": Hard(text.replace("\n", "\r\n"), "GSKDLW"),
    "atoms of a residue twice": Hard(pdb(plain[:12], plain[8:]), "GSKDLW", like_mdtraj=False),
    "zero occupancy": Hard(pdb([replace(atom, occupancy=0.0) for atom in plain]), "GSKDLW"),
    "two CA atoms at one place": Hard(
        pdb(
            [
                replace(atom, position=ca(2)) if (atom.name, atom.number) == ("CA", 3) else atom
                for atom in plain
            ]
        ),
        "GSKDLW",
    ),
    "plain text named .gz": Hard(text, "GSKDLW", name="a.pdb.gz", like_mdtraj=False),
    "gzip named .pdb": Hard(gzip.compress(text.encode()), "GSKDLW", like_mdtraj=False),
    "mmCIF named .pdb": Hard(cif(plain), "GSKDLW", like_mdtraj=False),
    "a coordinate that is not a number": Hard(
        pdb(
            [
                replace(atom, position=(float("nan"),) * 3) if (atom.name, atom.number) == ("CA", 3) else atom
                for atom in plain
            ]
        ),
        "GSDLW",
        report={"without_ca": 1},
        like_mdtraj=False,
    ),
    "two residues": Hard(pdb(chain("THR", "THR")), "TT", numbers=(1, 2)),
    "one residue": Hard(pdb(chain("THR")), "T", numbers=(1, 1)),
}

HEADER = "HEADER    PLANT PROTEIN                           30-APR-81   1CRN\n"
PHENOL = [Atom(f"C{i}", "phe", 1, (float(i), 0.0, 0.0)) for i in range(1, 7)]
QUOTED = cif([Atom("O5'", "DG", 1, (1.0, 2.0, 3.0), chain="A")]).replace("O5'", '"O5\'"')
REFUSED: dict[str, tuple[str | bytes, str, str]] = {
    "one atom without CA": (
        pdb(chain("ALA", atoms=("CB",))),
        "a.pdb",
        "no CA atom in any of its amino-acid residues (1)",
    ),
    "residues without CA": (
        pdb(without(chain("ALA", "GLY"), "CA")),
        "a.pdb",
        "no CA atom in any of its amino-acid residues (2)",
    ),
    "a lower-case ligand": (pdb(PHENOL), "a.pdb", "no CA atom in any of its amino-acid residues (1)"),
    "coarse-grained beads": (
        pdb(
            [
                Atom(name, "LEU", i, (3.5 * i, far, 0.0))
                for i in range(1, 9)
                for name, far in (("CA", 0.0), ("CB", 3.0))
            ]
        ),
        "a.pdb",
        "coarse-grained beads, not atoms",
    ),
    "RNA alone": (pdb(RNA), "a.pdb", "no protein residue, only 1 nucleotide"),
    "DNA alone": (pdb(DNA), "a.pdb", "no protein residue, only 1 nucleotide"),
    "quoted names in mmCIF": (QUOTED, "a.cif", "no protein residue, only 1 nucleotide"),
    "HETATM alone": (
        pdb([Atom("C1", "XXX", 1, (1.0, 2.0, 3.0), record="HETATM")]),
        "a.pdb",
        "no protein residue, only 1 unknown residue",
    ),
    "waters": (
        pdb([replace(WATER, number=i) for i in (9998, 9999)]),
        "a.pdb",
        "no protein residue, only 2 waters",
    ),
    "a header alone": (HEADER, "a.pdb", "no ATOM or HETATM record"),
    "cut off inside a line": (
        text[: text.rindex("\n", 0, -1) + 40],
        "a.pdb",
        "line 24 is cut off inside the coordinates",
    ),
    "a cut gzip stream": (
        gzip.compress(text.encode(), mtime=0)[:-100],
        "a.pdb.gz",
        "the gzip stream is cut off",
    ),
    "an empty file": (b"", "a.pdb", "the file is empty"),
    "an empty gzip file": (gzip.compress(b""), "a.pdb.gz", "the gzip file holds zero bytes"),
    "white space": ("\n  \n", "a.pdb", "the file holds only white space"),
    "an HTML page": ("<!DOCTYPE html>\n<html><body>404</body></html>\n", "a.pdb", "an HTML page"),
    "random bytes": (bytes(range(256)) * 4, "a.pdb", "binary data, neither PDB nor mmCIF text"),
}


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("kind", READ)
def test_a_hard_file_is_read_right(kind: str, tmp_path: Path) -> None:
    expected = READ[kind]
    protein, report = read_structure(written(tmp_path, expected.name, expected.content))
    assert protein.sequence == expected.sequence
    assert protein.chains == expected.chains
    assert (int(protein.residue_index[0]), int(protein.residue_index[-1])) == expected.numbers
    assert int((protein.insertion_code != 32).sum()) == expected.inserted
    assert int((~protein.atom_mask).sum()) == expected.missing_atoms
    assert protein.plddt is None
    usual: dict[str, Any] = {"without_ca": 0, "left_out": 0, "num_models": 1, "modified": {}, "unknown": {}}
    found = {name: getattr(report, name) for name in usual}
    assert found == usual | expected.report


@pytest.mark.parametrize("kind", [kind for kind, hard in READ.items() if hard.like_mdtraj])
def test_alpha_carbons_are_those_of_mdtraj(kind: str, tmp_path: Path) -> None:
    hard = READ[kind]
    path = written(tmp_path, hard.name, hard.content)
    with warnings.catch_warnings(action="ignore"):
        trajectory = mdtraj.load(str(path))
    carbons = [
        atom.index
        for atom in trajectory.topology.atoms
        if atom.name == "CA" and atom.element is not None and atom.element.symbol == "C"
    ]
    theirs = 10 * torch.from_numpy(trajectory.xyz[0][carbons])  # nanometres to angstrom
    torch.testing.assert_close(read_structure(path)[0].backbone[:, 1], theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_broken_file_is_refused_with_the_reason(kind: str, tmp_path: Path) -> None:
    content, name, reason = REFUSED[kind]
    path = written(tmp_path, name, content)
    with pytest.raises(StructureError) as error:
        read_structure(path)
    assert str(error.value).startswith(f"cannot read {path}: {reason}")


def test_the_most_occupied_conformer_has_its_own_atoms(tmp_path: Path) -> None:
    hard = READ["two conformers"]
    backbone = read_structure(written(tmp_path, hard.name, hard.content))[0].backbone
    expected = torch.tensor([atom.position for atom in residue(7, "VAL", shift=0.5)])
    torch.testing.assert_close(backbone[6], expected, atol=6e-4, rtol=0)


def test_damage_that_costs_nothing_changes_nothing(tmp_path: Path) -> None:
    whole = read_structure(written(tmp_path, "whole.pdb", text))[0].backbone
    for kind in (
        "CRLF",
        "atoms of a residue twice",
        "zero occupancy",
        "gzip named .pdb",
        "plain text named .gz",
    ):
        hard = READ[kind]
        assert torch.equal(read_structure(written(tmp_path, hard.name, hard.content))[0].backbone, whole), (
            kind
        )
