"""Variants as tables of mutational scans write them."""

from __future__ import annotations

import pytest

from esmgn_core.inference.mutate.notation import NotScored, read_change, read_variant


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("A12G", "A12G"),
        ("A12G:L15V", "A12G L15V"),  # ProteinGym
        ("A12G,L15V,K3R", "A12G L15V K3R"),  # nn4dms
        ("A12G;L15V", "A12G L15V"),
        ("A12G_L15V", "A12G L15V"),
        ("A12G-L15V", "A12G L15V"),
        ("A12G / L15V", "A12G L15V"),
        ("p.Lys2Ala", "K2A"),  # HGVS, MaveDB
        ("p.(Lys2Ala)", "K2A"),
        ("p.[Lys2Ala;Gly3Val]", "K2A G3V"),
        ("p.[(Lys2Ala);(Gly3Val)]", "K2A G3V"),
        ("p.[Lys2Ala;Gly3=]", "K2A"),
        ("p.[Lys2Ala;Lys2Ala]", "K2A"),
        ("NP_000509.1:p.Glu7Val", "E7V"),
        ("p.Ala11Gly, p.Leu14Val", "A11G L14V"),  # Enrich2
        ("c.32C>G (p.Ala11Gly), c.40C>G (p.Leu14Val)", "A11G L14V"),
        ("c.32C>G (p.Ala11Gly), c.42A>G (p.=)", "A11G"),
        ("K-2A:H-1G", "K-2A H-1G"),
        ("Y60aA", "Y60aA"),
    ],
)
def test_substitutions_are_read(text: str, changes: str) -> None:
    found = read_variant(text)
    assert not isinstance(found, NotScored)
    assert " ".join(map(str, found)) == changes


@pytest.mark.parametrize(
    ("reason", "texts"),
    [
        (NotScored.EMPTY, ("", " ", "NA", "nan")),
        (NotScored.WILD_TYPE, ("WT", "wt", "_wt", "wild-type", "p.=", "p.(=)")),
        (NotScored.SYNONYMOUS, ("_sy", "A12=", "A12A", "p.Lys2=", "p.(Lys2=)", "p.Lys2Lys", "c.6A>G (p.=)")),
        (NotScored.STOP, ("A12*", "K2_", "p.Lys2Ter", "p.(Lys2Ter)", "p.Lys2*", "A12*:L15V", "p.Ter9Lys")),
        (NotScored.FRAMESHIFT, ("p.Lys2fs", "p.Lys2GlyfsTer5", "K2fs*4")),
        (NotScored.DELETION, ("p.Lys2del", "p.Lys2_Gly4del", "K2del", "K2-", "delK2")),
        (NotScored.INSERTION, ("p.Lys2_Leu3insGln", "p.Lys2delinsTrpVal", "p.Lys2dup", "p.Pro2_Gly8dup")),
        (NotScored.OTHER_RESIDUE, ("A12X", "A12B", "p.Lys2Xaa", "p.Met1?", "A12Z:L15V")),
        (
            NotScored.UNREADABLE,
            ("foo", "a12g", "12", "MKHLAEDC", "p.?", "A12G:A12V", "A12G:foo", "K٢A", "K٢del"),
        ),
    ],
)
def test_texts_without_a_substitution_have_a_reason(reason: NotScored, texts: tuple[str, ...]) -> None:
    assert {text: read_variant(text) for text in texts} == dict.fromkeys(texts, reason)


@pytest.mark.parametrize("text", ["A12", "12G", "B12G", "Foo12Gly", "A12*", "K٢A"])
def test_a_single_change_has_two_of_the_amino_acids(text: str) -> None:
    assert read_change(text) is None
