"""Contracts of all kinds of components, as protocols; components need no base class.

Shapes: N residues packed from B proteins. The contract includes the arguments of the constructor, which
each docstring names. ``settings`` is always an instance of the nested class ``Settings``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from torch import Tensor

from esmgn_core.batch import Encoding, Protein, ProteinBatch, Readout, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.layers import Inject, LayerSizes, LayerState
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.splits import Split

Output = Literal["multilabel", "classes", "values"]
"""Meaning of the columns of a prediction, see :class:`DeclaresOutput`."""
OUTPUTS: tuple[Output, ...] = get_args(Output)
"""All values of :data:`Output`."""


class Component(Protocol):
    """Every component: a class with a nested pydantic class ``Settings``."""

    @property
    def Settings(self) -> type[ComponentSettings]:  # noqa: N802 - a nested class satisfies it
        """Settings of the component. Every field has a default and a description."""


class SequenceEncoder(Component, Protocol):
    """Built with ``(settings)``. Reads only residue types and chains."""

    output_dim: int

    def __call__(self, batch: ProteinBatch) -> Encoding:
        """Residue [N, output_dim] and protein [B, output_dim] representations, float32."""


@runtime_checkable
class JoinsChains(Protocol):
    """A sequence encoder that can read all chains of a protein as one sequence. Optional."""

    joins_chains: bool


@runtime_checkable
class HasWeightsFile(Protocol):
    """A sequence encoder that can load its weights from a file. Optional."""

    weights_sha256: str | None
    """SHA-256 of the file; ``None`` for random weights."""


@runtime_checkable
class Recomputes(Protocol):
    """A module of an encoder that can recompute its blocks in the backward pass. Optional."""

    recompute: bool
    """Set to True by ``train.activation_checkpointing``."""


@runtime_checkable
class HasSettings(Protocol):
    """An encoder that stores its settings, for the tables ``[cache]`` and ``[length]``. Optional."""

    settings: ComponentSettings


@runtime_checkable
class HasReadout(Protocol):
    """Settings of an encoder with a choice of pooling. Optional."""

    readout: str


@runtime_checkable
class LanguageModel(Protocol):
    """A sequence encoder that also predicts amino acids. Optional.

    An encoder whose head is loaded only on request has a setting ``lm_head = false``. Without its head it
    raises a ``SettingsError`` that names this setting.
    """

    def residue_logits(self, batch: ProteinBatch) -> Tensor:
        """Logits float [N, 20] over :data:`esmgn_core.alphabet.AMINO_ACIDS`, in that order."""


@runtime_checkable
class PredictsContacts(Protocol):
    """A sequence encoder that predicts contacts of residues. Optional.

    An encoder whose head is loaded only on request has a setting ``contact_head = false``. Without its head
    it raises a ``SettingsError`` that names this setting.
    """

    def contacts(self, batch: ProteinBatch) -> list[Tensor]:
        """For each protein of L residues probabilities float [L, L]; NaN where nothing is predicted."""


@runtime_checkable
class LayeredEncoder(Protocol):
    """A sequence encoder that also runs block by block. Optional.

    ``embed``, every block and ``finish`` give the same encoding as a call of the encoder.
    """

    def layer_sizes(self) -> LayerSizes:
        """Number of blocks that run, and their width D."""

    def embed(self, batch: ProteinBatch, tokens: Tensor | None = None) -> LayerState:
        """The state before the first block.

        With ``tokens`` [B, D], every sequence has one more row, directly before its end, with the value of
        its protein. Other rows keep their values and positions, except the end.
        """

    def block(self, number: int, state: LayerState, inject: Inject | None = None) -> LayerState:
        """Run the block ``number``, from 1, with additions to its queries, keys and values."""

    def finish(self, state: LayerState) -> Encoding:
        """The encoding after the last block; added tokens are left out."""


class Verification(NamedTuple):
    """Result of comparing the outputs of weights with recorded ones."""

    passed: bool
    """True if the outputs agree."""
    text: str
    """One line for the user, with the size of the difference."""


@runtime_checkable
class Verifiable(Protocol):
    """A component class that can compare its weights with recorded outputs. Optional."""

    def verify(self, settings: Any, recorded: Path) -> Verification:
        """Compare the outputs under ``settings`` with those in the file ``recorded``."""


@runtime_checkable
class PublishedSizes(Protocol):
    """A component class that infers its sizes from published tensors. Optional; else defaults are used."""

    @classmethod
    def published_settings(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """Settings of the model with these tensors, by published name; ``None`` if too many are missing.

        Files may be damaged. :func:`esmgn_core.weights.count_blocks` and
        :func:`esmgn_core.weights.common_length` tolerate a wrong tensor among many.
        """


@runtime_checkable
class PublishedNames(Protocol):
    """An encoder or fuser whose published tensors differ from its state dict. Optional."""

    def from_published(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The state dict, and the published tensors it does not use, by name, to write the file again."""

    def to_published(self, state: Mapping[str, Tensor], unused: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every tensor of the published file, by name; the inverse of :meth:`from_published`.

        Tensors that ``unused`` lacks are filled in. The method is also called with a ``state`` on the meta
        device, to find the expected shapes and types. A tensor on the CPU in that result is a constant: files
        must have the same values.
        """


@runtime_checkable
class PublishedFile(Protocol):
    """A component class whose published files contain more than a state dict. Optional."""

    @classmethod
    def unpack_published(cls, content: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors by published name, from the content of a file of this component only."""

    def pack_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Content of such a file, from tensors by published name."""


@runtime_checkable
class SavesHuggingFace(Protocol):
    """A sequence encoder that transformers can run. Optional."""

    def save_hugging_face(self, folder: Path) -> list[str]:
        """Write configuration, weights and tokenizer into an existing folder, for ``from_pretrained``.

        Returns:
            Notes for the user, such as a head that is missing.
        """


class StructureEncoder(Component, Protocol):
    """Built with ``(settings, *, input_dim, num_relations)``.

    Class attributes declare two properties. ``resolves_residues = False``: all residues of a protein get the
    same representation. ``reads_graph = False``: the encoder computes its edges itself. A run warns about
    tasks that need the opposite.
    """

    output_dim: int

    def __call__(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""


@runtime_checkable
class LayeredStructure(Protocol):
    """A structure encoder that also runs layer by layer. Optional.

    ``begin``, every layer and ``finish`` give the same encoding as a call of the encoder.
    """

    def layer_sizes(self) -> LayerSizes:
        """Number of layers, and their width H. The first reads the width of the features."""

    def begin(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        features: Tensor,
        tokens: Tensor | None = None,
        relation: int | None = None,
    ) -> LayerState:
        """The state before the first layer.

        With ``tokens`` [B, C] as wide as the features, every protein has one more node behind all residues,
        joined to each of its residues in both directions by edges of ``relation``; ``None`` for no edges.
        """

    def layer(self, number: int, state: LayerState) -> LayerState:
        """Run the layer ``number``, from 1."""

    def finish(self, state: LayerState) -> Encoding:
        """The encoding after the last layer; added tokens are left out."""


@runtime_checkable
class SizesStructureInput(Protocol):
    """The class method of a fuser that is called before the fuser is built."""

    def structure_input_dim(self, sequence_dim: int) -> int:
        """Width of the features the fuser feeds to the structure encoder."""


class Fuser(Component, Protocol):
    """Built with ``(settings, *, sequence_dim, structure_dim)``. Calls the encoders and joins their outputs.

    It reads both encoders unless its declaration names one: ``ComponentSpec(..., encoders=(Kind.SEQ,))``. The
    width of an encoder that it does not read is 0, and it must not call that encoder.

    A fuser that runs encoders layer by layer names their kinds in a class attribute,
    ``needs_layers = (Kind.SEQ, Kind.STRUCT)``. It is built with ``layers`` besides, the
    :class:`~esmgn_core.layers.LayerSizes` of each kind, and receives a :class:`LayeredEncoder` or a
    :class:`LayeredStructure`.
    """

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
    """Built with ``(settings)``. Computes the edges of a batch."""

    num_relations: int

    def __call__(self, batch: ProteinBatch) -> ResidueGraph:
        """The residue graph of the batch."""


@runtime_checkable
class DrawsEdgesInto(Protocol):
    """A graph builder that can compute a subset of the edges. Optional, for speed."""

    def edges_into(self, batch: ProteinBatch, residues: Tensor) -> ResidueGraph:
        """The graph reduced to the edges whose target is in ``residues``, bool [N]."""


class PretextTask(Component, Protocol):
    """Built with ``(settings, *, encoder_dim)``. Contains its prediction heads.

    Class attributes declare four properties. ``predicts_residues = True``: the task predicts from
    representations of residues. ``removes_edges = True``: it predicts edges that it removes from the graph.
    ``reads_graph = False``: it passes the graph on to the encoder and does not use it. With a fuser that
    reads no structure encoder, ``build_graph`` then returns graphs without edges.
    ``couples_proteins = True``: the loss compares the proteins of a batch with one another.
    """

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """Corrupt the batch: return one or more views, with their graphs and targets.

        A pure function: all random numbers come from ``draws``, and the batch is not changed.
        """

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Compare predictions from the encodings, one for each view, with the targets of the views."""


@runtime_checkable
class Crops(Protocol):
    """A task that may crop proteins. Optional; ``train.residues_per_batch`` counts cropped lengths."""

    max_residues: int | None
    """Most residues of a protein in a view; ``None`` for no limit."""


@runtime_checkable
class ShowsWhole(Protocol):
    """A task that knows which sequences its views leave whole, for the table ``[cache]``. Optional."""

    def shows_whole(self, lengths: Tensor) -> Tensor:
        """Mask bool [B], True if the sequence of a protein of this length, int64 [B], is whole and unmasked.

        Used only to estimate the size of the cache.
        """


@runtime_checkable
class ResidueTypeHead(Protocol):
    """A pretext task that predicts the amino acids of masked residues. Optional."""

    def residue_type_logits(self, residue: Tensor) -> Tensor:
        """Logits float32 [M, 20] over the amino acids, from residue representations [M, encoder_dim]."""


@runtime_checkable
class DownstreamTask(PretextTask, Protocol):
    """Built with ``(settings, *, encoder_dim, num_targets)``. Contains its prediction heads.

    A batch consists of P groups of ``group_size`` proteins; each group gets one prediction. Its labels are
    ``batch.labels`` of its first protein, NaN = unknown. All tensors that a prediction depends on must be
    parameters or buffers, so that they are saved with the head.
    """

    metric: str
    """Name of the score that selects the best epoch; higher is better."""
    group_size: int
    """Proteins of one prediction: 2 for pairs, else 1. A class attribute."""
    label_dim: int
    """Columns of the labels: ``num_targets``, or 1 if a label is the number of a class."""

    def prepare(self, labels: Tensor) -> None:
        """Compute constants of the loss from the labels of all training groups, float32 [P, label_dim].

        Called once, before the first step.
        """

    def predict(self, encoding: Encoding, batch: ProteinBatch) -> Tensor:
        """Predictions float32 [P, num_targets], logits or values, from the encoding of a view's batch."""

    def score(self, predictions: Tensor, labels: Tensor, groups: Tensor) -> dict[str, float]:
        """Scores of predictions [P, num_targets] against labels [P, label_dim], all on the CPU.

        ``groups``, int64 [P], is equal for predictions that are scored together, such as the decoys of one
        target.
        """


@runtime_checkable
class DeclaresOutput(Protocol):
    """A downstream task class that declares the meaning of its predictions. Optional.

    ``esmgn predict`` needs it. A prediction is for a protein, or for a group of ``group_size`` proteins.
    """

    output: ClassVar[Output]
    """Meaning of the T columns of ``predict``.

    ``multilabel``: T independent logits. ``classes``: logits of T classes, one of which is correct.
    ``values``: T quantities in the unit of the labels.
    """


@runtime_checkable
class Resampled(Protocol):
    """A downstream task that scores many bootstrap resamples at once. Optional, for speed."""

    def score_resamples(
        self, predictions: Tensor, labels: Tensor, groups: Tensor, counts: Iterable[Any]
    ) -> dict[str, list[float]]:
        """Scores of each resample; ``counts`` yields int64 [P], how often each prediction is drawn."""


class Tracker(Component, Protocol):
    """Built with ``(settings, *, run, config)``. Receives the metrics of a run.

    ``run`` is the :class:`~esmgn_core.run_folder.RunFolder`, ``config`` the tables of its
    ``config.toml``. A resumed run builds its trackers again; ``run.name_for_trackers()`` is then the same.
    All calls are made in one separate thread. A tracker may raise any exception and take any time.
    """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of a step, one line of ``metrics.jsonl``; they may be NaN or infinite."""

    def close(self, *, failed: bool) -> None:
        """Send what is left. The run has ended, failed, or stopped until it is resumed."""


class ProteinDataset(Component, Protocol):
    """Built with ``(settings)``.

    Several threads may read proteins at a time. A protein that cannot be read raises an
    :class:`~esmgn_core.errors.EsmgnError`, ``OSError`` or ``ValueError``; the run records it and leaves it
    out.
    """

    group_size: int
    """Consecutive proteins that belong together: 2 for pairs, else 1."""

    def __len__(self) -> int:
        """Number of proteins."""

    def __getitem__(self, index: int) -> Protein:
        """Protein number ``index``, from 0."""

    def split(self, name: Split) -> Sequence[int]:
        """Indices of the proteins of one split."""


@runtime_checkable
class Refuses(Protocol):
    """A dataset that reads files and may leave some out. Optional."""

    refused: Sequence[Any]
    """The files left out: an :class:`esmgn_core.io.Refusal` each, with the reason."""


@runtime_checkable
class PassesOver(Protocol):
    """A dataset of folders that may contain other files. Optional."""

    passed_over: str
    """One line with the number of files of other kinds; empty if there are none."""


@runtime_checkable
class HasNotes(Protocol):
    """A dataset with lines for the user. Optional."""

    notes: Sequence[str]
    """Notes on parts of the files that were dropped, divided or guessed, see :mod:`esmgn_core.io.notes`."""


@runtime_checkable
class KnowsLengths(Protocol):
    """A dataset that knows the lengths of its proteins without reading them. Optional.

    ``train.residues_per_batch`` needs it.
    """

    lengths: Sequence[int]
    """Residues of each protein."""


@runtime_checkable
class HasResidueFeatures(Protocol):
    """A dataset whose proteins all have additional features of residues. Optional.

    ``inputs.residue`` needs it.
    """

    residue_features: Sequence[str]
    """Names of the features."""


@runtime_checkable
class ReadsBatches(Protocol):
    """A dataset that reads many proteins at once. Optional, for speed."""

    def batch(self, indices: Sequence[int]) -> ProteinBatch:
        """The same batch as :meth:`ProteinBatch.from_proteins` of these proteins."""


@runtime_checkable
class LabeledDataset(Protocol):
    """A dataset whose proteins have labels, float32 [L]. Downstream tasks need it.

    All proteins of a group have the labels of the group. If names have the form ``GROUP/NAME``, proteins of
    one GROUP are scored together.
    """

    label_names: Sequence[str]
    """Name of each class, term or value that is predicted."""

    @property
    def test_sets(self) -> Mapping[str, Sequence[int]]:
        """Indices of the proteins of each test set, by name. Test sets may overlap."""

    def labels(self, indices: Sequence[int]) -> Tensor:
        """Labels float32 [len(indices), L] of these proteins."""


_OPTIONAL: Mapping[Kind, tuple[type, ...]] = {
    Kind.SEQ: (
        *(JoinsChains, HasWeightsFile, HasSettings, LanguageModel, PredictsContacts, Verifiable),
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
    """Names of the optional members of a kind of component."""
    names = [
        name for protocol in _OPTIONAL.get(kind, ()) for name in (*protocol.__annotations__, *vars(protocol))
    ]
    return tuple(dict.fromkeys(name for name in names if not name.startswith("_")))


def declared(task: type, name: str, *, default: bool = False) -> bool:
    """The property ``name`` of a task class; for a combined task, True if it is true for any part."""
    parts = [part for _, part in getattr(task, "classes", {}).values()] or [task]
    return any(getattr(part, name, default) for part in parts)


def needs_layers(fuser: object) -> tuple[Kind, ...]:
    """Kinds of the encoders that a fuser, or the class of one, runs layer by layer."""
    return tuple(getattr(fuser, "needs_layers", ()))


def joins_chains(encoder: object) -> bool:
    """True if a sequence encoder reads all chains of a protein as one sequence."""
    return isinstance(encoder, JoinsChains) and encoder.joins_chains


def weights_sha256(encoder: object) -> str | None:
    """SHA-256 of the weights file of a sequence encoder; ``None`` for random weights."""
    return encoder.weights_sha256 if isinstance(encoder, HasWeightsFile) else None


def readout_of(encoder: object) -> Readout:
    """Pooling of an encoder: ``"mean"`` unless its setting ``readout`` is ``"sum"``."""
    settings = encoder.settings if isinstance(encoder, HasSettings) else None
    pools = isinstance(settings, HasReadout) and settings.readout == "sum"
    return "sum" if pools else "mean"


def lengths_of(dataset: object) -> Sequence[int] | None:
    """Residues of each protein of a dataset; ``None`` if they are unknown without reading."""
    return dataset.lengths if isinstance(dataset, KnowsLengths) else None


def refused_by(dataset: object) -> Sequence[Any]:
    """Files that a dataset left out, with reasons."""
    return dataset.refused if isinstance(dataset, Refuses) else ()


def notes_of(dataset: object) -> Sequence[str]:
    """Lines for the user about the files that a dataset read."""
    return dataset.notes if isinstance(dataset, HasNotes) else ()
