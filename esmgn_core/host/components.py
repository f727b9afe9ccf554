"""Build a component and check it against the contract of its kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from torch import nn

from esmgn_core.errors import PluginError
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import ComponentSpec, Kind

_REQUIRED_MEMBERS: dict[Kind, tuple[str, ...]] = {
    Kind.SEQ: ("output_dim", "__call__"),
    Kind.STRUCT: ("output_dim", "__call__"),
    Kind.FUSE: ("output_dim", "structure_input_dim", "__call__"),
    Kind.GRAPH: ("num_relations", "__call__"),
    Kind.PRETEXT: ("views", "loss"),
    Kind.DOWNSTREAM: ("views", "loss", "prepare", "predict", "score", "metric", "group_size", "label_dim"),
    Kind.DATA: ("group_size", "__len__", "__getitem__", "split"),
    Kind.TRACKER: ("log", "close"),
}


def build_component(spec: ComponentSpec, component: type, settings: ComponentSettings, **context: Any) -> Any:
    """Build one component and check it against the contract of its kind.

    Raises:
        PluginError: the class does not accept the arguments, or its instance lacks members.
    """
    _check_signature(spec, component, settings, context)
    instance = component(settings, **context)
    missing = [name for name in _REQUIRED_MEMBERS[spec.kind] if not hasattr(instance, name)]
    if spec.kind not in (Kind.DATA, Kind.TRACKER) and not isinstance(instance, nn.Module):
        missing.insert(0, "torch.nn.Module as a base class")
    if missing:
        raise PluginError(f"{spec} lacks: {', '.join(missing)}", "the contracts are in esmgn_core.protocols")
    return instance


def _check_signature(
    spec: ComponentSpec, component: Callable[..., Any], settings: object, context: dict[str, Any]
) -> None:
    try:
        inspect.signature(component).bind(settings, **context)
    except TypeError as error:
        accepted = ", ".join(["settings", *(f"{name}=" for name in context)])
        raise PluginError(f"{spec} cannot be built with ({accepted}): {error}") from None


def random_weights(model: type[BaseModel]) -> dict[str, str]:
    """Settings that leave published weights out: ``weights = "random"`` where a setting takes this text."""
    field = model.model_fields.get("weights")
    return {"weights": "random"} if field and "random" in _literals(field.annotation) else {}


def _literals(annotation: object) -> set[object]:
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return set().union(*map(_literals, get_args(annotation)))
