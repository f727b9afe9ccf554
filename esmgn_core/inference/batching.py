"""Batches of proteins for forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from esmgn_core.batch import Protein
from esmgn_core.errors import EsmgnError
from esmgn_core.inference.embedding import Embedding
from esmgn_core.inference.model import Model
from esmgn_core.printable import counted

Progress = Callable[[int, int], None]
"""Called with the number of finished items and their total."""


def plan_batches(lengths: Sequence[int], max_residues: int) -> list[list[int]]:
    """Group proteins of similar length into batches of at most ``max_residues`` residues.

    A longer protein is a batch by itself.

    Returns:
        Indices into ``lengths``, longest proteins first.

    >>> plan_batches([50, 300, 40, 60, 900], max_residues=400)
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


def equal_batches(
    length: int, count: int, max_residues: int, progress: Progress | None
) -> Iterator[list[int]]:
    """Batches of ``count`` proteins of equal length; progress is reported after each."""
    done = 0
    for batch in plan_batches([length] * count, max_residues):
        yield batch
        done += len(batch)
        if progress:
            progress(done, count)


def embed_all(model: Model, proteins: Sequence[Protein], max_residues: int) -> list[Embedding | str]:
    """Embed proteins. A protein that the model cannot embed gives the reason, a text, instead."""
    results: list[Embedding | str] = [""] * len(proteins)
    for batch in plan_batches([len(protein) for protein in proteins], max_residues):
        for index, result in zip(batch, _embed([proteins[i] for i in batch], model), strict=True):
            results[index] = result
    return results


def _embed(proteins: list[Protein], model: Model) -> list[Embedding | str]:
    """Embed one batch. A batch that fails is halved, to find the protein that causes it."""
    try:
        return [*model.embed_batch(proteins)]
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        size = counted(len(proteins[0]), "residue")
        reason = f"a protein of {size} does not fit into the memory of {model.device}"
    except EsmgnError as error:  # such as a chain that is too long for ESM-1b
        reason = ": ".join([error.message, *error.hints])
    if len(proteins) == 1:
        return [reason]
    half = len(proteins) // 2
    return [*_embed(proteins[:half], model), *_embed(proteins[half:], model)]
