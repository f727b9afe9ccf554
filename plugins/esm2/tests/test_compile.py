"""Blocks under ``torch.compile``."""

import copy

import pytest
import torch

from esmgn_esm2.encoder import ESM2
from esmgn_esm2.esm1 import ESM1

SIZE = {"num_layers": 3, "embed_dim": 32, "attention_heads": 4, "weights": "random"}

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*script_method.*:DeprecationWarning", "ignore:The .grad:UserWarning"
)


def compiled(encoder, **options):
    """A copy of an encoder with compiled blocks."""
    encoder = copy.deepcopy(encoder)
    for layer in encoder.model.layers:
        layer.compile(dynamic=True, **options)
    return encoder


@pytest.mark.parametrize("kind", [ESM1, ESM2])
def test_new_lengths_compile_nothing_anew(kind, make_batch):
    """Two graphs for all blocks and batches, each with the results of the blocks as they are."""
    torch._dynamo.reset()
    graphs = []
    torch.manual_seed(0)
    encoder = kind(kind.Settings(**SIZE)).eval()
    counted = compiled(encoder, backend=lambda graph, _: graphs.append(graph) or graph)
    with torch.no_grad():
        for sequences in (("ACDEF", "GHIKLMN"), ("MKTAYIAKQRQISFVK",), ("AC", "AC", "DEFGHIKLMNP")):
            batch = make_batch(*sequences)
            expected = encoder(batch).residue
            assert (counted(batch).residue - expected).abs().max() < 1e-5 * expected.abs().max()
    assert len(graphs) == 2


@pytest.mark.slow
def test_compiled_blocks_give_the_same_numbers_and_gradients(make_batch):
    """By PyTorch's own compiler."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    encoder = ESM2(ESM2.Settings(**SIZE))
    both = encoder, compiled(encoder)
    batch = make_batch("ACDEF", "GHIKLMN", "MKTAYIAKQRQISFVK")
    residues = [one(batch).residue for one in both]
    assert (residues[0] - residues[1]).abs().max() < 1e-5 * residues[0].abs().max()
    direction = torch.randn_like(residues[0])
    for residue in residues:
        (residue * direction).sum().backward()
    largest = max(parameter.grad.abs().max() for parameter in encoder.parameters())
    for name, parameter in encoder.named_parameters():
        difference = both[1].get_parameter(name).grad - parameter.grad
        assert difference.abs().max() < 1e-5 * largest, name
