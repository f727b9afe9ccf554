"""Groups of related proteins, and their splits."""

from __future__ import annotations

import numpy as np
import pytest

from esmgn_core import related as module
from esmgn_core.alphabet import AMINO_ACIDS, UNKNOWN
from esmgn_core.errors import SettingsError
from esmgn_core.related import Chains, checked, related, similar_chains
from esmgn_core.splits import Shares, assign, in_fraction

LETTERS = len(AMINO_ACIDS)


def drawn(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, LETTERS, length).astype(np.uint8)


def substituted(sequence: np.ndarray, *places: int) -> np.ndarray:
    changed = sequence.copy()
    changed[list(places)] = (changed[list(places)] + 1) % LETTERS
    return changed


def chains_of(*sequences: np.ndarray, protein: list[int] | None = None) -> Chains:
    ptr = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])])
    owners = np.arange(len(sequences)) if protein is None else np.array(protein)
    return Chains(np.concatenate([np.zeros(0, np.uint8), *sequences]), ptr, owners)


def groups(chains: Chains, *, shared: float = 0.5, names: list[str] | None = None) -> list[int]:
    number = int(chains.protein.max(initial=-1)) + 1
    names = [f"p{place}" for place in range(number)] if names is None else names
    return related(names, list(range(number)), chains, shared=shared).tolist()


def by_definition(sequences: list[np.ndarray], shared: float) -> list[int]:
    """Single linkage over all pairs, written down."""
    words = [
        {tuple(s[i : i + 5]) for i in range(len(s) - 4) if UNKNOWN not in s[i : i + 5]} for s in sequences
    ]
    number = list(range(len(sequences)))
    for one in range(len(words)):
        for other in range(one):
            small = min(len(words[one]), len(words[other]))
            similar = small >= 8 and len(words[one] & words[other]) >= shared * small
            if similar:
                old, new = number[one], number[other]
                number = [min(old, new) if each in (old, new) else each for each in number]
    return number


