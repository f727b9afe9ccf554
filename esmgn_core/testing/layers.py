"""Claims about encoders that run layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.layers import LayerState
from esmgn_core.protocols import LayeredEncoder, LayeredStructure
from esmgn_core.testing.claims import Claims, differences, snapshot
from esmgn_core.testing.encoders import EncoderSubject
from esmgn_core.testing.examples import (
    FEATURES_DIM,
    ExampleGraph,
    example_batch,
    example_features,
    example_proteins,
)

_TOLERANCE = 1e-5
_RELATION = 0

Begin = Callable[[ProteinBatch, Tensor | None], LayerState]


@torch.no_grad()
def sequence_layers(subject: EncoderSubject) -> None:
    """Run block by block, it gives the same encoding; an added token is a row of its protein only."""
    module, batch = subject.trained(), example_batch()
    if isinstance(module, LayeredEncoder):
        num_blocks, width = module.layer_sizes()

        def finish(state: LayerState) -> Encoding:
            for number in range(1, num_blocks + 1):
                state = module.block(number, state)
            return module.finish(state)

        direct = subject.encode(module, batch, ExampleGraph()(batch))
        _check(subject.claims, module.embed, finish, direct, width)


@torch.no_grad()
def structure_layers(subject: EncoderSubject) -> None:
    """Run layer by layer, it gives the same encoding; an added token is a node of its protein only."""
    module = subject.trained()
    if not isinstance(module, LayeredStructure):
        return
    graph, relation = ExampleGraph(), _RELATION

    def begin(batch: ProteinBatch, tokens: Tensor | None = None) -> LayerState:
        return module.begin(batch, graph(batch), example_features(batch), tokens, relation)

    def finish(state: LayerState) -> Encoding:
        for number in range(1, module.layer_sizes().num_layers + 1):
            state = module.layer(number, state)
        return module.finish(state)

    batch = example_batch()
    direct = subject.encode(module, batch, graph(batch))
    _check(subject.claims, begin, finish, direct, FEATURES_DIM)
    tokens = torch.ones(len(batch), FEATURES_DIM)
    apart = finish(module.begin(batch, graph(batch), example_features(batch), tokens, None))
    what = "nodes without edges change representations of residues"
    subject.claims.require_close(what, apart.residue, direct.residue, _TOLERANCE)


def _check(
    claims: Claims, begin: Begin, finish: Callable[[LayerState], Encoding], direct: Encoding, width: int
) -> None:
    batch = example_batch()
    lost = differences(snapshot(direct), snapshot(finish(begin(batch, None))))
    claims.require(not lost, f"layer by layer, the encoding differs: {', '.join(lost)}")
    tokens = torch.linspace(-1, 1, len(batch) * width).reshape(len(batch), width)
    plain, state = begin(batch, None), begin(batch, tokens)
    claims.require(not len(plain.token_row), "a state without tokens has rows of tokens")
    claims.require(
        torch.equal(state.hidden[state.token_row], tokens[state.token_protein]),
        "rows of tokens do not have the values of their proteins",
    )
    claims.require(
        torch.equal(state.hidden[state.residue_row], plain.hidden[plain.residue_row]),
        "added tokens change the rows of residues",
    )
    packed = finish(state)
    other = finish(begin(batch, tokens + torch.eye(len(batch), 1) * 3)).residue
    for number, protein in enumerate(example_proteins()):
        rows = batch.protein_index == number
        alone = finish(begin(ProteinBatch.from_proteins([protein]), tokens[number : number + 1]))
        what = f"with tokens, packing changes the residue representations of protein '{protein.name}'"
        claims.require_close(what, packed.residue[rows], alone.residue, _TOLERANCE)
        if number:
            what = "the token of another protein changes residue representations"
            claims.require_close(what, other[rows], packed.residue[rows], _TOLERANCE)
