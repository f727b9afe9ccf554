"""Claims about a component, comparison of tensors, and checks of inputs and gradients."""

from __future__ import annotations

import dataclasses
import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from esmgn_core.errors import EsmgnError

Value = TypeVar("Value")

_NUDGE = 0.02
_THREADS_TOLERANCE = 1e-5


Status = Literal["pass", "fail", "not judged"]


class Outcome(NamedTuple):
    """The outcome of a claim.

    Attributes:
        about: kind and name of the component, or name of the plugin.
        claim: the claim, one sentence.
        status: ``pass``, ``fail`` or ``not judged``.
        message: why it failed or was not judged; empty if it passed.
    """

    about: str
    claim: str
    status: Status
    message: str = ""


class Claims:
    """Claims about one component.

    Args:
        about: kind and name of the component, the beginning of every message.
        stop: raise the first failure. Otherwise all claims are checked, and failures recorded.

    Attributes:
        not_judged: claims that could not be judged, each with the reason.
        outcomes: outcome of each claim so far.
    """

    def __init__(self, about: str, *, stop: bool = True) -> None:
        self.about = about
        self.stop = stop
        self.not_judged: list[str] = []
        self.outcomes: list[Outcome] = []

    def require(self, condition: bool, otherwise: str) -> None:
        """Raise an ``AssertionError`` with the message ``otherwise`` unless the condition is true."""
        __tracebackhide__ = True
        if not condition:
            raise AssertionError(f"{self.about}: {otherwise}")

    def require_positive(self, name: str, value: object) -> None:
        """Require a positive integer."""
        fits = isinstance(value, int) and not isinstance(value, bool) and value > 0
        self.require(fits, f"{name} is {value!r}, expected a positive integer")

    def require_close(self, what: str, actual: Tensor, expected: Tensor, tolerance: float) -> None:
        """Require values that agree to ``tolerance`` of the largest one; ``what`` must not change them."""
        difference = relative_difference(actual, expected)
        self.require(difference <= tolerance, f"{what} by {difference:.1e} of their size")

    def check(self, checks: Iterable[Callable[[Value], None]], subject: Value) -> None:
        """Run checks in turn. The claim is added as a note to any error of the component."""
        __tracebackhide__ = True
        for check in checks:
            self.judge((check.__doc__ or check.__name__).strip(), partial(check, subject))

    def judge(self, claim: str, check: Callable[[], object]) -> None:
        """Run one check, and record or raise its outcome. Any error is a failure."""
        __tracebackhide__ = True
        before = len(self.not_judged)
        try:
            check()
        except (Exception, SystemExit) as error:
            if self.stop:
                error.add_note(f"{self.about} was checked for: {claim}")
                raise
            self.outcomes.append(Outcome(self.about, claim, "fail", failure_text(error, self.about)))
            return
        reasons = "; ".join(self.not_judged[before:])
        self.outcomes.append(Outcome(self.about, claim, "not judged" if reasons else "pass", reasons))

    def unchanged(self, call: Callable[[], Value], **inputs: object) -> Value:
        """Return the result of ``call``; require that every tensor of ``inputs`` stays bit-identical."""
        before = snapshot(inputs)
        result = call()
        changed = differences(before, snapshot(inputs))
        self.require(not changed, f"changes its input in place: {', '.join(changed)}")
        return result


def failure_text(error: BaseException, about: str) -> str:
    """The message of a failed claim; of an error of the component also its type and line."""
    if isinstance(error, AssertionError | EsmgnError):
        return str(error).removeprefix(f"{about}: ")
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if "esmgn_core" not in frame.filename and "site-packages" not in frame.filename
    ]
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{where}"


def snapshot(value: object, name: str = "") -> dict[str, object]:
    """All tensors (copied) and other values in a nested value, by dotted name."""
    if isinstance(value, Tensor):
        return {name: value.detach().clone()}
    if isinstance(value, nn.Module):
        return snapshot(value.state_dict(), name)
    parts = _parts(value)
    if parts is None:
        return {name: value}
    values: dict[str, object] = {}
    for key, part in parts.items():
        values |= snapshot(part, f"{name}.{key}" if name else str(key))
    return values


def _parts(value: object) -> Mapping[str, object] | None:
    if dataclasses.is_dataclass(value):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return {str(number): part for number, part in enumerate(value)}
    return None


def differences(first: Mapping[str, object], second: Mapping[str, object]) -> list[str]:
    """Names of the values that differ between two snapshots, in any bit (NaN equals NaN)."""
    names = [*first, *(name for name in second if name not in first)]
    return [name for name in names if not _same(first.get(name), second.get(name))]


def _same(first: object, second: object) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        return bool(((first == second) | ((first != first) & (second != second))).all())
    return type(first) is type(second) and bool(first == second or (first != first and second != second))


def in_threads(call: Callable[[Value], dict[str, object]], inputs: Sequence[Value]) -> bool:
    """True if calls from 8 threads at once return the same results as calls one after another.

    Tensors are compared to 1e-5 of their largest value.
    """
    expected = [call(value) for value in inputs]

    def call_with_switches(value: Value) -> dict[str, object]:
        with _SwitchesThreads():
            return call(value)

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(call_with_switches, inputs))
    return all(
        _close(actual[name], value)
        for actual, wanted in zip(results, expected, strict=True)
        for name, value in wanted.items()
    )


class _SwitchesThreads(TorchFunctionMode):
    """Lets another thread run after every call of torch, so that calls of a component overlap."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        time.sleep(0)
        return result


def _close(actual: object, expected: object) -> bool:
    if isinstance(actual, Tensor) and isinstance(expected, Tensor):
        return relative_difference(actual, expected) <= _THREADS_TOLERANCE
    return _same(actual, expected)


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """Largest difference, divided by the largest expected value; infinite if one is NaN."""
    if actual.shape != expected.shape:
        return math.inf
    if not expected.numel():
        return 0.0
    difference = float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    return math.inf if math.isnan(difference) else difference


@torch.no_grad()
def nudge(module: nn.Module) -> None:
    """Change every trainable parameter a little, because initial zeros could hide errors."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.add_(_NUDGE * torch.randn(parameter.shape, generator=generator))


def gradients_reach_parameters(claims: Claims, module: nn.Module, loss: Tensor) -> None:
    """Every trainable parameter of ``module`` has a finite gradient of ``loss``."""
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    if not names:
        return
    claims.require(loss.requires_grad, "its loss carries no gradient")
    module.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
    gradients = {name: module.get_parameter(name).grad for name in names}
    missing = [name for name, gradient in gradients.items() if gradient is None]
    claims.require(not missing, f"no gradient reaches: {', '.join(missing)}")
    infinite = [
        name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()
    ]
    claims.require(not infinite, f"the gradient is not finite at: {', '.join(infinite)}")


def state_dict_carries_over(
    claims: Claims, module: nn.Module, build: Callable[[], nn.Module], call: Callable[[nn.Module], object]
) -> None:
    """A new instance with the state dict of ``module`` gives bit-identical results in eval mode."""
    odd = [name for name, value in module.state_dict().items() if not isinstance(value, Tensor)]
    claims.require(not odd, f"values of its state dict are not tensors: {', '.join(odd)}")
    torch.manual_seed(41)
    other = build().eval()
    other.load_state_dict({name: value.clone() for name, value in module.state_dict().items()})
    lost = differences(snapshot(call(module)), snapshot(call(other)))
    claims.require(not lost, "a new instance with its state dict gives other results: a state is not saved")
