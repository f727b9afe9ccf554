from esmgn_core import Kind
from esmgn_core.testing import check_component


def test_egnn_keeps_the_contract_of_a_structure_encoder():
    check_component(Kind.STRUCT, "egnn", hidden_dim=16)
