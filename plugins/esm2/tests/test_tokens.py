import pytest
import torch

from esmgn_core.alphabet import AMINO_ACIDS, MASKED, UNKNOWN
from esmgn_core.attention import Group
from esmgn_esm2.tokens import ALPHABET, MASK, pack_tokens, token_table


def packed(batch, chains="separate", unknown="X"):
    return pack_tokens(batch, token_table(unknown), chains)


def spelled(tokens):
    return [ALPHABET[token] for token in tokens.token.tolist()]


def test_alphabet_is_fair_esms():
    from esm.data import Alphabet

    assert tuple(Alphabet.from_architecture("ESM-1b").all_toks) == ALPHABET


def test_residue_types_keep_their_letters():
    table = token_table("X")
    assert [ALPHABET[token] for token in table[: len(AMINO_ACIDS)]] == list(AMINO_ACIDS)
    assert ALPHABET[table[UNKNOWN]] == "X"
    assert table[MASKED] == MASK == 32
    assert ALPHABET[token_table("G")[UNKNOWN]] == "G"


def test_every_sequence_has_its_own_ends_and_none_is_padded(make_batch):
    """Shortest first; each residue is found again at its row."""
    batch = make_batch("ACD", "X#", "EFG")
    tokens = packed(batch)
    assert spelled(tokens) == [
        *("<cls>", "X", "<mask>", "<eos>"),
        *("<cls>", "A", "C", "D", "<eos>"),
        *("<cls>", "E", "F", "G", "<eos>"),
    ]
    assert tokens.pack.groups == (Group(1, 4), Group(2, 5))
    assert tokens.lengths.tolist() == [4, 5, 5]
    assert tokens.position.tolist() == [*range(4), *range(5), *range(5)]
    assert tokens.sequence_index.tolist() == [0] * 4 + [1] * 5 + [2] * 5
    assert torch.equal(tokens.token[tokens.residue_row], token_table("X")[batch.residue_type])


@pytest.mark.parametrize(
    ("chains", "expected"),
    [
        ("separate", ["<cls>", "D", "<eos>", "<cls>", "A", "C", "<eos>", "<cls>", "E", "F", "<eos>"]),
        ("concatenated", ["<cls>", "E", "F", "<eos>", "<cls>", "A", "C", "D", "<eos>"]),
    ],
)
def test_chains_are_sequences_of_their_own_or_joined(make_batch, chains, expected):
    """Neighbouring proteins stay apart although both have a chain 0."""
    assert spelled(packed(make_batch("AC/D", "EF"), chains)) == expected


def test_proteins_without_residues_yield_no_sequence(make_batch):
    batch = make_batch("AC", "DE", "FG").select(torch.tensor([True, True, False, False, True, True]))
    assert packed(batch, "concatenated").lengths.tolist() == [4, 4]
    nothing = packed(make_batch("AC").select(torch.tensor([False, False])))
    assert nothing.token.shape == (0,)
    assert nothing.pack.groups == ()
