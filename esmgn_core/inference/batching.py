"""Which proteins share a forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from esmgn_core.batch import Protein
from esmgn_core.errors import EsmgnError
from esmgn_core.inference.embedding import Embedding
from esmgn_core.inference.model import Model
from esmgn_core.printable import counted


def plan(lengths: Sequence[int], max_residues: int) -> list[list[int]]:
    """Batches of proteins of similar length, each with at most ``max_residues`` residues.

    A protein that is longer by itself has a batch of its own.

    >>> plan([50, 300, 40, 60, 900], max_residues=400)
    [[4], [1, 3], [0, 2]]
    """
    batches: list[list[int]] = []
    size = max_residues
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if size + lengths[index] > max_residues:
            batches.append([])
            size = 0
        batches[-1].append(index)
        size += lengths[index]
    return batches


def embed_all(model: Model, proteins: Sequence[Protein], max_residues: int) -> list[Embedding | str]:
    """The embedding of each protein, or the reason why the model gives none, in the given order."""
    results: list[Embedding | str] = [""] * len(proteins)
    for batch in plan([len(protein) for protein in proteins], max_residues):
        for index, result in zip(batch, _embed([proteins[i] for i in batch], model), strict=True):
            results[index] = result
    return results


def _embed(proteins: list[Protein], model: Model) -> list[Embedding | str]:
    """As :func:`embed_all` for one batch, which is halved where it does not fit the device."""
    try:
        return [*model.embed_batch(proteins)]
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        reason = (
            f"a protein of {counted(len(proteins[0]), 'residue')} does not fit the memory of {model.device}"
        )
    except EsmgnError as error:  # one protein the encoder cannot take, such as a chain too long for ESM-1b
        reason = ": ".join([error.message, *error.hints])
    if len(proteins) == 1:
        return [reason]
    half = len(proteins) // 2
    return [*_embed(proteins[:half], model), *_embed(proteins[half:], model)]
