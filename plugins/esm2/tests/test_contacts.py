"""Contacts equal those of fair-esm and transformers, and the command compares them with a structure."""

from __future__ import annotations

import pytest
import torch
from esm.data import Alphabet

from esmgn_core.errors import WeightsError
from esmgn_esm2.contacts import ContactHead
from esmgn_esm2.encoder import ESM2

from .test_wrappers import SEQUENCE, make

TINY = {"num_layers": 2, "embed_dim": 16, "attention_heads": 4}


@torch.no_grad()
def test_contacts_are_fair_esms(fair_esm_file, make_batch):
    model, path = fair_esm_file(**TINY)
    torch.nn.init.normal_(model.contact_head.regression.weight)
    with pytest.raises(WeightsError, match="have no contact head") as caught:
        ESM2(ESM2.Settings(weights=path, contact_head=True, **TINY))
    beside = path.with_name(f"{path.stem}-contact-regression.pt")
    assert str(beside) in str(caught.value)
    state = {f"contact_head.{name}": value for name, value in model.contact_head.state_dict().items()}
    torch.save({"model": state}, beside)
    ours = ESM2(ESM2.Settings(weights=path, contact_head=True, **TINY)).eval()
    convert = Alphabet.from_architecture("ESM-1b").get_batch_converter()
    for sequence in (SEQUENCE, SEQUENCE[:13]):
        expected = model.predict_contacts(convert([("x", sequence)])[2])[0]
        [found] = ours.contacts(make_batch(sequence))
        assert (found - expected).abs().max() < 1e-5
    first, second = (ours.contacts(make_batch(part))[0] for part in (SEQUENCE[:20], SEQUENCE[20:]))
    [both] = ours.contacts(make_batch(f"{SEQUENCE[:20]}/{SEQUENCE[20:]}"))
    assert (both[:20, :20] - first).abs().max() < 1e-5
    assert (both[20:, 20:] - second).abs().max() < 1e-5
    assert both[:20, 20:].isnan().all()


@torch.no_grad()
def test_contacts_are_those_of_transformers(tmp_path, make_batch):
    folder, model = make(tmp_path, attn_implementation="eager")
    torch.nn.init.normal_(model.esm.contact_head.regression.weight)
    model.save_pretrained(folder)
    ours = ESM2(
        ESM2.Settings(weights=folder, contact_head=True, num_layers=3, embed_dim=32, attention_heads=4)
    ).eval()
    from esmgn_esm2.tokens import ALPHABET

    tokens = torch.tensor([[0, *(ALPHABET.index(letter) for letter in SEQUENCE), 2]])
    expected = model.predict_contacts(tokens, torch.ones_like(tokens))[0]
    [found] = ours.contacts(make_batch(SEQUENCE))
    assert (found - expected).abs().max() < 1e-5


def test_a_head_of_another_size_is_refused(tmp_path):
    from esmgn_esm2.contacts import fill_contact_head

    folder, _ = make(tmp_path)
    with pytest.raises(WeightsError, match="of a model of another size"):
        fill_contact_head(ContactHead(7), folder)
