import torch
from esmgn_egnn.encoder import EGNN

from esmgn_core.testing import ExampleGraph, check_plugin, example_batch


def test_the_plugin_keeps_its_contracts():
    check_plugin("egnn", hidden_dim=16)


def test_moved_positions_rotate_with_the_protein():
    batch = example_batch()
    graph, features = ExampleGraph()(batch), batch.residue_one_hot
    model = EGNN(EGNN.Settings(hidden_dim=16), input_dim=features.shape[1], num_relations=graph.num_relations)
    rotation = torch.linalg.qr(torch.randn(3, 3)).Q
    hidden, position = model.encode(batch.ca, graph, features)
    hidden_too, rotated = model.encode(batch.ca @ rotation.T + 5, graph, features)
    torch.testing.assert_close(hidden_too, hidden, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(rotated, position @ rotation.T + 5, rtol=1e-3, atol=1e-3)
    assert (position - batch.ca).norm(dim=1).max() > 0.01
