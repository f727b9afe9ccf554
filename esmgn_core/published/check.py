"""How a state dict differs from what its layout says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from esmgn_core.published.entries import FREQUENCIES, MAPPING, Entry, Model
from esmgn_core.published.naming import constant

_SHOWN = 20


def differences(model: Model, state: Mapping[str, Any]) -> list[str]:
    """One line for each missing, unexpected, wrong-shaped or wrong-valued tensor; empty if none.

    After 20 lines of a kind only their number is told.
    """
    entries = model.entries()
    missing = [
        f"missing: {name} {_shown(entry.shape)}"
        for name, entry in entries.items()
        if entry.required and name not in state
    ]
    unexpected = [f"unexpected: {name} {_described(state[name])}" for name in state if name not in entries]
    other = [
        f"wrong shape: {name} {_described(state[name])} in the file, {_expected(entry)} expected"
        for name, entry in entries.items()
        if name in state and _described(state[name]) != _expected(entry)
    ]
    values = [] if other else list(_wrong_values(model, state))
    return [line for lines in (missing, unexpected, other, values) for line in _cut(lines)]


def _wrong_values(model: Model, state: Mapping[str, Any]) -> Iterator[str]:
    for name, value in state.items():
        if name == MAPPING and not torch.equal(value, constant(model, name)):
            yield f"wrong values: {name} is not ESM-2's numbering of residue types"
        # Wide enough for frequencies that were stored in half precision.
        elif name.endswith(FREQUENCIES) and not torch.allclose(value, constant(model, name), 4e-3, 1e-7):
            yield f"wrong values: {name} are other rotary frequencies than ESM-2's"


def _cut(lines: list[str]) -> list[str]:
    rest = len(lines) - _SHOWN
    what = lines[0].partition(":")[0] if lines else ""
    return [*lines[:_SHOWN], *([f"{what}: {rest} more"] if rest > 0 else [])]


def _expected(entry: Entry) -> str:
    return _shown(entry.shape, entry.dtype)


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return _shown(tuple(value.shape), value.dtype)
    return f"a {type(value).__name__}"


def _shown(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> str:
    suffix = "" if dtype == torch.float32 else f" {str(dtype).removeprefix('torch.')}"
    return f"{list(shape)}{suffix}"
