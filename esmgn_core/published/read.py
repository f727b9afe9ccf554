"""Read published files and check them against their layout."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from esmgn_core.errors import UnknownComponentError, WeightsError
from esmgn_core.host.presets import PublishedLayout
from esmgn_core.host.registry import Registry
from esmgn_core.printable import counted
from esmgn_core.published.layouts import PublishedModel, fit
from esmgn_core.weights import load_file, state_dict

_SHOWN = 20


class Content(NamedTuple):
    """The model of a published file, and its tensors by published name."""

    model: PublishedModel
    state: dict[str, Tensor]

    @property
    def num_parameters(self) -> int:
        """Parameters in the file, tied ones counted once."""
        return self.model.num_parameters(self.state)


def read_published(registry: Registry, path: Path, layout: PublishedLayout | None = None) -> Content:
    """Read a file without running code in it, and check all tensors against its layout.

    Args:
        registry: all components and layouts.
        path: a torch pickle or ``.safetensors``.
        layout: its layout; detected if not given.

    Raises:
        WeightsError: the file is missing, damaged, hostile, has no known layout or differs from its layout.
        UnknownComponentError: no plugin provides the components of the layout.
    """
    content = load_file(path)
    fitted = fit_named(registry, path, layout, content) if layout else detect(registry, path, content)
    check(*fitted, path)
    return Content(*fitted)


def detect(
    registry: Registry, path: Path, content: Mapping[str, Any]
) -> tuple[PublishedModel, dict[str, Any]]:
    """Find the layout with the fewest differences from a file.

    Returns:
        The model, and the tensors of the file by published name.

    Raises:
        WeightsError: no layout has a tensor in common with the file, or enough to find the sizes.
    """
    names, layouts = list(state_dict(content)), registry.catalogue.layouts
    fitted, errors = [], []
    for layout in layouts.values():
        try:
            model, state = fit_named(registry, path, layout, content)
        except UnknownComponentError:
            continue
        except WeightsError as error:
            prefixes = tuple(filter(None, layout.parts.values()))
            if any(name.startswith(prefixes) for name in names):
                errors.append(error)
            continue
        if model.expected().keys() & state.keys():
            fitted.append((len(model.differences(state)), model, state))
    if fitted:
        return min(fitted, key=lambda candidate: candidate[0])[1:]
    if errors:
        raise errors[0]
    raise WeightsError(
        f"{path} is not a published file of a known layout",
        f"its first tensors: {', '.join(names[:3]) or 'none'}",
        f"known layouts: {', '.join(layouts)}",
    )


def fit_named(
    registry: Registry, path: Path, layout: PublishedLayout, content: Mapping[str, Any]
) -> tuple[PublishedModel, dict[str, Any]]:
    """As :func:`esmgn_core.published.layouts.fit`, with the path in the error.

    Raises:
        WeightsError: there are too few tensors to find the sizes of the model.
    """
    try:
        return fit(registry, layout, content)
    except WeightsError as error:
        raise WeightsError(f"{path} does not have the layout {layout.name}: {error.message}") from None


def check(model: PublishedModel, state: Mapping[str, Any], path: Path) -> None:
    """Refuse tensors that differ from their layout.

    Raises:
        WeightsError: with a line for each difference, at most 20 of a kind.
    """
    if lines := _cut(model.differences(state)):
        differences = counted(len(lines), "difference")
        raise WeightsError(f"{path} does not have the layout {model.layout.name}: {differences}", *lines)


def _cut(lines: Sequence[str]) -> list[str]:
    """At most 20 differences of a kind, and the number of others."""
    shown = []
    for kind, group in itertools.groupby(lines, key=lambda line: line.partition(":")[0]):
        of_kind = list(group)
        shown += of_kind[:_SHOWN]
        if len(of_kind) > _SHOWN:
            shown.append(f"{kind}: {len(of_kind) - _SHOWN} more")
    return shown
