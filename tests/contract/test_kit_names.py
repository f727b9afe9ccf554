"""The conformance kit reports attributes that are nearly called like an optional member."""

from __future__ import annotations

from typing import Any

import pytest

from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import ExampleGraph, check_class

from .planted.data import Healthy as Dataset
from .planted.downstream import Healthy as Downstream
from .planted.sequence import HealthySequence


class Pooled(ComponentSettings):
    """A setting that nothing reads."""

    read_out: str = "sum"
    """How residues are pooled."""


def named(component: type, **attributes: Any) -> type:
    return type("Own", (component,), attributes)


@pytest.mark.parametrize(
    ("kind", "component", "message"),
    [
        (Kind.SEQ, named(HealthySequence, join_chains=True), "attribute 'join_chains'.*'joins_chains'"),
        (Kind.SEQ, named(HealthySequence, recomputes=True), "attribute 'recomputes'.*'recompute'"),
        (Kind.SEQ, named(HealthySequence, weight_sha256="0"), "attribute 'weight_sha256'.*'weights_sha256'"),
        (Kind.DOWNSTREAM, named(Downstream, max_residue=9), "attribute 'max_residue'.*'max_residues'"),
        (Kind.DOWNSTREAM, named(Downstream, outputs="values"), "attribute 'outputs'.*'output'"),
        (Kind.DOWNSTREAM, named(Downstream, show_whole=len), "attribute 'show_whole'.*'shows_whole'"),
        (Kind.DATA, named(Dataset, length=[1]), "attribute 'length'.*'lengths'"),
        (Kind.DATA, named(Dataset, residueFeatures=()), "attribute 'residueFeatures'.*'residue_features'"),
        (Kind.GRAPH, named(ExampleGraph, edge_into=len), "attribute 'edge_into'.*'edges_into'"),
        (Kind.GRAPH, named(ExampleGraph, Settings=Pooled), "setting 'read_out'.*'readout'"),
    ],
)
def test_a_name_that_is_nearly_an_optional_member_is_reported(
    kind: Kind, component: type, message: str
) -> None:
    with pytest.raises(AssertionError, match=f"^{kind.long_name} 'Own': the {message}"):
        check_class(kind, component)
