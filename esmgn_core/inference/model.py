"""Encoders for inference: names, loading, embeddings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from esmgn_core.batch import Encoding, Protein, ProteinBatch
from esmgn_core.errors import RunError, SettingsError, StructureError
from esmgn_core.formats import structure_formats
from esmgn_core.graph import ResidueGraph
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import Registry, discover, suggested_composition, suggested_encoder
from esmgn_core.host.sources import warn_of_changes
from esmgn_core.inference.embedding import Embedding, embeddings_of
from esmgn_core.io import Refusal, iter_structures, read_protein
from esmgn_core.io.folders import search
from esmgn_core.io.formats import Formats
from esmgn_core.machine.device import pick_device
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.model.encoder_folder import ENCODER_KINDS, EncoderFolder
from esmgn_core.model.inputs import columns_of
from esmgn_core.model.joint import JointEncoder, NoEdges
from esmgn_core.protocols import GraphBuilder, weights_sha256
from esmgn_core.spec import Kind
from esmgn_core.version import __version__


@dataclass(frozen=True, slots=True)
class ModelName:
    """The source of a model: a folder, or names of components. Picklable and storable as JSON.

    Attributes:
        folder: folder of a run or of imported weights; ``None`` for a composition.
        names: component or preset of each kind, ``{"seq": "esm2_650m", "struct": "gearnet"}``. Without a
            structure encoder, the sequence encoder is used alone.
        changes: overrides of settings, texts ``TABLE.KEY=VALUE``.
    """

    folder: str | None = None
    names: dict[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [self.folder] if self.folder else [f"{kind} {name}" for kind, name in self.names.items()]
        return ", ".join([*parts, *self.changes])

    def record(self) -> dict[str, Any]:
        """Plain values, the inverse of :meth:`from_record`."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> ModelName:
        """The name with the values of :meth:`record`."""
        return cls(record["folder"], dict(record["names"]), tuple(record["changes"]))


class Model:
    """An encoder in evaluation mode, with readers and graph builder, from files to embeddings.

    Attributes:
        name: its source.
        encoder: the encoder.
        sequence: its sequence encoder.
        sequence_only: True if it reads no structure.
        blueprint: its checked components and settings.
        output_dim: width of its representations.
        random_parts: names of parts with random weights; empty for trained models.
        fingerprint: SHA-256 of weights and settings; equal for models with equal embeddings.
        features: names of the residue features that it uses.
        formats: known formats of structure files, by name.
        device: its device.
    """

    def __init__(self, plan: ModelPlan, *, device: torch.device, precision: str) -> None:
        self.name, self.blueprint, self.folder = plan.name, plan.blueprint, plan.folder
        self.sequence_only, self.features, self.formats = plan.sequence_only, plan.features, plan.formats
        self.device = device
        blueprint, folder, registry = plan.blueprint, plan.folder, plan.registry
        self.encoder = blueprint.encoder()
        if folder:
            folder.fill(self.encoder, registry)
        self.sequence: Any = self.encoder.sequence
        self._build_graph: GraphBuilder = NoEdges() if self.sequence_only else blueprint.graph()
        self.output_dim = int(self.encoder.output_dim)
        self.random_parts = () if folder else _random_parts(self.encoder)
        self.fingerprint = self._fingerprint(precision)
        self._autocast = torch.bfloat16 if precision == "bf16" else None
        self.encoder.requires_grad_(requires_grad=False).eval().to(device)
        if (kept := blueprint.config.cache).features != "off":
            self.encoder.freeze_sequence().keep_features(kept, precision=self._autocast)

    def __repr__(self) -> str:
        random = f", random weights: {', '.join(self.random_parts)}" if self.random_parts else ""
        return f"Model({str(self.name)!r}, width {self.output_dim}, on {self.device}{random})"

    def encode(self, batch: ProteinBatch) -> Encoding:
        """Representations of a batch: float32 residue [N, output_dim] and protein [B, output_dim].

        The result for a protein does not depend on the other proteins. The batch may be on any device; the
        result is on the device of the model.
        """
        with self.inference():
            batch = batch.to(self.device)
            if self.encoder.prepare(batch).num_residues != batch.num_residues:
                raise RunError(
                    "the settings of the model would cut a long sequence (length.policy)",
                    "to read it whole: --set length.policy=full, or window",
                )
            encoding = self.encoder(batch, self.graph(batch))
            return Encoding(encoding.residue.float(), encoding.protein.float())

    def graph(self, batch: ProteinBatch) -> ResidueGraph:
        """The residue graph of a batch, on the device of the model; without edges if nothing reads it."""
        return self._build_graph(batch)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Disable gradients and use the precision of the model."""
        dtype = self._autocast
        with torch.inference_mode(), torch.autocast(self.device.type, dtype) if dtype else nullcontext():
            yield

    def read(self, path: str | os.PathLike[str]) -> Protein:
        """Read a structure file, with the residue features that the model uses.

        Raises:
            StructureError: the file is unreadable or has no protein, or lacks the data for a feature.
        """
        return read_protein(path, features=self.features, formats=self.formats)

    def embed(self, source: str | os.PathLike[str] | Protein) -> Embedding:
        """Embed a structure file or a protein.

        Raises:
            StructureError: the file is unreadable or has no protein, or ``source`` is a folder.
        """
        if isinstance(source, Protein):
            protein = source
        elif Path(source).is_dir():
            raise StructureError(
                f"{source} is a folder, expected a file", "for all files in it: model.embed_many([...])"
            )
        else:
            protein = self.read(source)
        (embedding,) = self.embed_batch([protein])
        return embedding

    def embed_many(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[Embedding | Refusal]:
        """Embed structure files and folders; an unreadable file gives a :class:`Refusal`."""
        found = search(paths, self.formats)
        for result in iter_structures(found.files, features=self.features, formats=self.formats):
            yield result if isinstance(result, Refusal) else self.embed(result)
        yield from found.refused

    def embed_batch(self, proteins: list[Protein]) -> list[Embedding]:
        """Embed proteins in one forward pass."""
        encoding = self.encode(ProteinBatch.from_proteins(proteins))
        return embeddings_of(proteins, Encoding(encoding.residue.cpu(), encoding.protein.cpu()))

    def _fingerprint(self, precision: str) -> str:
        config = self.blueprint.resolved().model_dump(mode="json", exclude_none=True)
        facts = {
            "tables": {kind.value: config[kind.value] for kind in ENCODER_KINDS if kind.value in config},
            "inputs": config.get("inputs"),
            "length": config.get("length"),
            "folder": self.folder.sha256() if self.folder else None,
            "sequence": weights_sha256(self.sequence),
            "seed": self.blueprint.config.train.seed if self.random_parts else None,
            "precision": precision,
            **({"features": config["cache"]["features"]} if config["cache"]["features"] != "off" else {}),
            "esmgn": __version__,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class ModelPlan:
    """A checked model whose weights are not yet read or downloaded.

    Attributes:
        name: its source.
        blueprint: its checked components and settings.
        folder: folder of a run or of imported weights; ``None`` for a composition.
        registry: all components.
    """

    name: ModelName
    blueprint: Blueprint
    folder: EncoderFolder | None
    registry: Registry

    @property
    def sequence_only(self) -> bool:
        """True if the model reads no structure."""
        return Kind.STRUCT not in self.blueprint.parts

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the residue features that the model uses."""
        return () if self.sequence_only else columns_of(self.blueprint.config.inputs.residue)

    @property
    def formats(self) -> Formats:
        """Known formats of structure files, by name."""
        return structure_formats(self.registry)

    def load(self, *, device: str = "auto", precision: str = "fp32") -> Model:
        """Load the model; missing weights are downloaded.

        Raises:
            EsmgnError: there is no such device, or the weights are not available.
        """
        return Model(self, device=pick_device(device), precision=precision)


