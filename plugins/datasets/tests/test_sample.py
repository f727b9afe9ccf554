import hashlib
import warnings

import gemmi
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import ProteinBatch
from esmgn_core.splits import in_fraction
from esmgn_datasets.made_up.contacts import CLOSEST
from esmgn_datasets.made_up.folds import FOLDS
from esmgn_datasets.made_up.sequences import BURIALS, STATES, residue_burials, type_probabilities
from esmgn_datasets.sample import Sample

FIRST_TWENTY = "42aad1fc5bf2ce4936ea3931bed76990e3611a28c6dd0d2eefa9ac378eabec05"
"""SHA-256 of names, residue types and coordinates of the first twenty proteins of the default set."""


@pytest.fixture(scope="module")
def data():
    return Sample(Sample.Settings())


@pytest.fixture(scope="module")
def backbones(data):
    return [protein.backbone.double().numpy() for protein in data]


@pytest.fixture(scope="module")
def structures(data):
    return [data.secondary_structure(i) for i in range(len(data))]


def same(one, other):
    return (
        one.name == other.name
        and torch.equal(one.residue_type, other.residue_type)
        and torch.equal(one.backbone, other.backbone)
    )


def dihedrals(*points):
    return np.array(
        [
            gemmi.calculate_dihedral(*(gemmi.Position(*point) for point in row))
            for row in zip(*points, strict=True)
        ]
    )


def test_proteins_are_complete_single_chains(data):
    assert len(data) == 300
    assert data.group_size == 1
    for protein in data:
        n = len(protein)
        assert protein.backbone.shape == (n, 4, 3)
        assert protein.backbone.dtype == torch.float32
        assert protein.backbone.isfinite().all()
        assert protein.atom_mask.shape == (n, 4)
        assert protein.atom_mask.all()
        assert protein.residue_type.dtype == torch.int64
        assert protein.residue_index.tolist() == list(range(1, n + 1))
        assert protein.chain_index.tolist() == [0] * n
        assert protein.chains == ("A",)
        assert protein.plddt is None
        assert protein.labels is None


def test_proteins_pack_into_a_batch(data):
    batch = ProteinBatch.from_proteins([data[i] for i in range(4)])
    assert batch.num_residues == sum(len(data[i]) for i in range(4))


def test_names_tell_number_and_fold_and_every_fold_occurs(data):
    folds = set()
    for i, protein in enumerate(data):
        made_up, number, fold = protein.name.split("-")
        assert (made_up, int(number)) == ("sample", i)
        folds.add(fold)
    assert folds == set(FOLDS)


def test_lengths_spread_over_the_range(data):
    lengths = np.array([len(protein) for protein in data])
    assert lengths.min() >= 30
    assert lengths.max() <= 200
    assert np.histogram(lengths, bins=[30, 50, 80, 120, 160, 201])[0].min() >= 20


def test_bond_lengths_and_angles_are_ideal_to_the_precision_of_a_structure_file(backbones):
    for n, ca, c, o in (np.moveaxis(backbone, 1, 0) for backbone in backbones):
        for first, second, length in ((n, ca, 1.458), (ca, c, 1.525), (c, o, 1.231), (c[:-1], n[1:], 1.329)):
            np.testing.assert_allclose(np.linalg.norm(first - second, axis=-1), length, atol=0.003)
        for first, second, length in ((n, c, 2.459), (ca[:-1], n[1:], 2.438), (c[:-1], ca[1:], 2.435)):
            # The distance across an angle determines the angle: 0.005 angstrom are about 0.2 degrees.
            np.testing.assert_allclose(np.linalg.norm(first - second, axis=-1), length, atol=0.005)


def test_every_peptide_bond_is_trans(backbones):
    for _, ca, c, n in (np.moveaxis(backbone[:, [0, 1, 2, 0]], 1, 0) for backbone in backbones[::10]):
        omega = dihedrals(ca[:-1], c[:-1], n[1:], ca[1:])
        assert np.degrees(np.pi - np.abs(omega)).max() < 0.5


