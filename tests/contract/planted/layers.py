"""Encoders that run layer by layer, with a planted fault, and valid ones."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

from dataclasses import replace

import torch

from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing.examples import ExampleLayeredEncoder, ExampleLayeredStructure

from . import fault, valid


@valid(Kind.SEQ)
class Blocks(ExampleLayeredEncoder):
    def __init__(self, settings: ComponentSettings) -> None:
        super().__init__()


@fault(Kind.SEQ, "layer by layer, the encoding differs")
class ScalesInOneCall(Blocks):
    def forward(self, batch):
        encoding = super().forward(batch)
        return replace(encoding, residue=2 * encoding.residue)


@fault(Kind.SEQ, "added tokens change the rows of residues")
class TokensScaleResidues(Blocks):
    def embed(self, batch, tokens=None):
        state = super().embed(batch, tokens)
        if tokens is None:
            return state
        return replace(state, hidden=state.hidden.index_fill(0, state.residue_row[:1], 0.5))


@fault(Kind.SEQ, "rows of tokens do not have the values")
class OneTokenForAll(Blocks):
    def embed(self, batch, tokens=None):
        return super().embed(batch, None if tokens is None else tokens[:1].expand(len(batch), -1))


@fault(Kind.SEQ, "a state without tokens has rows of tokens")
class AlwaysATokenRow(Blocks):
    def embed(self, batch, tokens=None):
        state = super().embed(batch, tokens)
        return state if tokens is not None else replace(state, token_row=state.residue_row[:1])

    def block(self, number, state, inject=None):
        tokens = state.token_row[: len(state.token_protein)]
        return super().block(number, replace(state, token_row=tokens), inject)


@fault(Kind.SEQ, "with tokens, packing changes the residue representations")
class MixesTokens(Blocks):
    def block(self, number, state, inject=None):
        state = super().block(number, state, inject)
        if not len(state.token_row):
            return state
        return replace(state, hidden=state.hidden + state.hidden[state.token_row].mean(0))


@valid(Kind.STRUCT)
class Layers(ExampleLayeredStructure):
    def __init__(self, settings: ComponentSettings, *, input_dim: int, num_relations: int) -> None:
        super().__init__(input_dim)
        self.relation = torch.nn.Embedding(num_relations, input_dim)

    def begin(self, batch, graph, features, tokens=None, relation=None):
        features = features.index_add(0, graph.edge_index[1], self.relation(graph.relation))
        return super().begin(batch, graph, features, tokens, relation)


@fault(Kind.STRUCT, "layer by layer, the encoding differs")
class LayersScaleInOneCall(Layers):
    def forward(self, batch, graph, features):
        encoding = super().forward(batch, graph, features)
        return replace(encoding, residue=2 * encoding.residue)


@fault(Kind.STRUCT, "nodes without edges change representations")
class NodesAreAlwaysJoined(Layers):
    def begin(self, batch, graph, features, tokens=None, relation=None):
        return super().begin(batch, graph, features, tokens, relation or 0)


@fault(Kind.STRUCT, "with tokens, packing changes the residue representations")
class NodesOfOthers(Layers):
    def layer(self, number, state):
        state = super().layer(number, state)
        if not len(state.token_row):
            return state
        return replace(state, hidden=state.hidden + state.hidden[state.token_row].sum(0))
