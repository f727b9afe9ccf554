"""Settings of components and of a whole run, and the messages about wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeGuard, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from esmgn_core.errors import PluginError, SettingsError, did_you_mean, shown
from esmgn_core.spec import PARTS, ComponentSpec, Kind

_Model = TypeVar("_Model", bound=BaseModel)
_Decay = Annotated[float, Field(ge=0, lt=1)]


class ComponentSettings(BaseModel):
    """Base of a component's nested ``Settings``: frozen, unknown names refused.

    Give every field a default, bounds and a docstring: ``esmgn show NAME`` prints them. A
    :class:`~pathlib.Path`, also within a tuple or list, is made absolute, so that the run file of a
    run does not depend on where the run started. The names ``name`` and ``component`` are taken by
    the run file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    originals: ClassVar[Mapping[str, Any]] = {}
    """Values under which the component does what the original ESM-GearNet did, where that is not the default.
    A setting called ``reference`` need not be listed: true is the original's."""

    @classmethod
    def original(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that ``reference = true`` stands for, also in tables within this one.

        Args:
            values: the settings as far as they are given.
        """
        found: dict[str, Any] = {"reference": True} if "reference" in cls.model_fields else {}
        found |= cls.originals
        for name, field in cls.model_fields.items():
            table = field.annotation
            if isinstance(table, type) and issubclass(table, ComponentSettings):
                inner = values.get(name, {})
                own = table.original(inner if isinstance(inner, Mapping) else {})
                found |= {name: own} if own else {}
        return found

    @field_validator("*")
    @classmethod
    def _absolute_paths(cls, value: Any) -> Any:
        if isinstance(value, Path):
            return value.expanduser().absolute()
        if isinstance(value, list | tuple) and any(isinstance(item, Path) for item in value):
            return type(value)(map(cls._absolute_paths, value))
        return value


class ComponentTable(BaseModel):
    """A component's table in a run file: its name, and its settings beside it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    component: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything in the table but the names."""
        return dict(self.model_extra or {})


class OptimTable(ComponentSettings):
    """Table ``[optim]``: optimiser, learning rates and their course."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """``adam``; ``adamw``, whose weight decay is decoupled from the gradient; ``sgd`` with ``momentum``."""
    lr: float = Field(2e-4, gt=0)
    """Learning rate of structure encoder, fuser and heads."""
    seq_lr_scale: float = Field(0.1, ge=0)
    """Learning rate of the sequence encoder as a share of ``lr``; 0 freezes it."""
    seq_layer_decay: float = Field(1.0, gt=0, le=1)
    """Each block of the sequence encoder learns at this share of the rate of the block above it."""
    lora_rank: int = Field(0, ge=0)
    """Instead of its weights, train low-rank adapters of this rank beside every linear layer in the
    blocks of the sequence encoder (LoRA; needs ``esmgn[lora]``); 0 for none."""
    lora_alpha: int = Field(16, ge=1)
    """Adapters are scaled by this over ``lora_rank``."""
    schedule: Literal["constant", "cosine", "step", "plateau"] = "constant"
    """Course of the learning rates after the warm-up: ``cosine`` falls to ``min_lr_scale`` at the
    last step; ``step`` shrinks every ``step_epochs``; ``plateau`` shrinks after passes over the
    held-out proteins that were no better."""
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the rates rise to their values."""
    min_lr_scale: float = Field(0.0, ge=0, le=1)
    """Where ``cosine`` ends, as a share of the rates."""
    step_epochs: int = Field(50, ge=1)
    """Epochs between two falls of ``step``."""
    step_factor: float = Field(0.5, gt=0, lt=1)
    """What ``step`` multiplies the rates by."""
    plateau_mode: Literal["min", "max"] = "min"
    """Whether a lower or a higher value is better for ``plateau``. The published fine-tuning has
    ``min`` on a score that rises, which shrinks the rates in fixed intervals."""
    plateau_factor: float = Field(0.6, gt=0, lt=1)
    """What ``plateau`` multiplies the rates by."""
    plateau_patience: int = Field(5, ge=0)
    """Passes without a better value that ``plateau`` waits for."""
    betas: tuple[_Decay, _Decay] = (0.9, 0.999)
    """Adam's decay rates of the running averages."""
    eps: float = Field(1e-8, gt=0)
    """Adam's epsilon."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of its last change that ``sgd`` adds to the gradient."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty in ``adam`` and ``sgd``, decoupled decay in ``adamw``."""
    clip_norm: float = Field(0.0, ge=0)
    """Largest norm of the gradient; 0 for no clipping."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """_Decay of a running average of the weights, which is then what is evaluated and kept as the
    best encoder; 0 for none."""


class TrainTable(ComponentSettings):
    """Table ``[train]``: length, batches, checkpoints and numerics of a run."""

    originals = MappingProxyType({"precision": "fp32", "test_epoch": "last"})

    epochs: int = Field(50, ge=1)
    """Passes over the training proteins."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after this many optimiser steps, whatever ``epochs`` says."""
    proteins_per_batch: int = Field(16, ge=1)
    """Proteins in one forward pass of one process."""
    residues_per_batch: int | None = Field(None, ge=1)
    """Residues in one forward pass of one process, instead of ``proteins_per_batch``."""
    accumulate: int = Field(1, ge=1)
    """Forward passes per optimiser step. The global batch is ``proteins_per_batch`` x ``accumulate``
    x number of processes."""
    workers: int = Field(1, ge=0)
    """Threads that read and pack proteins ahead of the step; 0 to read them when they are needed."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of initial weights, order of proteins and all draws."""
    log_every: int = Field(1, ge=1)
    """Steps between lines of ``metrics.jsonl``."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints in ``last/``; the final step always makes one."""
    keep_every: int | None = Field(None, ge=1)
    """Checkpoints at multiples of this many steps are kept for good in ``kept/``."""
    on_failed_checkpoint: Literal["go_on", "stop"] = "go_on"
    """What to do when a checkpoint cannot be written, as on a full disk: ``go_on`` and try again at
    the next one, or ``stop``."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Trackers that get the metrics besides ``metrics.jsonl``; their settings are in ``[tracker.NAME]``."""
    validate_every: int = Field(1, ge=1)
    """Epochs between passes over the held-out proteins; the final step always makes one."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """``fp32``; ``tf32`` for its matrix products on CUDA; ``bf16`` or ``fp16`` autocast, the latter
    with a scaled loss. ``auto`` is bf16 on CUDA devices that have it, else tf32 there, fp32 elsewhere."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What several processes do: ``ddp`` has all weights in each; ``fsdp`` shares out weights,
    gradients and optimiser state, for sequence encoders that do not fit otherwise."""
    sync_batch_norm: bool = True
    """Batch statistics over the residues of all processes; false for each process's own."""
    activation_checkpointing: bool = False
    """Compute blocks again in the backward pass instead of keeping their activations, in every
    encoder that can."""
    compile: bool = False
    """Compile the blocks of the sequence encoder with ``torch.compile``."""
    time_limit: float | None = Field(None, gt=0)
    """Minutes after which the run saves itself and stops, ready to go on; not set for no limit."""
    test_epoch: Literal["best", "last"] = "best"
    """Weights that a downstream run is tested with: those of its best validation, or the last ones."""
    resamples: int = Field(1000, ge=0)
    """Resamples of the predictions behind the intervals of a downstream run's scores; 0 for none."""


class LengthTable(ComponentSettings):
    """Table ``[length]``: what happens to long sequences, in both encoders.

    A sequence is a chain, or a whole protein for an encoder that joins chains.
    """

    policy: Literal["full", "window", "truncate", "error"] = "full"
    """``full`` reads every sequence whole; ``window``: the sequence encoder reads a longer one in
    overlapping windows and averages where they overlap, the structure encoder sees all of it;
    ``truncate`` cuts it to its beginning for both; ``error`` refuses it."""
    max_residues: int = Field(1022, ge=1)
    """The longest sequence that is read as it is, and the size of a window."""
    overlap: int = Field(256, ge=0)
    """Residues that a window shares with the next at least."""

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.policy == "window" and self.overlap >= self.max_residues:
            raise ValueError("overlap must be less than max_residues")
        return self


class InputsTable(ComponentSettings):
    """Table ``[inputs]``: what the structure encoder takes beside what the fuser gives it."""

    residue: tuple[str, ...] = ()
    """Features of each residue that the data have: of a store ``secondary_structure`` (states of DSSP),
    ``secondary_structure_3`` (helix, strand, coil) and ``exposure``."""


class CacheTable(ComponentSettings):
    """Table ``[cache]``: outputs of a frozen sequence encoder, computed once and kept on disk."""

    features: Literal["off", "fp32", "bf16", "fp16"] = "off"
    """Keep them in this precision: ``fp32`` changes nothing, the others take half the room. Only
    sequences that a task leaves whole are kept."""
    path: Path | None = None
    """Folder for them; ``features`` in the folder of ``ESMGN_CACHE`` if not set."""
    max_gb: float = Field(100.0, gt=0)
    """Largest size of one encoder's file in gigabytes; what has no room is computed each time."""


class RunConfig(BaseModel):
    """A whole run; one table per kind of component, then those of the engine.

    Its task is either ``pretext`` or ``downstream``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: ComponentTable
    struct: ComponentTable
    fuse: ComponentTable
    graph: ComponentTable
    pretext: ComponentTable | None = None
    downstream: ComponentTable | None = None
    data: ComponentTable
    tracker: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Settings of trackers by name; ``component`` is the tracker's class, where the run wrote it."""
    cache: CacheTable = CacheTable()
    inputs: InputsTable = InputsTable()
    length: LengthTable = LengthTable()
    optim: OptimTable = OptimTable()
    train: TrainTable = TrainTable()
    reference: bool | None = None
    """Every component does what the original did; not set for no."""
    set_above: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict, exclude=True, repr=False)
    """Settings given together with ``reference``, or above it: they count more than what it stands for."""
    written_in: Mapping[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    """For messages: the files and flags that set something in a table, such as ``" (run.toml)"``."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of component that the run has one of."""
        return tuple(kind for kind in PARTS if getattr(self, kind) is not None)

    @property
    def task(self) -> ComponentTable:
        """The table of the run's task."""
        table = self.pretext or self.downstream
        if table is None:
            raise ValueError("a run needs a pretext or a downstream task")
        return table

    def __eq__(self, other: object) -> bool:
        """Whether both describe the same run, wherever it was written."""
        return isinstance(other, RunConfig) and self.model_dump() == other.model_dump()


def validated(model: type[_Model], values: dict[str, Any], *, what: str, see: str) -> _Model:
    """``model`` filled with ``values``.

    Args:
        model: pydantic class.
        values: settings by name.
        what: what is set and where, for the message, such as ``"struct 'gearnet' (run.toml)"``.
        see: command that shows the valid settings.

    Raises:
        SettingsError: with one line for each wrong setting.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_problem(model, dict(item)) for item in error.errors()]
        width = max(len(name) for name, _ in problems)
        lines = [f"{name:{width}}  {text}" for name, text in problems]
        raise SettingsError(f"invalid settings for {what}", *lines, f"see: {see}") from None


_EXPECTED = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_pattern_mismatch": "text that matches {pattern}",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number >= {ge}",
    "less_than": "a number < {lt}",
    "less_than_equal": "a number <= {le}",
    "literal_error": "{expected}",
}


def _problem(model: type[BaseModel], error: dict[str, Any]) -> tuple[str, str]:
    """Name of a wrong setting, and what is wrong with it."""
    path, code, message = error["loc"], error["type"], error["msg"]
    # pydantic puts the type it tried for a union into the path.
    name = ".".join(part for part in map(str, path) if "[" not in part) or "together"
    if code == "extra_forbidden":
        near = did_you_mean(str(path[-1]), _fields_at(model, path[:-1])) or _in_tables(model, name)
        return name, ", ".join(["unknown setting", *near])
    if code == "missing":
        return name, "is required"
    message = message.removeprefix("Value error, ")
    if code in _EXPECTED:
        expected = _EXPECTED[code].format(**error.get("ctx", {})).replace("'", '"')
        message = f"expected {expected}"
    return name, f"{message}, got {shown(error['input'])}" if path else message


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        if str(part) not in model.model_fields:
            return []
        annotation = model.model_fields[str(part)].annotation
        inner = [option for option in (annotation, *get_args(annotation)) if is_model(option)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def _in_tables(model: type[BaseModel], name: str) -> tuple[str, ...]:
    """Where a setting of this name is, if only in tables of the model, as of a combined task."""
    tables = {key: field.annotation for key, field in model.model_fields.items()}
    found = [
        f"{key}.{name}" for key, table in tables.items() if is_model(table) and name in table.model_fields
    ]
    return (f"did you mean: {' or '.join(found)}?",) if found else ()


def is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    """Whether a setting of this type is a table of its own."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def settings_class(spec: ComponentSpec, component: type) -> type[ComponentSettings]:
    """The nested ``Settings`` of a component.

    Raises:
        PluginError: it has none, one that is not a :class:`ComponentSettings`, or one with a field
            that the run file needs for itself.
    """
    settings = getattr(component, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, ComponentSettings)):
        raise PluginError(f"{spec} has no nested class Settings(ComponentSettings)")
    if taken := {"name", "component"} & settings.model_fields.keys():
        raise PluginError(f"{spec} has a setting '{taken.pop()}'; the run file needs this name itself")
    return settings