def test_no_atoms_clash(backbones):
    """CA keep 4.0 angstrom, N and O 2.6, all others 2.9, two or more residues apart; see CLOSEST."""
    for backbone in backbones:
        residue = np.repeat(np.arange(len(backbone)), 4)
        atoms = backbone.reshape(-1, 3)
        squares = (atoms**2).sum(axis=1)
        near = squares[:, None] + squares - 2.0 * atoms @ atoms.T < CLOSEST.max() ** 2
        first, second = np.nonzero(near)
        distance = np.linalg.norm(atoms[first] - atoms[second], axis=1)
        apart = np.abs(residue[first] - residue[second])
        excess = distance - CLOSEST[first % 4, second % 4]
        assert excess[apart >= 2].min() > -0.005
        both_o = (apart == 1) & (first % 4 == 3) & (second % 4 == 3)
        assert distance[both_o].min(initial=9.0) > 2.5


def test_proteins_are_as_compact_as_globular_ones(backbones):
    """Radius of gyration against the 2.2 n ** 0.38 angstrom of natural proteins (Skolnick et al. 1997)."""
    ratio = np.array(
        [np.sqrt(backbone[:, 1].var(axis=0).sum()) / (2.2 * len(backbone) ** 0.38) for backbone in backbones]
    )
    assert 0.98 < ratio.mean() < 1.12
    assert ratio.min() > 0.85
    assert ratio.max() < 1.4


def test_helices_are_right_handed(backbones, structures):
    """Four consecutive CA of a helix of L amino acids have a dihedral of about 50 degrees."""
    for backbone, structure in zip(backbones[::5], structures[::5], strict=True):
        start = [i for i in range(len(structure) - 3) if structure[i : i + 4] == "HHHH"]
        if start:
            ca = backbone[:, 1]
            angles = np.degrees(dihedrals(*(ca[np.array(start) + k] for k in range(4))))
            assert angles.mean() == pytest.approx(50.0, abs=4.0)
            assert angles.min() > 25.0


def test_dssp_finds_the_helices_and_sheets_that_were_built(data, structures):
    found = "".join(assigned(protein) for protein in data)
    built = np.array(list("".join(structures)))
    found = np.array(list(found))
    assert (found[built == "H"] == "H").mean() > 0.93
    assert (found[built == "E"] == "E").mean() > 0.83
    assert (found[built == "L"] == "C").mean() > 0.90
    assert not (found[built == "H"] == "E").any()
    assert not (found[built == "E"] == "H").any()


def test_every_fold_with_strands_has_sheets(data, structures):
    for fold in FOLDS:
        members = [i for i, protein in enumerate(data) if protein.name.endswith(fold)]
        built = np.array(list("".join(structures[i] for i in members)))
        found = np.array(list("".join(assigned(data[i]) for i in members)))
        if (built == "E").any():
            assert (found[built == "E"] == "E").mean() > 0.75, fold


def assigned(protein):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import mdtraj
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for letter in protein.sequence:
        residue = topology.add_residue(gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA), chain)
        for atom in ("N", "CA", "C", "O"):
            topology.add_atom(atom, mdtraj.element.Element.getBySymbol(atom[0]), residue)
    nanometres = protein.backbone.reshape(1, -1, 3).numpy() / 10.0
    return "".join(mdtraj.compute_dssp(mdtraj.Trajectory(nanometres, topology))[0])


def test_the_structure_says_much_about_residue_types(data, backbones, structures):
    """Mutual information of type and (secondary structure, burial) in nats, and what guesses are worth."""
    types = np.concatenate([protein.residue_type.numpy() for protein in data])
    letters = np.array(["HEL".index(letter) for letter in "".join(structures)])
    burial = np.concatenate([residue_burials(backbone) for backbone in backbones])
    counts = np.zeros((9, 20))
    np.add.at(counts, (letters * 3 + burial, types), 1)
    joint = counts / counts.sum()
    marginal = joint.sum(axis=0)
    independent = np.outer(joint.sum(axis=1), marginal)
    information = (joint * np.log(np.where(joint > 0.0, joint, 1.0) / independent)).sum()
    assert information > 0.5
    assert (counts.sum(axis=0) > 0).all()
    assert marginal.max() < 0.13
    assert joint.max(axis=1).sum() > 0.27


