"""The contract of each kind of component. Any class of the right shape fits; there is no base class.

Shapes: N residues packed from B proteins. How a component is built is part of its contract and
stands in each docstring; ``settings`` is always an instance of its nested ``Settings``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from torch import Tensor

from esmgn_core.batch import Encoding, Protein, ProteinBatch, Readout, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.splits import Split

Output = Literal["multilabel", "classes", "values"]
"""Meaning of the columns of a prediction, see :class:`DeclaresOutput`."""
OUTPUTS: tuple[Output, ...] = get_args(Output)
"""All values of :data:`Output`."""


class Component(Protocol):
    """What every component has: a nested pydantic class ``Settings``."""

    @property
    def Settings(self) -> type[ComponentSettings]:  # noqa: N802 - a nested class satisfies it
        """Settings of the component, every field with a default."""


class SequenceEncoder(Component, Protocol):
    """Built with ``(settings)``. Reads residue types and chains only."""

    output_dim: int

    def __call__(self, batch: ProteinBatch) -> Encoding:
        """Residue representations [N, output_dim] and protein representations [B, output_dim]."""


@runtime_checkable
class JoinsChains(Protocol):
    """A sequence encoder that may read all chains of a protein as one sequence. Optional."""

    joins_chains: bool


@runtime_checkable
class HasWeightsFile(Protocol):
    """A sequence encoder that may have its weights from a file. Optional."""

    weights_sha256: str | None
    """SHA-256 of the file, ``None`` for random weights."""


@runtime_checkable
class Recomputes(Protocol):
    """A module of an encoder that can compute its blocks again in the backward pass. Optional."""

    recompute: bool
    """Set to True by ``train.activation_checkpointing``."""


@runtime_checkable
class HasSettings(Protocol):
    """An encoder that keeps its settings. Optional: ``[cache]`` and ``[length]`` read them."""

    settings: ComponentSettings


@runtime_checkable
class HasReadout(Protocol):
    """Settings of an encoder that pools residues to a protein in a way that can be set. Optional."""

    readout: str


@runtime_checkable
class LanguageModel(Protocol):
    """A sequence encoder that also says which amino acids it expects. Optional.

    One whose head is loaded on request has a setting ``lm_head = false``, and raises a
    ``SettingsError`` that names it where the head was not loaded.
    """

    def residue_logits(self, batch: ProteinBatch) -> Tensor:
        """Logits float [N, 20] over :data:`esmgn_core.alphabet.AMINO_ACIDS`, in that order."""


class Verification(NamedTuple):
    """Whether weights reproduce recorded outputs, and how well, in words."""

    passed: bool
    text: str


@runtime_checkable
class Verifiable(Protocol):
    """A component class that can compare its weights with recorded outputs. Optional."""

    def verify(self, settings: Any, recorded: Path) -> Verification:
        """Compare the outputs under ``settings`` with those in the file ``recorded``."""


@runtime_checkable
class PublishedSizes(Protocol):
    """A component class that finds its sizes in published tensors. Optional: else they are the defaults."""

    @classmethod
    def published_settings(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """Settings of the model with these tensors, by published name; ``None`` if too few are there.

        Files may be damaged: :func:`esmgn_core.weights.count_blocks` and
        :func:`esmgn_core.weights.common_length` are not misled by a wrong tensor among many.
        """


@runtime_checkable
class PublishedNames(Protocol):
    """An encoder or fuser with other published tensors than its state dict. Optional: else they are equal."""

    def from_published(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The state dict, and by published name the tensors it does not use, for writing the file again."""

    def to_published(self, state: Mapping[str, Tensor], unused: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every tensor of the published file, by name; undoes :meth:`from_published`.

        ``unused`` may lack tensors, which are filled in. The method is also called with a ``state`` on the
        meta device, to find the shapes and types that a file must have. A tensor that it returns on the CPU
        then is a constant, which a file must have with the same values.
        """


@runtime_checkable
class PublishedFile(Protocol):
    """A component class whose own published files hold more than a state dict. Optional."""

    @classmethod
    def unpack_published(cls, content: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors by published name from the content of a file that holds this component alone."""

    def pack_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Content of such a file."""


class StructureEncoder(Component, Protocol):
    """Built with ``(settings, *, input_dim, num_relations)``.

    An encoder whose residues of one protein all have the same representation declares it by a class
    attribute ``resolves_residues = False``, one that draws edges of its own by ``reads_graph = False``:
    tasks that need the opposite are warned of before a run.
    """

    output_dim: int

    def __call__(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""


@runtime_checkable
class SizesStructureInput(Protocol):
    """The member of a fuser's class that is needed before the fuser is built."""

    def structure_input_dim(self, sequence_dim: int) -> int:
        """Width of the features the fuser feeds to the structure encoder."""


class Fuser(Component, Protocol):
    """Built with ``(settings, *, sequence_dim, structure_dim)``; wires both encoders together."""

    output_dim: int

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:
        """Width of the features the fuser feeds to the structure encoder."""

    def __call__(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        sequence: SequenceEncoder,
        structure: StructureEncoder,
    ) -> Encoding:
        """The joint encoding, [N, output_dim] and [B, output_dim]."""


class GraphBuilder(Component, Protocol):
    """Built with ``(settings)``; draws the edges of a batch."""

    num_relations: int

    def __call__(self, batch: ProteinBatch) -> ResidueGraph:
        """The residue graph of the batch."""


@runtime_checkable
class DrawsEdgesInto(Protocol):
    """A graph builder that draws some edges faster than all. Optional: it is for speed."""

    def edges_into(self, batch: ProteinBatch, residues: Tensor) -> ResidueGraph:
        """The graph of the batch without the edges that end elsewhere than at ``residues``, bool [N]."""


class PretextTask(Component, Protocol):
    """Built with ``(settings, *, encoder_dim)``; owns its prediction heads.

    A task that predicts from representations of single residues declares it by a class attribute
    ``predicts_residues = True``, one that asks about edges it hides by ``removes_edges = True``.
    """

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """Corrupt the batch: what the encoder sees, when edges are drawn, and what is to be predicted.

        Pure: all randomness comes from ``draws``, the batch is left as it is.
        """

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Compare predictions from the encodings, one per view, with the targets of the views."""


@runtime_checkable
class Crops(Protocol):
    """A task that may crop proteins. Optional: batches measured in residues count what is left."""

    max_residues: int | None
    """Most residues of one protein that a view shows to the encoder, ``None`` for no limit."""


@runtime_checkable
class ShowsWhole(Protocol):
    """A task that knows which sequences its views leave whole. Optional: for the table ``[cache]``."""

    def shows_whole(self, lengths: Tensor) -> Tensor:
        """Mask bool [B] of the proteins of these lengths, int64 [B], whose sequence is whole and unmasked.

        Used only to estimate the size of the cache.
        """


@runtime_checkable
class ResidueTypeHead(Protocol):
    """A pretext task that says which amino acids it expects where residues are masked. Optional."""

    def residue_type_logits(self, residue: Tensor) -> Tensor:
        """Logits float32 [M, 20] over the amino acids from residue representations [M, encoder_dim]."""


@runtime_checkable
class DownstreamTask(PretextTask, Protocol):
    """Built with ``(settings, *, encoder_dim, num_targets)``; owns its prediction heads.

    A batch holds P groups of ``group_size`` proteins; each group gets one prediction. Labels are
    ``batch.labels`` of the group's first protein, NaN = unknown. Tensors that a prediction depends on
    are parameters or buffers, so that they are saved with the head.
    """

    metric: str
    """Name of the score that chooses the best epoch; higher is better."""
    group_size: int
    """Proteins of one prediction, 2 for pairs, else 1; an attribute of the class."""
    label_dim: int
    """Columns of the labels: ``num_targets``, or 1 where a label is the number of a class."""

    def prepare(self, labels: Tensor) -> None:
        """Take what the loss needs from the labels of all training groups [P, label_dim].

        Called once, before the first step.
        """

    def predict(self, encoding: Encoding, batch: ProteinBatch) -> Tensor:
        """Predictions float32 [P, num_targets] from the encoding of a view's batch: logits, or values."""

    def score(self, predictions: Tensor, labels: Tensor, groups: Tensor) -> dict[str, float]:
        """Scores of predictions [P, num_targets] against labels [P, label_dim], all on the CPU.

        ``groups`` int64 [P] tells what belongs together, such as the decoys of one target.
        """


@runtime_checkable
class DeclaresOutput(Protocol):
    """A downstream task class whose predictions have a known meaning. Optional; ``esmgn predict`` needs it.

    A prediction is for a protein, or for a group of ``group_size`` proteins.
    """

    output: ClassVar[Output]
    """What the T columns of ``predict`` are: ``multilabel``, T independent logits; ``classes``, logits of T
    classes of which one is right; ``values``, T quantities in the unit of the labels."""


@runtime_checkable
class Resampled(Protocol):
    """A downstream task that scores many resamples at once. Optional: it is for speed."""

    def score_resamples(
        self, predictions: Tensor, labels: Tensor, groups: Tensor, counts: Iterable[Any]
    ) -> dict[str, list[float]]:
        """For each resample its scores; ``counts`` are int64 [P] each: how often a prediction counts."""


class Tracker(Component, Protocol):
    """Built with ``(settings, *, run, config)``; gets the metrics of a run.

    ``run`` is the :class:`~esmgn_core.run_folder.RunFolder`, ``config`` the tables of its
    ``config.toml``. A resumed run builds its trackers again; ``run.name_for_trackers()`` is then the same.
    All calls are made in one thread of the tracker's own: it may raise anything and take any time.
    """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of a step, one line of ``metrics.jsonl``; they may be NaN or infinite."""

    def close(self, *, failed: bool) -> None:
        """Send the rest; the run is over, or stopped until it is resumed."""


class ProteinDataset(Component, Protocol):
    """Built with ``(settings)``.

    Proteins may be read by several threads at a time. One that cannot be read when it is asked for
    raises an :class:`~esmgn_core.errors.EsmgnError`, ``OSError`` or ``ValueError``: it is recorded
    and left out.
    """

    group_size: int
    """Neighbouring proteins that belong together, 2 for pairs, else 1."""

    def __len__(self) -> int:
        """Number of proteins."""

    def __getitem__(self, index: int) -> Protein:
        """Protein ``index``."""

    def split(self, name: Split) -> Sequence[int]:
        """Indices of the proteins of one split."""


@runtime_checkable
class Refuses(Protocol):
    """A dataset that reads files and may leave some out. Optional."""

    refused: Sequence[Any]
    """The files left out, each an :class:`esmgn_core.io.Refusal` with its reason."""


@runtime_checkable
class PassesOver(Protocol):
    """A dataset of folders in which other files may be. Optional."""

    passed_over: str
    """A line that counts the files of other kinds, empty if there are none."""


@runtime_checkable
class HasNotes(Protocol):
    """A dataset with lines for the user. Optional."""

    notes: Sequence[str]
    """What was dropped, divided or guessed in the files that were read, see :mod:`esmgn_core.io.notes`."""


@runtime_checkable
class KnowsLengths(Protocol):
    """A dataset that knows the lengths of its proteins without reading them. Optional.

    ``train.residues_per_batch`` needs it.
    """

    lengths: Sequence[int]
    """Residues of each protein."""


@runtime_checkable
class HasResidueFeatures(Protocol):
    """A dataset whose proteins all have further features of residues. Optional.

    ``inputs.residue`` needs it.
    """

    residue_features: Sequence[str]
    """Names of the features."""


@runtime_checkable
class ReadsBatches(Protocol):
    """A dataset that reads many proteins faster than one by one. Optional: it is for speed."""

    def batch(self, indices: Sequence[int]) -> ProteinBatch:
        """The batch that :meth:`ProteinBatch.from_proteins` would make of these proteins."""


@runtime_checkable
class LabeledDataset(Protocol):
    """A dataset whose proteins carry labels [L]; what a downstream task needs besides the rest.

    All proteins of a group carry the group's labels. Where names have the form ``GROUP/NAME``, proteins
    of one GROUP belong together when predictions are scored.
    """

    label_names: Sequence[str]
    """What the predictions are: one name per class, term or value."""

    @property
    def test_sets(self) -> Mapping[str, Sequence[int]]:
        """Indices of the proteins of each test set, by its name; sets may overlap one another."""

    def labels(self, indices: Sequence[int]) -> Tensor:
        """Labels float32 [len(indices), L] of these proteins."""


_OPTIONAL: Mapping[Kind, tuple[type, ...]] = {
    Kind.SEQ: (
        *(JoinsChains, HasWeightsFile, HasSettings, LanguageModel, Verifiable),
        *(PublishedSizes, PublishedNames, PublishedFile),
    ),
    Kind.STRUCT: (HasSettings, PublishedSizes, PublishedNames),
    Kind.FUSE: (HasSettings, PublishedSizes, PublishedNames),
    Kind.GRAPH: (DrawsEdgesInto,),
    Kind.PRETEXT: (Crops, ShowsWhole),
    Kind.DOWNSTREAM: (Crops, ShowsWhole, DeclaresOutput, Resampled),
    Kind.DATA: (
        Refuses,
        PassesOver,
        HasNotes,
        KnowsLengths,
        HasResidueFeatures,
        ReadsBatches,
        LabeledDataset,
    ),
}


def optional_members(kind: Kind) -> tuple[str, ...]:
    """Names of the members that components of a kind may have besides those of their contract."""
    names = [
        name for protocol in _OPTIONAL.get(kind, ()) for name in (*protocol.__annotations__, *vars(protocol))
    ]
    return tuple(dict.fromkeys(name for name in names if not name.startswith("_")))


def joins_chains(encoder: object) -> bool:
    """True if a sequence encoder reads all chains of a protein as one sequence."""
    return isinstance(encoder, JoinsChains) and encoder.joins_chains


def weights_sha256(encoder: object) -> str | None:
    """SHA-256 of the file that a sequence encoder has its weights from, ``None`` if not from a file."""
    return encoder.weights_sha256 if isinstance(encoder, HasWeightsFile) else None


def readout_of(encoder: object) -> Readout:
    """How an encoder pools residues: ``"mean"`` unless its setting ``readout`` is ``"sum"``."""
    settings = encoder.settings if isinstance(encoder, HasSettings) else None
    pools = isinstance(settings, HasReadout) and settings.readout == "sum"
    return "sum" if pools else "mean"


def lengths_of(dataset: object) -> Sequence[int] | None:
    """Residues of each protein of a dataset, ``None`` where that is unknown without reading them."""
    return dataset.lengths if isinstance(dataset, KnowsLengths) else None


def refused_by(dataset: object) -> Sequence[Any]:
    """The files that a dataset left out, each with its reason."""
    return dataset.refused if isinstance(dataset, Refuses) else ()


def notes_of(dataset: object) -> Sequence[str]:
    """Lines for the user on the files that a dataset read."""
    return dataset.notes if isinstance(dataset, HasNotes) else ()
