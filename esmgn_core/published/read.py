"""Published files, read and checked against their layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from esmgn_core.errors import WeightsError
from esmgn_core.published.check import differences
from esmgn_core.published.entries import Layout, Model, count
from esmgn_core.published.sizes import detected, model_of
from esmgn_core.weights import load_file

_PREFIX = re.compile(r"^encoder\.(sentence_encoder\.)?")


class Content(NamedTuple):
    """What a published file holds.

    Attributes:
        model: its layout and sizes.
        state: tensors by published name; those of fair-esm without prefixes and in float32.
    """

    model: Model
    state: dict[str, Tensor]

    @property
    def num_parameters(self) -> int:
        """Parameters in the file, tied ones counted once."""
        return count({name: entry for name, entry in self.model.entries().items() if name in self.state})


def read_published(path: Path, layout: Layout | None = None) -> Content:
    """Read a file without running code from it; every tensor must be as its layout says.

    Args:
        path: a torch pickle or ``.safetensors``.
        layout: what it is; found out if not given.

    Raises:
        WeightsError: the file is missing, damaged, hostile, of no known layout, or differs from it,
            tensor by tensor.
    """
    content = load_file(path)
    state, arguments = _flat(content)
    layout = layout or detected(state)
    if layout is None:
        raise WeightsError(
            f"{path} is no published file of weights that is known here",
            f"its first names: {', '.join(list(state)[:3]) or 'none'}",
            f"known layouts: {', '.join(Layout)}",
        )
    try:
        model = model_of(layout, state, attention_heads=arguments.get("encoder_attention_heads"))
    except WeightsError as error:
        raise WeightsError(f"{path} does not have the layout {layout}: {error.message}") from None
    if layout is Layout.FAIR_ESM:
        # The largest models may be stored in half precision.
        state = {name: _single(value) for name, value in state.items()}
    check(model, state, path)
    return Content(model, state)


def check(model: Model, state: Mapping[str, Any], path: Path) -> None:
    """Refuse a state dict that is not exactly what its layout says.

    Raises:
        WeightsError: with a line for each difference.
    """
    if lines := differences(model, state):
        what = f"{len(lines)} difference{'s' * (len(lines) > 1)}"
        raise WeightsError(f"{path} does not have the layout {model.layout}: {what}", *lines)


def _flat(content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state dict, without fair-esm's prefixes, and fair-esm's model arguments."""
    nested = content.get("model")
    if not isinstance(nested, Mapping):
        return _stripped(content), {}
    config = content.get("cfg")
    arguments = config.get("model") if isinstance(config, Mapping) else None
    return _stripped(nested), dict(getattr(arguments, "__dict__", {}))


def _stripped(state: Mapping[str, Any]) -> dict[str, Any]:
    return {_PREFIX.sub("", str(name)): value for name, value in state.items()}


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
