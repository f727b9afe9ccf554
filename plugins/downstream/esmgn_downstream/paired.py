"""Binary classification of pairs of a protein and its mutant."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.errors import StructureError
from esmgn_core.graph import View
from esmgn_core.metrics import auroc, average_precision, mean_of_known
from esmgn_downstream.head import MLP, HeadedTask, HeadSettings, known_labels


class Paired(HeadedTask):
    """Binary cross-entropy of a pair, from the representations of its mutated residues.

    The same encoder encodes both proteins. Mutated residues are those whose types differ. The head reads
    the mean of their representations in the wild type, concatenated with that in the mutant. The proteins of
    a pair are consecutive in the batch, wild type first, and have the same length. Long proteins are cut to
    a window around the mutation.

    Source: arXiv 2303.06275, section 4.1 (mutation stability prediction); Townshend et al. 2021
    (arXiv 2012.04035).
    """

    predicts_residues = True

    class Settings(HeadSettings):
        """Settings of :class:`Paired`."""

        num_layers: int = Field(1, ge=1)
        """Linear layers of the head; hidden layers are as wide as its input."""

    output = "multilabel"
    metric = "auroc"
    group_size = 2

    def __init__(self, settings: Settings, *, encoder_dim: int, num_targets: int) -> None:
        super().__init__()
        self.settings = settings
        self.label_dim = num_targets
        self.head = MLP(2 * encoder_dim, num_targets, settings)

    def prepare(self, labels: Tensor) -> None:
        """Do nothing: this task needs no statistics of the labels."""

    def window_starts(self, batch: ProteinBatch, max_length: int) -> Tensor:
        """Start of windows around the middle of the mutated residues, the same for both of a pair."""
        wild, _, differs = _pairs(batch)
        place = wild - batch.ptr[batch.protein_index[wild]]
        pair = batch.protein_index[wild] // 2
        at = pair[differs], place[differs]
        lengths = batch.lengths[::2]
        first = lengths.scatter_reduce(0, *at, "amin", include_self=False)
        last = torch.zeros_like(lengths).scatter_reduce(0, *at, "amax")
        # Without a mutated residue, first is the length of the protein.
        start = ((first + last) // 2 - max_length // 2).clamp(min=0)
        return torch.minimum(start, (lengths - max_length).clamp(min=0)).repeat_interleave(2)

    def predict(self, encoding: Encoding, batch: ProteinBatch) -> Tensor:
        """Logits float32 [P, T] of the P pairs."""
        wild, mutant, differs = _pairs(batch)
        pair = (batch.protein_index[wild] // 2)[differs]
        count = pair.bincount(minlength=len(batch) // 2).clamp(min=1).unsqueeze(1)
        features = []
        for rows in (wild[differs], mutant[differs]):
            empty = encoding.residue.new_zeros(len(batch) // 2, encoding.residue.shape[1])
            features.append(empty.index_add(0, pair, encoding.residue.index_select(0, rows)) / count)
        logits: Tensor = self.head(torch.cat(features, dim=1))
        return logits.float()

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean binary cross-entropy over the pairs whose label is known."""
        (view,), (encoding,) = views, encodings
        labels, known = (values[::2] for values in known_labels(view.batch))
        each = functional.binary_cross_entropy_with_logits(
            self.predict(encoding, view.batch), labels, reduction="none"
        )
        num_known = int(known.sum())
        return TaskOutput((each * known).sum() / max(num_known, 1), num_known)

    def score(self, predictions: Tensor, labels: Tensor, groups: Tensor) -> dict[str, float]:  # noqa: ARG002
        """Area under the ROC curve and average precision, as means over the targets that define them."""
        pairs = list(zip(predictions.T, labels.T, strict=True))
        metrics = {"auroc": auroc, "aupr": average_precision}
        return {name: mean_of_known([metric(*pair) for pair in pairs]) for name, metric in metrics.items()}


def _pairs(batch: ProteinBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Rows int64 [M] of wild types and mutants, and the mask bool [M] of the mutated residues.

    Raises:
        StructureError: the proteins of a pair differ in length.
    """
    lengths = batch.lengths.view(-1, 2)
    for pair in (lengths[:, 0] != lengths[:, 1]).nonzero().flatten().tolist()[:1]:
        first, second = batch.names[2 * pair : 2 * pair + 2]
        raise StructureError(
            f"'{first}' and '{second}' are a pair but have {lengths[pair, 0]} and {lengths[pair, 1]} residues"
        )
    is_mutant = batch.protein_index % 2 == 1
    wild, mutant = (~is_mutant).nonzero().flatten(), is_mutant.nonzero().flatten()
    return wild, mutant, batch.residue_type[wild] != batch.residue_type[mutant]
