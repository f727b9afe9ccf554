"""One-hot residue types as a sequence encoder."""

from __future__ import annotations

from esmgn_core.testing import example_batch
from esmgn_onehot.encoder import OneHot


def test_representations_are_residue_types_and_their_share() -> None:
    batch = example_batch()
    encoding = OneHot(OneHot.Settings())(batch)
    assert encoding.residue.argmax(dim=1).tolist() == batch.residue_type.tolist()
    assert (encoding.residue.sum(dim=1) == 1).all()
    assert encoding.protein.sum(dim=1).allclose(encoding.protein.new_ones(len(batch)))


def test_there_is_nothing_to_train() -> None:
    assert not list(OneHot(OneHot.Settings()).parameters())
