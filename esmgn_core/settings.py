"""Settings of components and of a whole run, checked before anything heavy is imported."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from esmgn_core.errors import SettingsError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


class ComponentSettings(BaseModel):
    """Base of a component's nested ``Settings``: frozen, unknown names refused.

    Give every field a default, bounds and a docstring: ``esmgn show NAME`` prints them. The names
    ``name`` and ``component`` are taken by the run file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


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
    """Table ``[optim]``: Adam with one learning rate for the sequence encoder and one for the rest."""

    lr: float = Field(2e-4, gt=0)
    """Learning rate of structure encoder, fuser and heads."""
    seq_lr_scale: float = Field(0.1, ge=0)
    """Learning rate of the sequence encoder as a share of ``lr``; 0 freezes it."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates of the running averages."""
    eps: float = Field(1e-8, gt=0)
    """Adam's epsilon."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty, as in Adam (not decoupled)."""
    clip_norm: float = Field(0.0, ge=0)
    """Largest norm of the gradient; 0 for no clipping."""


class TrainTable(ComponentSettings):
    """Table ``[train]``: length, batches, checkpoints and numerics of a run."""

    epochs: int = Field(50, ge=1)
    """Passes over the training proteins."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after this many optimiser steps, whatever ``epochs`` says."""
    proteins_per_batch: int = Field(16, ge=1)
    """Proteins in one forward pass of one process."""
    accumulate: int = Field(1, ge=1)
    """Forward passes per optimiser step. The global batch is ``proteins_per_batch`` x ``accumulate``
    x number of processes."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of initial weights, order of proteins and all draws."""
    log_every: int = Field(1, ge=1)
    """Steps between lines of ``metrics.jsonl``."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints in ``last/``; the final step always makes one."""
    validate_every: int = Field(1, ge=1)
    """Epochs between passes over the held-out proteins; the final step always makes one."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast precision; ``auto`` is bf16 on CUDA devices that have it, else fp32."""


class RunConfig(BaseModel):
    """A whole run; one table per kind of component, then ``[optim]`` and ``[train]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: ComponentTable
    struct: ComponentTable
    fuse: ComponentTable
    graph: ComponentTable
    pretext: ComponentTable
    data: ComponentTable
    optim: OptimTable = OptimTable()
    train: TrainTable = TrainTable()


def validated(model: type[Model], values: dict[str, Any], *, what: str, see: str) -> Model:
    """``model`` filled with ``values``.

    Args:
        model: pydantic class.
        values: settings by name.
        what: what is set, for the message, such as ``"struct 'gearnet'"``.
        see: command that shows the valid settings.

    Raises:
        SettingsError: with one line for each wrong setting.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_line(model, item["loc"], item["type"], item["msg"], item["input"]) for item in error.errors()]
        raise SettingsError(f"invalid settings for {what}", *lines, f"see: {see}") from None


def _line(model: type[BaseModel], loc: tuple[int | str, ...], code: str, message: str, value: object) -> str:
    name = ".".join(str(part) for part in loc) or "settings"
    if code == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        hint = ", ".join(did_you_mean(str(loc[-1]), known))
        return f"{name}  unknown setting" + (f", {hint}" if hint else "")
    text = message.removeprefix("Value error, ").removeprefix("Input should be ")
    expected = "" if message.startswith("Value error") else "expected "
    return f"{name}  {expected}{text}, got {value!r}"


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
