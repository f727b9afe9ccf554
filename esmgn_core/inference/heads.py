"""What turns encodings into amino acids: the head of a pre-training run, or a language model's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.compose import Blueprint, draw_up
from esmgn_core.configure import configure, read_run_file
from esmgn_core.engine.encoder_folder import EncoderFolder
from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.engine.state import load_weights
from esmgn_core.errors import SettingsError, WeightsError
from esmgn_core.inference.model import Model, ModelName, load_model
from esmgn_core.protocols import LanguageModel, ResidueTypeHead
from esmgn_core.registry import Registry, discover
from esmgn_core.spec import Kind

_LM_HEAD = "lm_head"


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """A model that says which amino acids it expects.

    Attributes:
        model: the encoder.
        head: of the pre-training run; ``None`` where the language model answers.
        described: which of both it is, in words.
    """

    model: Model
    head: ResidueTypeHead | None
    described: str

    @property
    def random_parts(self) -> tuple[str, ...]:
        """Parts with random weights among those that give the scores."""
        parts = self.model.random_parts
        return parts if self.head is not None else tuple(part for part in parts if part == "sequence encoder")

    def logits(self, batch: ProteinBatch) -> Tensor:
        """Logits float32 [N, 20] over the amino acids for each residue of a batch."""
        if self.head is not None:
            return self.head.residue_type_logits(self.model.encode(batch).residue)
        language_model: Any = self.model.sequence
        with self.model.inference():
            logits: Tensor = language_model.residue_logits(batch.to(self.model.device))
        return logits.float()


def load_scorer(name: ModelName, *, device: str = "auto", precision: str = "fp32") -> Scorer:
    """Load a model with what it needs to score mutations.

    The head of residue type prediction is used where the folder is of a run that trained one: it sees
    the structure. Else the sequence encoder's own language-model head is used, which does not.

    Raises:
        SettingsError: the model has neither.
        EsmgnError: as :func:`esmgn_core.inference.model.load_model`.
    """
    registry = discover()
    model = load_model(name, device=device, precision=precision, registry=registry)
    head = _trained_head(model, registry)
    if head is not None:
        return Scorer(model, head, f"residue type head of {name.folder} (sequence and structure)")
    if _LM_HEAD not in type(_settings(model.blueprint)).model_fields:
        raise SettingsError(
            f"{name} has no head that tells amino acids",
            "use a run that was pre-trained with residue type prediction: esmgn run --pretext residue_type",
            "or a language model: --seq esm2_650m",
        )
    if not getattr(_settings(model.blueprint), _LM_HEAD):
        changed = replace(name, changes=(*name.changes, f"seq.{_LM_HEAD}=true"))
        model = load_model(changed, device=device, precision=precision, registry=registry)
    if not isinstance(model.sequence, LanguageModel):
        raise SettingsError(f"the sequence encoder of {name} is no language model")
    return Scorer(model, None, f"language model {model.blueprint.config.seq.name} (sequence only)")


def _settings(blueprint: Blueprint) -> Any:
    return blueprint.parts[Kind.SEQ][2]


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


def run_blueprint(folder: EncoderFolder, registry: Registry) -> Blueprint:
    """The whole run of a folder, with its task."""
    return draw_up(registry, configure(registry, [read_run_file(folder.config)], [str(folder.config)]))


def fill_task(task: nn.Module, run: RunFolder) -> None:
    """Put the trained heads of a run into its task.

    Raises:
        WeightsError: they are damaged, or of another make.
    """
    try:
        task.load_state_dict(load_weights(run.task))
    except RuntimeError as error:
        raise WeightsError(
            f"{run.task} does not fit the task of {run.config}", *str(error).splitlines()[1:4]
        ) from error
