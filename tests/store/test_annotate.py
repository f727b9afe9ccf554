"""Secondary structure and exposure in a store equal mdtraj's, and are unknown where atoms are missing."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from esmgn_core.errors import StructureError
from esmgn_core.inference.inputs import find_inputs
from esmgn_core.io import Refusal, read_protein
from esmgn_core.io.annotate import areas, states
from esmgn_core.store import BuildOptions, Layout, Store, build
from esmgn_core.store.merge import merge_stores

STRUCTURES = Path(__file__).parents[3] / "shared" / "data" / "structures"
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


@needs_files
@pytest.mark.parametrize("file", FILES[:3])
def test_three_states_are_those_mdtraj_makes_of_eight(file, make):
    import mdtraj

    store = make(STRUCTURES / file, layout=BOTH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = mdtraj.load(str(STRUCTURES / file))[0]
    simple = "".join(mdtraj.compute_dssp(loaded)[0].tolist()).replace("NA", "")
    assert states(store.column("secondary_structure", 0), three=True).replace("?", "") == simple


def columns(store):
    """What is kept of each protein, by name."""
    return {
        name: (store.column("secondary_structure", row).tolist(), store.column("exposure", row).tolist())
        for row, name in enumerate(store.names)
    }


@pytest.fixture
def glycines(tmp_path):
    """Glycines, whose exposure needs no side chains."""
    folder = tmp_path / "peptides"
    folder.mkdir()
    for number in range(3):
        lines = [
            f"ATOM  {4 * row + slot:>5}  {name:<3} GLY A{row + 1:>4}    "
            f"{3.1 * row + 0.6 * slot:8.3f}{number + (row % 2) * 1.9 + 0.4 * slot:8.3f}{0.7 * slot:8.3f}"
            f"  1.00 50.00           {name[0]}  \n"
            for row in range(6 + number)
            for slot, name in enumerate(("N", "CA", "C", "O"))
        ]
        (folder / f"peptide{number}.pdb").write_text("".join(lines) + "TER\nEND\n")
    return folder


def test_a_protein_and_a_batch_carry_the_columns_as_features(glycines, make):
    store = make(glycines, layout=BOTH)
    batch = store.batch([2, 0], np.array([1, 0]), np.array([4, 3]))
    for name in ("secondary_structure", "exposure"):
        whole = [store[row].features[name].numpy() for row in (2, 0)]
        np.testing.assert_array_equal(batch.features[name], [*whole[0][1:5], *whole[1][:3]])
    area = store[0].features["exposure"].numpy()
    np.testing.assert_array_equal(area, areas(store.column("exposure", 0)))
    assert np.isfinite(area).all()
    assert len(set(area.tolist())) > 1


def test_columns_survive_appending_merging_and_several_shards(glycines, make, tmp_path):
    files = sorted(glycines.iterdir())
    whole = columns(make(*files, layout=BOTH, name="whole"))
    make(files[0], layout=BOTH, name="first")
    appended = make(*files[1:], append=True, name="first")
    assert columns(appended) == whole
    assert appended.batch([2, 0]).features.keys() == {"secondary_structure", "exposure"}
    one, two = make(files[0], layout=BOTH, name="one"), make(*files[1:], layout=BOTH, name="two")
    merge_stores([one.path, two.path], tmp_path / "merged")
    merged = Store(tmp_path / "merged")
    assert columns(merged) == whole
    spanning = merged.batch([2, 0, 1]).features["exposure"].tolist()
    assert spanning == [area for row in (2, 0, 1) for area in areas(merged.column("exposure", row)).tolist()]


def test_a_resumed_build_has_the_columns_of_an_undisturbed_one(glycines, make, tmp_path, monkeypatch):
    whole = make(glycines, layout=BOTH, name="whole")
    compute, calls = mdtraj_dssp(), []

    def stop(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(*arguments, **options)

    monkeypatch.setattr("mdtraj.compute_dssp", stop)
    with pytest.raises(KeyboardInterrupt):
        build([str(glycines)], tmp_path / "stopped", BuildOptions(layout=BOTH))
    resumed = make(name="stopped")
    assert resumed.is_finished
    assert columns(resumed) == columns(whole)


def mdtraj_dssp():
    import mdtraj

    return mdtraj.compute_dssp


def test_chains_that_share_a_name_and_their_numbers_have_areas_of_their_own(glycines, make, tmp_path):
    """Of two copies only the second lies against a third chain, which covers some of its surface."""

    def moved(text, chain, shift):
        lines = [line for line in text.splitlines() if line.startswith("ATOM")]
        atoms = [
            f"{line[:21]}{chain}{line[22:46]}{float(line[46:54]) + shift:8.3f}{line[54:]}" for line in lines
        ]
        return "\n".join(atoms) + "\nTER\n"

    text = (glycines / "peptide0.pdb").read_text()
    for name, chains in (("blank", "   "), ("named", "ABC")):
        shifts = zip(chains, (0, 40, 44), strict=True)
        (tmp_path / f"{name}.pdb").write_text("".join(moved(text, *shift) for shift in shifts) + "END\n")
    blank, named = (make(tmp_path / f"{name}.pdb", layout=BOTH, name=name) for name in ("blank", "named"))
    assert blank[0].chains == ("1", "2", "3")
    [area], [same] = ([areas(store.column("exposure", 0))] for store in (blank, named))
    assert area.tolist() == same.tolist()
    alone, covered, _ = np.split(area, 3)
    assert covered.sum() < 0.95 * alone.sum()


def put_two_atoms_at_one_place(file):
    lines = file.read_text().splitlines(keepends=True)
    lines[7] = lines[7][:30] + lines[6][30:54] + lines[7][54:]  # O where C is
    file.write_text("".join(lines))


def test_atoms_at_one_place_cost_the_exposure_not_the_process(glycines, make):
    file = glycines / "peptide0.pdb"
    put_two_atoms_at_one_place(file)
    store = make(file, layout=BOTH)
    assert np.isnan(areas(store.column("exposure", 0))).all()
    account = json.loads(store.index(["account"]).column("account")[0].as_py())
    assert account["notes"] == ["exposure unknown: ValueError: two atoms have the same coordinates"]


def test_a_broken_further_model_costs_the_exposure_not_the_build(glycines, make):
    file = glycines / "peptide0.pdb"
    atoms = "".join(line for line in file.read_text().splitlines(keepends=True) if line.startswith("ATOM"))
    file.write_text(
        f"MODEL        1\n{atoms}ENDMDL\nMODEL        2\n{atoms}MODEL        3\n{atoms}ENDMDL\nEND\n"
    )
    store = make(file, layout=BOTH)
    assert np.isnan(areas(store.column("exposure", 0))).all()
    *_, note = json.loads(store.index(["account"]).column("account")[0].as_py())["notes"]
    assert note.startswith("exposure unknown: UnreadableError: ")


def test_a_bare_file_is_read_with_the_features_of_a_store(glycines, make):
    file = glycines / "peptide0.pdb"
    stored = make(file, layout=BOTH)[0].features
    read = read_protein(file, features=("secondary_structure", "exposure", "of somebody else")).features
    assert read.keys() == stored.keys()
    for name in read:
        assert torch.equal(read[name].nan_to_num(-1), stored[name].nan_to_num(-1)), name
    assert read["exposure"].isfinite().all()
    assert read_protein(file).features == {}


def test_a_bare_file_is_refused_where_a_feature_cannot_be_computed(glycines):
    file = glycines / "peptide0.pdb"
    put_two_atoms_at_one_place(file)
    with pytest.raises(StructureError, match=r"peptide0\.pdb: exposure unknown: .* the same coordinates"):
        read_protein(file, features=["exposure"])
    [item] = find_inputs([file], sequence_only=False, features=("exposure",))
    assert isinstance(item.read(), Refusal)
    [item] = find_inputs([file], sequence_only=False, features=("secondary_structure",))
    assert item.read().features.keys() == {"secondary_structure"}
