"""The task of a finished run: class, settings and trained heads."""

from __future__ import annotations

from torch import nn

from esmgn_core.errors import RunError, WeightsError
from esmgn_core.host.configure import configure, read_run_file
from esmgn_core.host.registry import Registry
from esmgn_core.host.sources import warn_of_changes
from esmgn_core.model.compose import Blueprint, resolve
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.model.tensors import load_weights
from esmgn_core.protocols import OUTPUTS, DeclaresOutput, Output
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind


def check_single(run: RunFolder, group_size: int) -> None:
    """Refuse a run whose predictions need several proteins.

    Raises:
        RunError: ``group_size`` is not 1.
    """
    if group_size == 2:
        raise RunError(
            f"{run.path} predicts for pairs of a protein and its mutant", "use: esmgn mutate FILE --model RUN"
        )
    if group_size > 2:
        raise RunError(
            f"{run.path} predicts for groups of {group_size} proteins, not for one",
            f"its scores are in {run.results}, its raw outputs in {run.predictions}",
        )


def group_size(run: RunFolder, registry: Registry) -> int:
    """Number of proteins for one prediction; 1 for a run without a downstream task."""
    if not run.labels.is_file():
        return 1
    return int(getattr(_task_class(run, registry), "group_size", 1))


def output_of(run: RunFolder, registry: Registry) -> Output:
    """The kind of output of a finished downstream run.

    Raises:
        RunError: it is not a finished downstream run, or its task does not declare its output.
        UnknownComponentError: no plugin provides the task.
    """
    if not run.labels.is_file() or not run.task.is_file():
        raise RunError(
            f"{run.path} is not a finished run of a downstream task",
            "labels.json or task.safetensors is missing",
            "fine-tune one: esmgn run --downstream TASK --init RUN; tasks: esmgn list downstream",
        )
    task = _task_class(run, registry)
    if isinstance(task, DeclaresOutput) and task.output in OUTPUTS:
        return task.output
    raise RunError(
        f"cannot predict with {run.path}: its downstream task '{run.recorded_labels()[0]}' does not declare "
        "its output",
        f"set the attribute `output` of its class to one of: {', '.join(OUTPUTS)}",
        f"its scores are in {run.results}, its raw outputs in {run.predictions}",
    )


def _task_class(run: RunFolder, registry: Registry) -> type:
    component, _ = run.recorded_labels()
    warn_of_changes(registry, run, [Kind.DOWNSTREAM])
    return registry.load(registry.component(Kind.DOWNSTREAM, component, where=str(run.labels)))


def run_blueprint(folder: EncoderFolder, registry: Registry) -> Blueprint:
    """The components and settings of a run, including its task."""
    return resolve(registry, configure(registry, [read_run_file(folder.config)], [str(folder.config)]))


def load_heads(task: nn.Module, run: RunFolder) -> None:
    """Load the trained heads of a run into its task.

    Raises:
        WeightsError: the file is damaged or does not match the task.
    """
    try:
        task.load_state_dict(load_weights(run.task))
    except RuntimeError as error:
        raise WeightsError(
            f"{run.task} does not match the task in {run.config}", *str(error).splitlines()[1:4]
        ) from error
