"""Sequence encoders with a planted fault, and unusual valid ones."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

import time

import torch
from torch import nn

from esmgn_core.batch import Encoding
from esmgn_core.errors import SettingsError
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind

from . import fault, valid


@valid(Kind.SEQ)
class HealthySequence(nn.Module):
    """An embedding of the residue type and its neighbour in the chain."""

    class Settings(ComponentSettings):
        """No settings."""

    output_dim = 5

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.embedding = nn.Embedding(22, self.output_dim)

    def forward(self, batch):
        return Encoding.from_residues(self.embedding(batch.residue_type), batch)


@fault(Kind.SEQ, "depends on more than residue types and chains")
class ReadsStructure(HealthySequence):
    def forward(self, batch):
        near = (batch.ca.norm(dim=1) < 50).unsqueeze(1)
        return Encoding.from_residues(self.embedding(batch.residue_type) * near, batch)


@fault(Kind.SEQ, "depends on more than residue types and chains")
class ReadsNumbers(HealthySequence):
    def forward(self, batch):
        return Encoding.from_residues(
            self.embedding(batch.residue_type) + batch.residue_index.unsqueeze(1), batch
        )


@fault(Kind.SEQ, "residue representations are not all finite")
class HidesMaskedResidues(HealthySequence):
    def forward(self, batch):
        found = self.embedding(batch.residue_type)
        return Encoding.from_residues(
            found.masked_fill((batch.residue_type == 21).unsqueeze(1), torch.nan), batch
        )


class PoolsChains(HealthySequence):
    """Adds the mean over all residues of the protein."""

    def forward(self, batch):
        found = self.embedding(batch.residue_type)
        mean = Encoding.from_residues(found, batch, readout="mean").protein
        return Encoding.from_residues(found + mean[batch.protein_index], batch)


@fault(Kind.SEQ, "another chain of the protein, without joins_chains = True, changes representations")
class JoinsChainsUndeclared(PoolsChains):
    pass


@fault(Kind.SEQ, "another chain of the protein")
class DeniesToJoinChains(PoolsChains):
    joins_chains = False


@fault(Kind.SEQ, "another chain of the protein")
class ReadsTheNextChain(HealthySequence):
    """Adds the next residue of the protein, also across the end of a chain."""

    def forward(self, batch):
        found = self.embedding(batch.residue_type)
        joined = batch.protein_index[1:] == batch.protein_index[:-1]
        following = torch.cat([found[1:] * joined.unsqueeze(1), found[:1] * 0])
        return Encoding.from_residues(found + following, batch)


@valid(Kind.SEQ)
class JoinsChainsDeclared(PoolsChains):
    joins_chains = True


@valid(Kind.SEQ)
class ReadsTheNextResidue(HealthySequence):
    """Adds the next residue of the chain."""

    def forward(self, batch):
        found = self.embedding(batch.residue_type)
        joined = torch.ones(batch.num_residues, dtype=torch.bool, device=found.device)
        joined[batch.sequence_ptr()[1:] - 1] = False
        return Encoding.from_residues(found + found.roll(-1, 0) * joined.unsqueeze(1), batch)


@fault(Kind.SEQ, "reads the labels of the proteins")
class ReadsLabels(HealthySequence):
    def forward(self, batch):
        found = self.embedding(batch.residue_type)
        if batch.labels is not None:
            found = found + batch.labels.nan_to_num()[batch.protein_index, :1]
        return Encoding.from_residues(found, batch)


@fault(Kind.SEQ, "reads the names of the proteins")
class RecognisesNames(HealthySequence):
    def forward(self, batch):
        known = "other" not in batch.names[0]
        return Encoding.from_residues(self.embedding(batch.residue_type) * known, batch)


@fault(Kind.SEQ, "The encoding of a protein does not depend on the other proteins")
class CachesTheFirstBatch(HealthySequence):
    """Returns the first result of eval mode again, if the number of proteins agrees."""

    cached = None

    def forward(self, batch):
        found = Encoding.from_residues(self.embedding(batch.residue_type), batch)
        if self.training:
            return found
        if self.cached is None or len(self.cached.protein) != len(batch):
            self.cached = found
        return self.cached


@fault(Kind.SEQ, "8 threads")
class SharesAnAttribute(HealthySequence):
    """Passes the residue types to another method through an attribute."""

    def forward(self, batch):
        self.types = batch.residue_type
        time.sleep(1e-3)  # another thread runs in between
        return Encoding.from_residues(self.embedded(batch.residue_type != 3), batch)

    def embedded(self, weight):
        return self.embedding(self.types) * weight.unsqueeze(1)


class HealthyLanguageModel(HealthySequence):
    def __init__(self, settings):
        super().__init__(settings)
        self.head = nn.Linear(self.output_dim, 20)
        self.head.requires_grad_(False)

    def residue_logits(self, batch):
        return self.head(self(batch).residue)


@valid(Kind.SEQ)
class PredictsResidues(HealthyLanguageModel):
    """``residue_logits`` from a frozen head."""


@valid(Kind.SEQ)
class TiesItsHead(HealthySequence):
    """``residue_logits`` from the embedding of the residue types."""

    def residue_logits(self, batch):
        return self(batch).residue @ self.embedding.weight[:20].T


@valid(Kind.SEQ)
class LoadsItsHeadOnRequest(HealthySequence):
    def residue_logits(self, batch):
        raise SettingsError("the head is not loaded", "set seq.lm_head=true")


@fault(Kind.SEQ, r"residue_logits returns \(196, 22\), expected \(196, 20\)")
class PredictsItsWholeAlphabet(TiesItsHead):
    def residue_logits(self, batch):
        return self(batch).residue @ self.embedding.weight.T


@fault(Kind.SEQ, r"residue_logits returns \(5, 20\), expected \(196, 20\)")
class PredictsProteins(HealthyLanguageModel):
    def residue_logits(self, batch):
        return self.head(self(batch).protein)


@fault(Kind.SEQ, r"residue_logits returns \(206, 20\), expected \(196, 20\)")
class KeepsSpecialTokens(HealthyLanguageModel):
    """Leaves two more rows for each protein."""

    def residue_logits(self, batch):
        found = super().residue_logits(batch)
        return torch.cat([found, found[: 2 * len(batch)]])


@fault(Kind.SEQ, "packing changes the residue_logits of protein 'two_chains'")
class ShiftsItsRows(HealthyLanguageModel):
    """The start token shifts the logits by one row."""

    def residue_logits(self, batch):
        return super().residue_logits(batch).roll(1, 0)


@fault(Kind.SEQ, "residue_logits are not all finite")
class RulesOutUnknown(HealthyLanguageModel):
    """Divides by the number of known residue types."""

    def residue_logits(self, batch):
        known = (batch.residue_type < 20).float().unsqueeze(1)
        return super().residue_logits(batch) / known


@fault(Kind.SEQ, "residue_logits returns different results for one batch")
class DropsLogitsInEvaluation(HealthyLanguageModel):
    def residue_logits(self, batch):
        return torch.dropout(super().residue_logits(batch), 0.5, train=True)


@fault(Kind.SEQ, "residue_logits depend on coordinates")
class ReadsCoordinatesForLogits(HealthyLanguageModel):
    def residue_logits(self, batch):
        return super().residue_logits(batch) + batch.ca[:, :1].sign()


@fault(Kind.SEQ, "residue_logits returns tuple, expected")
class ReturnsLogitsAndMore(HealthyLanguageModel):
    def residue_logits(self, batch):
        return super().residue_logits(batch), batch


@valid(Kind.SEQ)
class HasNoParameters(nn.Module):
    """The one-hot features, of a fixed width."""

    Settings = HealthySequence.Settings
    output_dim = 21

    def __init__(self, settings):
        super().__init__()

    def forward(self, batch):
        return Encoding.from_residues(batch.residue_one_hot, batch)


@fault(Kind.SEQ, "never reads its setting 'width'")
class IgnoresItsWidth(HealthySequence):
    class Settings(ComponentSettings):
        width: int = 5
        """Width of the embedding."""