def test_the_docstring_is_honest_about_the_best_guess(backbones, structures):
    """Three in ten with the structure, one in ten without; the atoms determine phi of a loop."""
    state, burial = [], []
    for backbone, structure in zip(backbones, structures, strict=True):
        n, ca, c = (backbone[:, i] for i in range(3))
        phi = np.concatenate([[-1.0], dihedrals(c[:-1], n[1:], ca[1:], c[1:])])
        letters = ["T" if letter == "L" and phi[i] > 0.0 else letter for i, letter in enumerate(structure)]
        state += [STATES.index(letter) for letter in letters]
        burial.append(residue_burials(backbone))
    weights = np.zeros((len(STATES), len(BURIALS)))
    np.add.at(weights, (np.array(state), np.concatenate(burial)), 1.0)
    weights /= weights.sum()
    probabilities = type_probabilities()
    assert (weights * probabilities.max(axis=-1)).sum() == pytest.approx(0.31, abs=0.02)
    assert (weights[..., None] * probabilities).sum(axis=(0, 1)).max() == pytest.approx(0.11, abs=0.015)


def test_sequences_use_all_twenty_types_and_nothing_else(data):
    assert set("".join(protein.sequence for protein in data)) == set(AMINO_ACIDS)


def test_the_same_settings_give_the_same_proteins_bit_by_bit(data):
    again = Sample(Sample.Settings(num_proteins=8))
    assert all(same(again[i], data[i]) for i in range(8))


def test_a_protein_does_not_depend_on_how_many_there_are():
    few, many = (Sample(Sample.Settings(num_proteins=k, max_length=50, seed=3)) for k in (2, 5))
    assert all(same(few[i], many[i]) for i in range(2))
    assert few.secondary_structure(1) == many.secondary_structure(1)


def test_another_seed_gives_other_proteins():
    one, other = (Sample(Sample.Settings(num_proteins=1, max_length=40, seed=seed)) for seed in (0, 1))
    assert one[0].sequence != other[0].sequence


def test_the_default_set_is_the_same_on_every_machine(data):
    """A recorded digest: neither processor nor linear algebra library may show."""
    digest = hashlib.sha256()
    for i in range(20):
        protein = data[i]
        digest.update(protein.name.encode())
        digest.update(protein.sequence.encode())
        digest.update((protein.backbone.double() * 1000.0).round().to(torch.int32).numpy().tobytes())
    assert digest.hexdigest() == FIRST_TWENTY


def test_splits_share_nothing_and_leave_nothing_out(data):
    train, valid = set(data.split("train")), set(data.split("valid"))
    assert not train & valid
    assert train | valid == set(range(300))
    assert 15 <= len(valid) <= 45


def test_the_sequence_decides_on_the_split(data):
    held = [i for i, protein in enumerate(data) if in_fraction(protein.sequence, 0.1)]
    assert list(data.split("valid")) == held


def test_a_fraction_of_zero_holds_nothing_out():
    data = Sample(Sample.Settings(num_proteins=3, max_length=40, valid_fraction=0.0))
    assert list(data.split("train")) == [0, 1, 2]
    assert list(data.split("valid")) == []


def test_lengths_stay_within_bounds_of_the_user():
    data = Sample(Sample.Settings(num_proteins=6, min_length=57, max_length=58))
    assert {len(data[i]) for i in range(6)} <= {57, 58}


def test_secondary_structure_has_a_letter_for_every_residue(data, structures):
    for protein, structure in zip(data, structures, strict=True):
        assert len(structure) == len(protein)
        assert set(structure) <= set("HEL")


@pytest.mark.parametrize(
    "settings",
    [
        {"num_proteins": 0},
        {"min_length": 29},
        {"max_length": 201},
        {"seed": -1},
        {"valid_fraction": 1.5},
        {"lenght": 50},
    ],
)
def test_settings_out_of_bounds_are_refused(settings):
    with pytest.raises(ValidationError, match=next(iter(settings))):
        Sample.Settings(**settings)


def test_lengths_in_the_wrong_order_are_refused():
    with pytest.raises(ValidationError, match="min_length 100 is above max_length 50"):
        Sample.Settings(min_length=100, max_length=50)


def test_every_setting_is_described():
    assert all(field.description for field in Sample.Settings.model_fields.values())
