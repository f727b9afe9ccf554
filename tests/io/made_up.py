"""Small made-up structures, written as PDB and mmCIF text from formula coordinates."""

import math
from dataclasses import dataclass

BACKBONE = ("N", "CA", "C", "O")


@dataclass(frozen=True)
class Atom:
    name: str
    residue: str
    number: int
    position: tuple[float, float, float]
    chain: str = "A"
    record: str = "ATOM"
    altloc: str = " "
    icode: str = " "
    occupancy: float = 1.0
    b_factor: float = 20.0
    element: str = ""
    entity: str = "1"
    segment: str = ""

    @property
    def pdb(self):
        element = self.element or self.name[0]
        name = self.name.ljust(4) if len(element) == 2 else f" {self.name:<3}"
        xyz = "".join(f"{value:8.3f}" for value in self.position)
        # A name of four letters takes the column of the first letter of a chain of two.
        residue = self.residue if len(self.residue) == 4 else f"{self.residue:>3}"
        place = f"{residue}{self.chain:>{5 - len(residue)}}"
        end = f"{self.segment:<4}{element:>2}"
        return (
            f"{self.record:<6}    1 {name}{self.altloc}{place}{self.number:>4}"
            f"{self.icode}   {xyz}{self.occupancy:6.2f}{self.b_factor:6.2f}      {end}\n"
        )

    @property
    def cif(self):
        altloc, icode = self.altloc.replace(" ", "."), self.icode.replace(" ", ".")
        xyz = " ".join(f"{value:.3f}" for value in self.position)
        return (
            f"{self.record} 1 {self.element or self.name[0]} {self.name} {altloc} {self.residue} {self.chain}"
            f" {self.entity} {self.number} {self.number} {icode} {self.chain}"
            f" {xyz} {self.occupancy:.2f} {self.b_factor:.2f}\n"
        )


def ca(i):
    """CA of residue i of an ideal helix: 2.3 A from the axis, 100 degrees and 1.5 A apart."""
    turn = math.radians(100 * i)
    return (2.3 * math.cos(turn), 2.3 * math.sin(turn), 1.5 * i)


def residue(i, name="ALA", atoms=BACKBONE, number=None, shift=0.0, **changes):
    """Backbone of residue i; C(i) and N(i + 1) lie on the line between their CA, 1.33 A apart."""
    here, before, after = ca(i), ca(i - 1), ca(i + 1)
    place = {
        "N": [h + 0.25 * (b - h) for h, b in zip(here, before, strict=True)],
        "CA": here,
        "C": [h + 0.40 * (a - h) for h, a in zip(here, after, strict=True)],
        "O": [2.0 * value for value in here],
        "CB": [1.6 * here[0], 1.6 * here[1], here[2]],
    }
    return [
        Atom(atom, name, i if number is None else number, tuple(v + shift for v in place[atom]), **changes)
        for atom in atoms
    ]


def chain(*names, start=1, **changes):
    return [atom for i, name in enumerate(names, start) for atom in residue(i, name, **changes)]


def pdb(*parts):
    """PDB text of lists of atoms and of lines."""
    return "".join(part if isinstance(part, str) else "".join(atom.pdb for atom in part) for part in parts)


ATOM_SITE = """\
group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id
label_seq_id auth_seq_id pdbx_PDB_ins_code auth_asym_id Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv
"""


def cif(atoms, *categories):
    """mmCIF text of a list of atoms, behind the text of other categories."""
    loop = "loop_\n" + "".join(f"_atom_site.{tag}\n" for tag in ATOM_SITE.split())
    return "data_TEST\n" + "".join(categories) + loop + "".join(atom.cif for atom in atoms)


WATER = Atom("O", "HOH", 301, (40.0, 0.0, 0.0), record="HETATM")
CALCIUM = Atom("CA", "CA", 302, (45.0, 0.0, 0.0), record="HETATM", element="CA")
SUGAR = Atom("C1", "NAG", 303, (50.0, 0.0, 0.0), record="HETATM")
FREE_ASN = residue(40, "ASN", number=304, record="HETATM")
DNA = [Atom("P", "DA", 1, (60.0, 0.0, 0.0), chain="D"), Atom("C1'", "DA", 1, (61.0, 0.0, 0.0), chain="D")]