def plan_model(name: ModelName, *, registry: Registry | None = None) -> ModelPlan:
    """Check the name and the settings of a model without reading its weights.

    Commands check their files between this call and :meth:`ModelPlan.load`.

    Raises:
        EsmgnError: a folder, component or setting does not exist.
    """
    registry = registry or discover()
    layers, origins, folder = [], [], None
    if name.folder is not None:
        if name.names:
            raise SettingsError(
                f"{name.folder} determines the components of the encoder",
                "give either the folder or the names of components",
            )
        folder = EncoderFolder(Path(name.folder))
        warn_of_changes(registry, folder.run, ENCODER_KINDS)
        layers, origins = [folder.tables()], [str(folder.config)]
    else:
        layers, origins = [{kind: {"name": chosen} for kind, chosen in name.names.items()}], [""]
    if not layers[0].keys() & {Kind.STRUCT, Kind.FUSE}:
        layers[0] = {**layers[0], Kind.FUSE.value: {"name": registry.fuser_of_sequence()}}
    changes = parse_assignments(name.changes)
    config = configure(registry, [*layers, changes], [*origins, "--set"])
    if folder is None and (not name.names or (config.seq and Kind.SEQ not in name.names)):
        raise _no_model()
    blueprint = resolve(registry, config)
    return ModelPlan(name, blueprint, folder, registry)


def load_model(
    name: ModelName, *, device: str = "auto", precision: str = "fp32", registry: Registry | None = None
) -> Model:
    """Load an encoder.

    Raises:
        EsmgnError: a folder, component or setting does not exist, or the weights are not available.
    """
    return plan_model(name, registry=registry).load(device=device, precision=precision)


def _no_model() -> SettingsError:
    return SettingsError(
        "no model is given",
        "the folder of a run or of imported weights: --model FOLDER",
        f"or a composition: {suggested_composition()}",
        f"or a sequence encoder alone: --seq {suggested_encoder()}",
        "see: esmgn list",
    )


def _random_parts(encoder: JointEncoder) -> tuple[str, ...]:
    parts = {"sequence encoder": "sequence", "structure encoder": "structure", "fuser": "fuser"}
    if weights_sha256(encoder.sequence) is not None:
        del parts["sequence encoder"]
    return tuple(
        name for name, part in parts.items() if any(True for _ in encoder.get_submodule(part).parameters())
    )
