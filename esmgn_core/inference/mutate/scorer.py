"""What turns encodings into amino acids: the head of a pre-training run, or a language model's own."""

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
from esmgn_core.inference.task import fill_task, run_blueprint
from esmgn_core.protocols import LanguageModel, ResidueTypeHead, weights_sha256
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind

_LM_HEAD = "lm_head"


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """A model that says which amino acids it expects.

    Attributes:
        model: the encoder.
        head: of the pre-training run; ``None`` where the language model answers.
        described: which of both it is, in words.
        language_model: the sequence encoder with its own head, where that answers.
    """

    model: Model
    head: ResidueTypeHead | None
    described: str
    language_model: LanguageModel | None = None

    @property
    def random_parts(self) -> tuple[str, ...]:
        """Parts with random weights among those that give the scores."""
        parts = self.model.random_parts
        return parts if self.head is not None else tuple(part for part in parts if part == "sequence encoder")

    def read(self, path: Path) -> Protein:
        """The protein in a structure file, see :meth:`esmgn_core.inference.model.Model.read`."""
        return self.model.read(path)

    def logits(self, batch: ProteinBatch) -> Tensor:
        """Logits float32 [N, 20] over the amino acids for each residue of a batch."""
        if self.head is not None:
            return self.head.residue_type_logits(self.model.encode(batch).residue)
        if self.language_model is None:
            raise ValueError("a scorer needs a head or a language model")
        with self.model.inference():
            return self.language_model.residue_logits(batch.to(self.model.device)).float()


def load_scorer(name: ModelName, *, device: str = "auto", precision: str = "fp32") -> Scorer:
    """Load a model with what it needs to score mutations.

    The head of residue type prediction is used where the folder is of a run that trained one: it sees
    the structure. Else the sequence encoder's own language-model head is used, which does not. A run
    keeps its sequence encoder without that head: it is the one in the weights file that the run
    started from.

    Raises:
        SettingsError: the model has neither.
        EsmgnError: as :func:`esmgn_core.inference.model.load_model`.
    """
    registry = discover()
    model = load_model(name, device=device, precision=precision, registry=registry)
    head = _trained_head(model, registry)
    if head is not None:
        return Scorer(model, head, f"residue type head of {name.folder} (sequence and structure)")
    language_model, trained_on = _with_its_head(model)
    described = f"language model {model.blueprint.config.seq.name} (sequence only)"
    if trained_on:
        described += f", trained on by {name.folder} without its head"
    if model.folder and (run := RunFolder(model.folder.path)).labels.is_file():
        described += f"; the labels that the run learned ({run.recorded_labels()[0]}) are not used"
    return Scorer(model, None, described, language_model)


def _with_its_head(model: Model) -> tuple[LanguageModel, bool]:
    """The sequence encoder with its own head, and whether its weights changed since they had that head."""
    spec, component, settings = model.blueprint.parts[Kind.SEQ]
    if _LM_HEAD not in type(settings).model_fields:
        raise _no_head(model.name, f"the sequence encoder {spec.name} is no language model")
    if getattr(settings, _LM_HEAD):
        return model.sequence, False
    torch.manual_seed(model.blueprint.config.train.seed)
    try:
        whole = build_component(spec, component, settings.model_copy(update={_LM_HEAD: True}))
    except WeightsError as error:
        raise _no_head(model.name, error.message) from error
    if model.folder and weights_sha256(whole) is None:
        raise _no_head(model.name, "its sequence encoder started from random weights, without such a head")
    state, published = model.sequence.state_dict(), whole.state_dict()
    changed = any(not torch.equal(tensor.cpu(), published[name]) for name, tensor in state.items())
    whole.load_state_dict(state, strict=False)
    whole.requires_grad_(requires_grad=False).eval().to(model.device)
    return whole, changed and model.folder is not None


def _no_head(name: ModelName, reason: str) -> SettingsError:
    return SettingsError(
        f"{name} has no head that tells amino acids",
        reason,
        "use a run that was pre-trained with residue type prediction: esmgn run --pretext residue_type",
        f"or a language model: --seq {suggested_encoder()}",
    )


def _trained_head(model: Model, registry: Registry) -> ResidueTypeHead | None:
    """The head of residue type prediction among those of the folder's run."""
    task = pretext_task(model, registry) if model.folder else None
    if task is None:
        return None
    return next((module for module in task.modules() if isinstance(module, ResidueTypeHead)), None)


def pretext_task(model: Model, registry: Registry) -> nn.Module | None:
    """The pretext task of the model's run with its trained heads; ``None`` without such a run."""
    if model.folder is None:
        return None
    run = RunFolder(model.folder.path)
    blueprint = run_blueprint(model.folder, registry)
    if not run.task.is_file() or Kind.PRETEXT not in blueprint.parts:
        return None
    task: nn.Module = blueprint.build(Kind.PRETEXT, encoder_dim=model.output_dim)
    fill_task(task, run)
    return task.eval().requires_grad_(requires_grad=False).to(model.device)
