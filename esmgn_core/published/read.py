"""Published files, read and checked against their layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from esmgn_core.errors import WeightsError
from esmgn_core.presets import PublishedLayout
from esmgn_core.published.layouts import PublishedModel, cut, detect, fit, state_dict
from esmgn_core.registry import Registry
from esmgn_core.weights import load_file


class Content(NamedTuple):
    """The model of a published file, and its tensors by published name."""

    model: PublishedModel
    state: dict[str, Tensor]

    @property
    def num_parameters(self) -> int:
        """Parameters in the file, tied ones counted once."""
        return self.model.num_parameters(self.state)


def read_published(registry: Registry, path: Path, layout: PublishedLayout | None = None) -> Content:
    """Read a file without running code from it; every tensor must be as its layout says.

    Args:
        registry: all components and layouts.
        path: a torch pickle or ``.safetensors``.
        layout: its layout; found if not given.

    Raises:
        WeightsError: the file is missing, damaged, hostile, of no known layout, or differs from it,
            tensor by tensor.
        UnknownComponentError: no plugin provides the components of the layout.
    """
    content = load_file(path)
    found = fit_named(registry, path, layout, content) if layout else detect(registry, content)
    if found is None:
        raise WeightsError(
            f"{path} is not a published file of weights that is known here",
            f"its first names: {', '.join(list(state_dict(content))[:3]) or 'none'}",
            f"known layouts: {', '.join(registry.catalogue.layouts)}",
        )
    check(*found, path)
    return Content(*found)


def fit_named(
    registry: Registry, path: Path, layout: PublishedLayout, content: Mapping[str, Any]
) -> tuple[PublishedModel, dict[str, Any]]:
    """The model of a file in a layout.

    Raises:
        WeightsError: there are too few tensors to find its sizes.
    """
    try:
        return fit(registry, layout, content)
    except WeightsError as error:
        raise WeightsError(f"{path} does not have the layout {layout.name}: {error.message}") from None


def check(model: PublishedModel, state: Mapping[str, Any], path: Path) -> None:
    """Refuse a state dict that differs from its layout.

    Raises:
        WeightsError: with a line for each difference, 20 of a kind at most.
    """
    if lines := cut(model.differences(state)):
        what = f"{len(lines)} difference{'s' * (len(lines) > 1)}"
        raise WeightsError(f"{path} does not have the layout {model.layout.name}: {what}", *lines)
