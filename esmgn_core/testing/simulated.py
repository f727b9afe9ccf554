"""A CUDA device that computes on the CPU, and refuses what a real one refuses.

Its tensors say that they are on ``cuda:0``. As on a GPU, an operation that mixes them with tensors of the
CPU fails, and so does reading them as NumPy arrays. What only a GPU has (its kernels, its rounding, its
memory, autocast) is not simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from esmgn_core.testing.claims import Claims

CUDA = torch.device("cuda", 0)

_aten = torch.ops.aten
_BETWEEN_DEVICES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}
"""Take indices of either device."""


class DeviceMismatchError(RuntimeError):
    """An operation was given tensors of both devices."""


class OnDevice(Tensor):
    """A tensor of the simulated device; ``content`` holds its values."""

    content: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Self:
        """Of the shape and type of a tensor of the CPU."""
        made: Self = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("meta"),  # PyTorch's own code must not touch its memory, nor ask for CUDA
        )
        return made

    def __init__(self, inner: Tensor) -> None:
        self.content = inner

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # read only for tensors too
        """The simulated device."""
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]  # torch declares it in another way
        """Yes."""
        return True

    @property
    def is_meta(self) -> bool:  # type: ignore[override]  # torch declares it in another way
        """No."""
        return False

    def tolist(self) -> Any:
        """The values; PyTorch has no such method for subclasses."""
        return self.content.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved as a tensor of the CPU, as which real ones are loaded without a GPU."""
        return self.content.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]  # untyped in torch

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # torch declares it in another way
        return f"OnDevice({self.content})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # PyTorch's own stub lacks an argument
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Sees also the calls that make tensors from none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def simulated_cuda() -> Iterator[torch.device]:
    """Inside, ``cuda:0`` is there."""
    initialize = torch.cuda._lazy_init
    torch.cuda._lazy_init = lambda: None
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Factories():  # type: ignore[no-untyped-call]  # the library does not annotate it
            yield CUDA
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.cuda._lazy_init = initialize


def keeps_to_its_device(claims: Claims, run: Callable[[torch.device], object]) -> None:
    """A run on the simulated device mixes no tensors of both; nothing else about it is judged."""
    try:
        with simulated_cuda() as device:
            run(device)
    except DeviceMismatchError as error:
        claims.hold(False, f"would fail on a GPU: {error}")
    except Exception:  # noqa: BLE001 - such as a kernel that only a GPU has
        return


def moved_to_cuda(module: nn.Module) -> nn.Module:
    """The module, its parameters and buffers now on the simulated device."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                learns = parameter.requires_grad
                part._parameters[name] = nn.Parameter(OnDevice(parameter.data), requires_grad=learns)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = OnDevice(buffer)
    return module


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    own = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, OnDevice)]
    _check(func, own, (args[0], *args[2:]) if func in _INDEXING else (args, kwargs))
    result_is_own = bool(own)
    if (device := kwargs.get("device")) is not None:
        result_is_own = torch.device(device).type != "cpu"
        kwargs = kwargs | {"device": "cpu"}
    elif func in _INDEXING or func is _aten.copy_.default:
        result_is_own = isinstance(args[0], OnDevice)
    args, kwargs = tree_map_only(OnDevice, lambda tensor: tensor.content, (args, kwargs))
    result = func(*args, **kwargs)
    if not result_is_own:
        return result
    changed = {id(tensor.content): tensor for tensor in own}  # operations in place return their input
    return tree_map_only(Tensor, lambda tensor: _wrapped(tensor, changed), result)


def _wrapped(inner: Tensor, known: dict[int, OnDevice]) -> OnDevice:
    if id(inner) in known:
        return known[id(inner)]
    return OnDevice(inner.resolve_conj())  # the wrapper does not say that it is conjugated


def _check(func: Any, own: list[OnDevice], arguments: Any) -> None:
    """Numbers, tensors without dimensions, may be of the CPU."""
    others = [
        leaf
        for leaf in tree_leaves(arguments)
        if isinstance(leaf, Tensor) and not isinstance(leaf, OnDevice) and leaf.dim()
    ]
    if own and others and func not in _BETWEEN_DEVICES:
        shapes = [tuple(tensor.shape) for tensor in others]
        raise DeviceMismatchError(f"{func} takes tensors of cuda:0, but also {shapes} of the CPU")
