"""Secondary structure and exposure in a store equal mdtraj's, and are unknown where atoms are missing."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from esmgn_core.store import Layout
from esmgn_core.store.annotate import areas, states

STRUCTURES = Path(__file__).parents[4] / "shared" / "data" / "structures"
BOTH = Layout(secondary_structure=True, exposure=True)
needs_files = pytest.mark.skipif(not STRUCTURES.is_dir(), reason=f"needs the structure files in {STRUCTURES}")

FILES = (
    *("afdb/AF-P01308-F1-model_v4.cif.gz", "pdb/1ubi.pdb.gz", "pdb/1gbt.cif.gz", "edge/mse_1a8o.pdb.gz"),
    *("edge/insertion_codes_1orc.pdb.gz", "edge/multichain_6pp9.pdb.gz", "edge/protein_rna_1dul.cif.gz"),
)


def by_mdtraj(path):
    """States and square angstrom of residues with an alpha carbon, without hydrogens, waters, ligands."""
    import mdtraj

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = mdtraj.load(str(path))[0]
    protein = [
        atom.index
        for residue in loaded.topology.residues
        if any(atom.name == "CA" and atom.element.symbol == "C" for atom in residue.atoms)
        for atom in residue.atoms
        if atom.element.symbol != "H"
    ]
    loaded = loaded.atom_slice(protein)
    dssp = mdtraj.compute_dssp(loaded, simplified=False)[0].tolist()
    area = mdtraj.shrake_rupley(loaded, mode="residue")[0] * 100
    return "".join({" ": "-", "NA": "?"}.get(state, state) for state in dssp), area


@needs_files
@pytest.mark.parametrize("file", FILES)
def test_both_are_what_mdtraj_gives_for_the_file(make, file):
    store = make(STRUCTURES / file, layout=BOTH)
    dssp, area = by_mdtraj(STRUCTURES / file)
    assert states(store.column("secondary_structure", 0)) == dssp
    stored = areas(store.column("exposure", 0))
    whole = np.isfinite(stored)
    assert whole.mean() > 0.85
    np.testing.assert_allclose(stored[whole], area[whole], atol=0.006)


def test_without_side_chains_the_exposure_is_unknown_and_a_missing_atom_hides_the_state(folder, make):
    store = make(folder, layout=BOTH)
    for row, name in enumerate(store.names):
        protein = store[row]
        known = np.array([state != "?" for state in states(store.column("secondary_structure", row))])
        np.testing.assert_array_equal(known, protein.atom_mask.all(1).numpy(), err_msg=name)
        whole = np.isfinite(areas(store.column("exposure", row)))
        assert not whole[[letter not in "GX" for letter in protein.sequence]].any()


def test_a_store_has_no_column_it_was_not_asked_for(folder, make):
    assert make(folder).column("exposure", 0) is None


def test_a_protein_that_mdtraj_fails_on_is_kept_and_says_so(folder, make, monkeypatch, proteins):
    def fail(*_, **__):
        raise ValueError("no such luck")

    monkeypatch.setattr("mdtraj.compute_dssp", fail)
    store = make(folder, layout=Layout(secondary_structure=True))
    assert len(store) == len(proteins)
    assert set(states(store.column("secondary_structure", 0))) == {"?"}
    account = json.loads(store.index(["account"]).column("account")[0].as_py())
    assert account["notes"] == ["secondary structure unknown: ValueError: no such luck"]