@pytest.mark.parametrize("shared", [0.06, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_groups_are_those_of_all_pairs(seed: int, shared: float) -> None:
    """Random proteins, mutants with 1 to 30 % substitutions, parts, fusions and unknown residues."""
    generator = np.random.default_rng(seed)
    sequences = [drawn(int(generator.integers(5, 120)), seed * 100 + number) for number in range(12)]
    for number in range(30):
        own = sequences[int(generator.integers(len(sequences)))]
        rate = generator.choice([0.01, 0.05, 0.1, 0.3])
        changed = substituted(own, *np.flatnonzero(generator.random(len(own)) < rate))
        cut = changed[int(generator.integers(0, len(own) // 2 + 1)) :]
        sequences.append([changed, cut, np.concatenate([cut, drawn(40, number)])][number % 3])
    sequences[3][2:4] = UNKNOWN
    assert groups(chains_of(*sequences), shared=shared) == by_definition(sequences, shared)


@pytest.mark.parametrize("length", [20, 24, 60, 300])
def test_point_mutants_of_one_protein_are_related(length: int) -> None:
    """A substitution changes five 5-mers at most, two of them ten."""
    wild = drawn(length)
    mutants = [substituted(wild, place) for place in range(0, length, max(length // 20, 1))]
    assert len(set(groups(chains_of(*mutants)))) == 1
    assert set(groups(chains_of(wild, drawn(length, 1)))) == {0, 1}


def test_a_part_of_a_protein_is_related_to_it() -> None:
    whole = drawn(400)
    assert groups(chains_of(whole, drawn(400, 1), whole[250:280])) == [0, 1, 0]


def test_the_threshold_is_a_share_of_the_smaller_chain() -> None:
    """40 of 100 residues in common: 36 of 96 5-mers."""
    first = drawn(300)
    second = np.concatenate([first[:40], drawn(60, 1)])
    assert groups(chains_of(first, second), shared=0.38) == [0, 1]
    assert groups(chains_of(first, second), shared=0.37) == [0, 0]
    assert groups(chains_of(first, second), shared=0) == [0, 1]


def test_one_similar_chain_relates_two_complexes() -> None:
    common, one, other = drawn(80), drawn(200, 1), drawn(300, 2)
    chains = chains_of(common, one, substituted(common, 9), other, drawn(80, 3), protein=[0, 0, 1, 1, 2])
    assert groups(chains) == [0, 0, 2]


def test_no_5_mer_reaches_over_the_end_of_a_chain() -> None:
    """Cut into chains of 10 residues, a protein has nothing in common with itself."""
    whole = drawn(100)
    pieces = [whole[first : first + 10] for first in range(0, 100, 10)]
    assert groups(chains_of(whole, *pieces, protein=[0, *[1] * 10])) == [0, 1]


def test_peptides_and_repeats_of_few_words_relate_nothing() -> None:
    tag, repeat = np.full(20, 6, np.uint8), np.tile(drawn(3), 12)
    proteins = [np.concatenate([tag, drawn(100, seed), repeat]) for seed in (1, 2)]
    assert len(set(groups(chains_of(*proteins, tag, repeat)))) == 4


def test_a_tag_of_many_proteins_does_not_relate_them() -> None:
    tag = drawn(20)
    tagged = [np.concatenate([tag, drawn(90, 1 + number)]) for number in range(60)]
    pair = substituted(tagged[50], 30)
    assert groups(chains_of(*tagged, pair)) == [*range(60), 50]


def test_unknown_residues_match_nothing() -> None:
    unknown = np.full(60, UNKNOWN, np.uint8)
    one, other = (np.concatenate([unknown, drawn(30, seed)]) for seed in (1, 2))
    assert groups(chains_of(one, other)) == [0, 1]


def test_identical_chains_are_similar_unless_they_are_peptides() -> None:
    """A ligand of a few residues in two complexes does not relate them."""
    short, own = np.array([1, 2, 3], np.uint8), drawn(40)
    one, other = similar_chains(chains_of(short, own, short, own, own), 0.5)
    assert sorted(zip(one.tolist(), other.tolist(), strict=True)) == [(1, 3), (1, 4)]
    assert related(["a", "b"], ["MKV", "MKV"], chains_of(short, short)).tolist() == [0, 0]


@pytest.mark.parametrize("chains", [chains_of(), chains_of(np.zeros(0, np.uint8)), chains_of(drawn(3))])
def test_nothing_to_compare(chains: Chains) -> None:
    assert groups(chains) == list(range(len(chains.protein)))


def test_groups_do_not_depend_on_how_the_work_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = [substituted(drawn(60, number // 3), 7 * (number % 3) + 10) for number in range(60)]
    expected = groups(chains_of(*sequences))
    assert expected == [number // 3 * 3 for number in range(60)]
    monkeypatch.setattr(module, "_CHUNK", 100)
    monkeypatch.setattr(module, "_PART", 500)
    assert groups(chains_of(*sequences)) == expected


def test_fragments_of_one_accession_are_related_whatever_their_version_and_folder() -> None:
    names = [
        "AF-Q8WZ42-F1-model_v4",
        "AF-Q8WZ42-F2-model_v4",
        "AF-Q8WZ42-F2-model_v3.pdb",
        "human/AF-Q8WZ42-F17-model_v4",
        "af-q8wz42-f3-model_v4",
        "AF-Q8WZ42-2-F1-model_v4",
        "AF-Q8WZ4-F1-model_v4",
        "AF-A0A024R1R8-F1-model_v4",
        "Q8WZ42",
    ]
    chains = chains_of(*(drawn(40, number) for number in range(len(names))))
    assert groups(chains, names=names) == [0, 0, 0, 0, 0, 0, 6, 7, 8]


def test_a_group_is_in_one_split_whatever_the_shares() -> None:
    keys = [f"key {number}" for number in range(300)]
    members = [number // 3 for number in range(300)]
    for valid in np.linspace(0, 0.9, 10):
        splits = assign(members, keys, Shares(float(valid), 0.1))
        assert splits[::3] == splits[1::3] == splits[2::3]
        assert "train" in splits


def test_a_protein_without_relatives_is_split_by_its_sequence() -> None:
    """As always, whatever else is in the dataset."""
    keys = [f"key {number}" for number in range(200)]
    splits = assign(range(200), keys, Shares(0.2))
    assert [split == "valid" for split in splits] == [in_fraction(key, 0.2) for key in keys]
    assert assign(range(50), keys[:50], Shares(0.2)) == splits[:50]


def test_a_group_of_most_proteins_is_in_the_training_set() -> None:
    for seed in range(30):
        splits = assign(
            [0] * 11 + list(range(1, 11)), [f"{seed} {number}" for number in range(21)], Shares(0.9)
        )
        assert splits[:11] == ["train"] * 11


@pytest.mark.parametrize(("size", "allowed"), [(20, True), (21, False)])
def test_a_group_of_more_than_twice_the_share_is_in_the_training_set(size: int, allowed: bool) -> None:
    """A tenth was requested: a fifth of all proteins is close enough, more is not."""
    found = set()
    for seed in range(60):
        keys = [f"{seed} {number}" for number in range(100)]
        found.add(assign([0] * size + list(range(size, 100)), keys, Shares(0.1))[0])
    assert found == ({"train", "valid"} if allowed else {"train"})


def test_shares_above_1_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"0\.6 and the test set 0\.5 exceed 1"):
        Shares(0.6, 0.5)


def test_the_message_lists_comparisons_made_and_not_made() -> None:
    assert checked(0.5) == (
        (
            "checked: identical sequences, fragments of one AlphaFold accession, "
            "chains sharing at least 50 % of the smaller one's 5-mers"
        ),
        "not checked: remote homology (use esmgn data split with --identity or --clusters)",
    )
    assert checked(0, "clusters of x.tsv") == (
        "checked: identical sequences, fragments of one AlphaFold accession, clusters of x.tsv",
        "not checked: 5-mers, remote homology",
    )
