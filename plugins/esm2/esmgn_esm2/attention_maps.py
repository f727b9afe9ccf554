"""Attention weights of every block and head, computed on request only."""

import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch
from esmgn_esm2.model import Transformer
from esmgn_esm2.tokens import PackedTokens


@torch.no_grad()
def attention_maps(model: Transformer, tokens: PackedTokens, batch: ProteinBatch) -> list[Tensor]:
    """Attention weights between the residues of each protein.

    Args:
        model: the transformer.
        tokens: the batch in tokens.
        batch: N residues packed from B proteins.

    Returns:
        For each protein of L residues float [layers, heads, L, L]. Row i holds the weights of residue i; they
        sum to less than 1, because ``<cls>`` and ``<eos>`` have the rest. Weights between residues of
        different sequences are 0. A map takes layers x heads x L x L x 4 bytes.
    """
    size = (len(model.layers), model.attention_heads)
    weight = model.embed_tokens.weight
    maps = [weight.new_zeros(*size, length, length) for length in batch.lengths.tolist()]
    places = _places(tokens, batch)
    for layer, groups in enumerate(model.attention_weights(tokens)):
        sequences = (weights for group in groups for weights in group)
        for (protein, first), weights in zip(places, sequences, strict=True):
            end = first + weights.shape[-1] - 2
            maps[protein][layer, :, first:end, first:end] = weights[:, 1:-1, 1:-1]
    return maps


def _places(tokens: PackedTokens, batch: ProteinBatch) -> list[tuple[int, int]]:
    """For each sequence its protein, and the position in that protein of its first residue."""
    is_first = tokens.position[tokens.residue_row] == 1
    residue = is_first.nonzero().squeeze(1)
    order = tokens.sequence_index[tokens.residue_row[residue]].argsort()
    residue = residue[order]
    protein = batch.protein_index[residue]
    return list(zip(protein.tolist(), (residue - batch.ptr[protein]).tolist(), strict=True))
