"""Settings of components and runs, and the messages about wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeGuard, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from esmgn_core.errors import PluginError, SettingsError, did_you_mean, shown
from esmgn_core.spec import PARTS, ComponentSpec, Kind

_Model = TypeVar("_Model", bound=BaseModel)
_DecayRate = Annotated[float, Field(ge=0, lt=1)]


class ComponentSettings(BaseModel):
    """Base of a component's nested ``Settings``; frozen, and unknown names are errors.

    Give every field a default, bounds and a docstring, because ``esmgn show NAME`` prints them. Every
    :class:`~pathlib.Path`, also in a tuple or list, becomes absolute, so that a run file does not depend
    on the folder in which the run started. The names ``name`` and ``component`` are reserved for the run
    file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    originals: ClassVar[Mapping[str, Any]] = {}
    """Values of the original ESM-GearNet that differ from the defaults.
    A setting called ``reference`` need not be listed; the original's value is true."""

    @classmethod
    def original(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that ``reference = true`` sets, including those of nested tables.

        Args:
            values: the settings that the user gave.
        """
        originals: dict[str, Any] = {"reference": True} if "reference" in cls.model_fields else {}
        originals |= cls.originals
        for name, field in cls.model_fields.items():
            table = field.annotation
            if isinstance(table, type) and issubclass(table, ComponentSettings):
                given = values.get(name, {})
                nested = table.original(given if isinstance(given, Mapping) else {})
                originals |= {name: nested} if nested else {}
        return originals

    @field_validator("*")
    @classmethod
    def _absolute_paths(cls, value: Any) -> Any:
        if isinstance(value, Path):
            return value.expanduser().absolute()
        if isinstance(value, list | tuple) and any(isinstance(item, Path) for item in value):
            return type(value)(map(cls._absolute_paths, value))
        return value


class ComponentTable(BaseModel):
    """A component's table in a run file: its name and its settings."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    component: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All entries of the table except ``name`` and ``component``."""
        return dict(self.model_extra or {})


class OptimTable(ComponentSettings):
    """Table ``[optim]``: optimiser and learning-rate schedule."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """``adam``, ``adamw`` (decoupled weight decay) or ``sgd`` (with ``momentum``)."""
    lr: float = Field(2e-4, gt=0)
    """Learning rate of the structure encoder, fuser and heads."""
    seq_lr_scale: float = Field(0.1, ge=0)
    """Learning rate of the sequence encoder, as a fraction of ``lr``; 0 freezes the encoder."""
    seq_layer_decay: float = Field(1.0, gt=0, le=1)
    """Layer-wise decay: learning rate of each block of the sequence encoder, as a fraction of the rate
    of the block above it."""
    lora_rank: int = Field(0, ge=0)
    """Rank of LoRA adapters for the linear layers in the blocks of the sequence encoder; 0 for none.
    Only the adapters of that encoder are trained. Needs ``esmgn[lora]``."""
    lora_alpha: int = Field(16, ge=1)
    """The output of the adapters is scaled by ``lora_alpha`` / ``lora_rank``."""
    schedule: Literal["constant", "cosine", "step", "plateau"] = "constant"
    """Learning-rate schedule after the warm-up. ``cosine`` decays to ``min_lr_scale`` at the last step,
    ``step`` decays every ``step_epochs``, ``plateau`` decays when validation stops improving."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up of the learning rates."""
    min_lr_scale: float = Field(0.0, ge=0, le=1)
    """Final value of ``cosine``, as a fraction of each learning rate."""
    step_epochs: int = Field(50, ge=1)
    """Epochs between two decays of ``step``."""
    step_factor: float = Field(0.5, gt=0, lt=1)
    """Factor by which ``step`` multiplies the learning rates."""
    plateau_mode: Literal["min", "max"] = "min"
    """``min`` if a lower validation value is better for ``plateau``, ``max`` if a higher one is. The
    published fine-tuning uses ``min`` with a score that rises, so its rates decay at fixed intervals."""
    plateau_factor: float = Field(0.6, gt=0, lt=1)
    """Factor by which ``plateau`` multiplies the learning rates."""
    plateau_patience: int = Field(5, ge=0)
    """Validations without improvement before ``plateau`` decays the rates."""
    betas: tuple[_DecayRate, _DecayRate] = (0.9, 0.999)
    """Decay rates of Adam's running averages."""
    eps: float = Field(1e-8, gt=0)
    """Adam's epsilon."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of ``sgd``."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty in ``adam`` and ``sgd``, decoupled decay in ``adamw``."""
    clip_norm: float = Field(0.0, ge=0)
    """Gradients are clipped to this norm; 0 for no clipping."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay rate of an exponential moving average of the weights; 0 for none. The averaged weights are
    evaluated and kept as the best encoder."""


class TrainTable(ComponentSettings):
    """Table ``[train]``: length, batches, checkpoints and numerics of a run."""

    originals = MappingProxyType({"precision": "fp32", "test_epoch": "last"})

    epochs: int = Field(50, ge=1)
    """Passes over the training proteins."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after this many optimiser steps, even if ``epochs`` is not reached."""
    proteins_per_batch: int = Field(16, ge=1)
    """Proteins in one forward pass of one process."""
    residues_per_batch: int | None = Field(None, ge=1)
    """Residues in one forward pass of one process, instead of ``proteins_per_batch``."""
    accumulate: int = Field(1, ge=1)
    """Forward passes per optimiser step. The global batch is ``proteins_per_batch`` x ``accumulate``
    x number of processes."""
    workers: int = Field(1, ge=0)
    """Threads that read and pack proteins ahead of the step; 0 to read in the training thread."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the initial weights, the order of proteins and all random draws."""
    log_every: int = Field(1, ge=1)
    """Steps between lines of ``metrics.jsonl``."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints in ``last/``; the final step always writes one."""
    keep_every: int | None = Field(None, ge=1)
    """Steps between checkpoints that are kept permanently, in ``kept/``."""
    on_failed_checkpoint: Literal["go_on", "stop"] = "go_on"
    """Reaction to a checkpoint that cannot be written, for example on a full disk: ``go_on`` until the
    next checkpoint, or ``stop``."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Trackers that receive the metrics, in addition to ``metrics.jsonl``. Their settings are in
    ``[tracker.NAME]``."""
    validate_every: int = Field(1, ge=1)
    """Epochs between validations; the final step always validates."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """``fp32``; ``tf32`` for matrix products on CUDA; ``bf16`` or ``fp16`` autocast (``fp16`` with loss
    scaling). ``auto`` is bf16 on CUDA devices with bf16, tf32 on other CUDA devices, fp32 on the CPU."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Parallelism of several processes. ``ddp`` keeps all weights in each process. ``fsdp`` shards weights,
    gradients and optimiser state, for sequence encoders that do not fit otherwise."""
    sync_batch_norm: bool = True
    """Compute batch statistics over the residues of all processes; false: of each process separately."""
    activation_checkpointing: bool = False
    """Recompute the blocks of the encoders in the backward pass instead of keeping their activations,
    where an encoder supports it."""
    compile: bool = False
    """Compile the blocks of the sequence encoder with ``torch.compile``."""
    time_limit: float | None = Field(None, gt=0)
    """Minutes after which the run writes a checkpoint and stops; it can be resumed. Not set for no limit."""
    test_epoch: Literal["best", "last"] = "best"
    """Weights with which a downstream run is tested: those of the best validation, or the last ones."""
    resamples: int = Field(1000, ge=0)
    """Bootstrap resamples for the confidence intervals of a downstream run's scores; 0 for no intervals."""


class LengthTable(ComponentSettings):
    """Table ``[length]``: how both encoders read long sequences.

    A sequence is a chain, or a whole protein for an encoder that joins chains.
    """

    policy: Literal["full", "window", "truncate", "error"] = "full"
    """``full`` reads every sequence whole. For longer sequences than ``max_residues``: with ``window`` the
    sequence encoder reads overlapping windows and averages the overlaps, and the structure encoder reads
    the whole sequence; ``truncate`` keeps the first residues for both encoders; ``error`` stops."""
    max_residues: int = Field(1022, ge=1)
    """Length of the longest sequence that is read whole, and of a window."""
    overlap: int = Field(256, ge=0)
    """Minimum number of residues that two successive windows share."""

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.policy == "window" and self.overlap >= self.max_residues:
            raise ValueError("overlap must be less than max_residues")
        return self


class InputsTable(ComponentSettings):
    """Table ``[inputs]``: additional inputs of the structure encoder."""

    residue: tuple[str, ...] = ()
    """Residue features from the data. A store can provide ``secondary_structure`` (states of DSSP),
    ``secondary_structure_3`` (helix, strand, coil) and ``exposure``."""


class CacheTable(ComponentSettings):
    """Table ``[cache]``: outputs of a frozen sequence encoder, computed once and kept on disk."""

    features: Literal["off", "fp32", "bf16", "fp16"] = "off"
    """Precision of the cached outputs: ``fp32`` is exact, the others take half the space. Only outputs for
    sequences that the task leaves whole are cached."""
    path: Path | None = None
    """Folder of the cache; if not set, ``features`` in the folder of ``ESMGN_CACHE``."""
    max_gb: float = Field(100.0, gt=0)
    """Maximum size of one encoder's file in gigabytes. Outputs that do not fit are computed each time."""


PROVIDED_BY = "provided_by"
"""Table of a run folder's ``config.toml``: package, version and digest of each component, not settings."""


class RunConfig(BaseModel):
    """Configuration of a run: one table per kind of component, then the tables of the engine.

    The task is either ``pretext`` or ``downstream``. Encoders that the fuser does not read have no table, and
    neither has a graph that nothing reads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: ComponentTable | None = None
    struct: ComponentTable | None = None
    fuse: ComponentTable
    graph: ComponentTable | None = None
    pretext: ComponentTable | None = None
    downstream: ComponentTable | None = None
    data: ComponentTable
    tracker: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Settings of trackers by name. Run folders also record ``component``, the tracker's component."""
    cache: CacheTable = CacheTable()
    inputs: InputsTable = InputsTable()
    length: LengthTable = LengthTable()
    optim: OptimTable = OptimTable()
    train: TrainTable = TrainTable()
    reference: bool | None = None
    """Reproduce the original ESM-GearNet in every component; not set for no."""
    set_above: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict, exclude=True, repr=False)
    """Settings from the layer of ``reference`` and those above it; they win over the original's values."""
    written_in: Mapping[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    """For messages: the files and flags that set something in a table, such as ``" (run.toml)"``."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of component that the run has."""
        return tuple(kind for kind in PARTS if getattr(self, kind) is not None)

    @property
    def task(self) -> ComponentTable:
        """The table of the run's task."""
        table = self.pretext or self.downstream
        if table is None:
            raise ValueError("a run needs a pretext or a downstream task")
        return table

    def __eq__(self, other: object) -> bool:
        """True if both have the same settings, from whatever files."""
        return isinstance(other, RunConfig) and self.model_dump() == other.model_dump()


def validated(model: type[_Model], values: dict[str, Any], *, what: str, see: str) -> _Model:
    """Return ``model`` with validated ``values``.

    Args:
        model: pydantic class.
        values: settings by name.
        what: name and origin of the settings for the message, such as ``"struct 'gearnet' (run.toml)"``.
        see: command that shows the valid settings.

    Raises:
        SettingsError: a setting is wrong; the message has one line for each.
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
    """Name of a wrong setting and description of the error."""
    path, code, message = error["loc"], error["type"], error["msg"]
    # For a union, pydantic adds the type it tried to the path.
    name = ".".join(part for part in map(str, path) if "[" not in part) or "together"
    if code == "extra_forbidden":
        near = did_you_mean(str(path[-1]), _fields_at(model, path[:-1])) or _in_nested_tables(model, name)
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


def _in_nested_tables(model: type[BaseModel], name: str) -> tuple[str, ...]:
    """A hint with the nested tables that have a setting of this name, as those of a combined task."""
    tables = {key: field.annotation for key, field in model.model_fields.items()}
    paths = [
        f"{key}.{name}" for key, table in tables.items() if is_model(table) and name in table.model_fields
    ]
    return (f"did you mean: {' or '.join(paths)}?",) if paths else ()


def is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    """True if a setting of this type is a table."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def settings_class(spec: ComponentSpec, component: type) -> type[ComponentSettings]:
    """The nested ``Settings`` class of a component.

    Raises:
        PluginError: the class is missing, is not a :class:`ComponentSettings`, or has a field whose name is
            reserved for the run file.
    """
    settings = getattr(component, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, ComponentSettings)):
        raise PluginError(f"{spec} has no nested class Settings(ComponentSettings)")
    if taken := {"name", "component"} & settings.model_fields.keys():
        raise PluginError(f"{spec} has a setting '{taken.pop()}', a name reserved for the run file")
    return settings
