"""Models that predict amino acids: a pre-training run with its head, or a language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.errors import SettingsError, WeightsError
from esmgn_core.host.components import build_component
from esmgn_core.host.registry import Registry, discover, suggested_encoder
from esmgn_core.inference.model import Model, ModelName, load_model
from esmgn_core.inference.task import load_heads, run_blueprint
from esmgn_core.protocols import LanguageModel, ResidueTypeHead, weights_sha256
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind

_LM_HEAD = "lm_head"


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """A model that predicts the amino acid of each residue.

    Attributes:
        model: the encoder.
        head: head of a pre-training run; ``None`` if the language model is used.
        described: description for users.
        language_model: the sequence encoder with its language-model head; ``None`` if ``head`` is used.
    """

    model: Model
    head: ResidueTypeHead | None
    described: str
    language_model: LanguageModel | None = None

    @property
    def random_parts(self) -> tuple[str, ...]:
        """Parts with random weights that affect the scores."""
        parts = self.model.random_parts
        return parts if self.head is not None else tuple(part for part in parts if part == "sequence encoder")

    def read(self, path: Path) -> Protein:
        """Read a structure file, see :meth:`esmgn_core.inference.model.Model.read`."""
        return self.model.read(path)

    def logits(self, batch: ProteinBatch) -> Tensor:
        """Logits float32 [N, 20] of the amino acids for each residue of a batch."""
        if self.head is not None:
            return self.head.residue_type_logits(self.model.encode(batch).residue)
        if self.language_model is None:
            raise ValueError("a scorer needs a head or a language model")
        with self.model.inference():
            return self.language_model.residue_logits(batch.to(self.model.device)).float()


def load_scorer(name: ModelName, *, device: str = "auto") -> Scorer:
    """Load a model with a head that scores mutations.

    A run with residue type prediction has a head that uses sequence and structure. For other models, the
    language-model head of the sequence encoder is used, which reads the sequence only. Run folders do not
    contain this head; it is read from the weights file that the run started from.

    Raises:
        SettingsError: the model has neither head.
        EsmgnError: as :func:`esmgn_core.inference.model.load_model`.
    """
    registry = discover()
    model = load_model(name, device=device, registry=registry)
    head = _trained_head(model, registry)
    if head is not None:
        return Scorer(model, head, f"residue type head of {name.folder} (sequence and structure)")
    if model.blueprint.config.seq is None:
        raise _no_head(name, "it has no sequence encoder")
    language_model, was_trained = _with_language_head(model)
    described = f"language model {model.blueprint.config.seq.name} (sequence only)"
    if was_trained:
        described += f", trained further in {name.folder} without its head"
    if model.folder and (run := RunFolder(model.folder.path)).labels.is_file():
        described += f"; the task of the run ({run.recorded_labels()[0]}) is not used"
    return Scorer(model, None, described, language_model)


def _with_language_head(model: Model) -> tuple[LanguageModel, bool]:
    """The encoder with its language-model head, and True if the run changed the encoder."""
    spec, component, settings = model.blueprint.parts[Kind.SEQ]
    if _LM_HEAD not in type(settings).model_fields:
        raise _no_head(model.name, f"the sequence encoder {spec.name} is not a language model")
    if getattr(settings, _LM_HEAD):
        return model.sequence, False
    torch.manual_seed(model.blueprint.config.train.seed)
    try:
        whole = build_component(spec, component, settings.model_copy(update={_LM_HEAD: True}))
    except WeightsError as error:
        raise _no_head(model.name, error.message) from error
    if model.folder and weights_sha256(whole) is None:
        raise _no_head(model.name, "its sequence encoder started from random weights")
    state, published = model.sequence.state_dict(), whole.state_dict()
    changed = any(not torch.equal(tensor.cpu(), published[name]) for name, tensor in state.items())
    whole.load_state_dict(state, strict=False)
    whole.requires_grad_(requires_grad=False).eval().to(model.device)
    return whole, changed and model.folder is not None


def _no_head(name: ModelName, reason: str) -> SettingsError:
    return SettingsError(
        f"{name} has no head that predicts amino acids",
        reason,
        "use a run that was pre-trained with residue type prediction: esmgn run --pretext residue_type",
        f"or a language model: --seq {suggested_encoder()}",
    )


def _trained_head(model: Model, registry: Registry) -> ResidueTypeHead | None:
    """The head of residue type prediction of the run; ``None`` if there is none."""
    task = pretext_task(model, registry) if model.folder else None
    if task is None:
        return None
    return next((module for module in task.modules() if isinstance(module, ResidueTypeHead)), None)


def pretext_task(model: Model, registry: Registry) -> nn.Module | None:
    """The pretext task of the run with its trained heads; ``None`` if there is none."""
    if model.folder is None:
        return None
    run = RunFolder(model.folder.path)
    blueprint = run_blueprint(model.folder, registry)
    if not run.task.is_file() or Kind.PRETEXT not in blueprint.parts:
        return None
    task: nn.Module = blueprint.build(Kind.PRETEXT, encoder_dim=model.output_dim)
    load_heads(task, run)
    return task.eval().requires_grad_(requires_grad=False).to(model.device)
