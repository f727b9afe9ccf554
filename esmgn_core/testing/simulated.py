"""A simulated CUDA device that computes on the CPU and finds tensors on the wrong device.

Its tensors report the device ``cuda:0``. As on a GPU, operations that mix them with CPU tensors fail, and so
does conversion to NumPy. Kernels, rounding, memory and autocast of GPUs are not simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from esmgn_core.testing.claims import Claims, snapshot

CUDA = torch.device("cuda", 0)

_aten = torch.ops.aten
_BETWEEN_DEVICES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}
"""Operations that accept indices on either device."""


class DeviceMismatchError(RuntimeError):
    """An operation got tensors of both devices."""


class OnDevice(Tensor):
    """A tensor on the simulated device; ``content`` has its values."""

    content: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Self:
        """Make a tensor with the shape and type of a CPU tensor."""
        made: Self = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("meta"),  # PyTorch must not access its memory or initialise CUDA
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
        """True, as for a real GPU tensor."""
        return True

    @property
    def is_meta(self) -> bool:  # type: ignore[override]  # torch declares it in another way
        """False, although the wrapper is a meta tensor."""
        return False

    def tolist(self) -> Any:
        """The values; PyTorch has no such method for subclasses."""
        return self.content.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Save as a CPU tensor; real GPU tensors are loaded as such on machines without a GPU."""
        return self.content.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]  # untyped in torch

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # torch declares it in another way
        return f"OnDevice({self.content})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # PyTorch's own stub lacks an argument
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Intercepts also calls without tensor arguments, such as ``torch.zeros``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def simulated_cuda() -> Iterator[torch.device]:
    """Simulate the device ``cuda:0`` inside the block."""
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
    """Require that a run on the simulated device mixes no devices, and that its result is on that device.

    After any other error the claim is not judged.
    """
    try:
        with simulated_cuda() as device:
            result = snapshot(run(device))
    except DeviceMismatchError as error:
        claims.require(False, f"would fail on a GPU: {error}")
    except Exception as error:  # noqa: BLE001 - such as a kernel that only a GPU has
        claims.not_judged.append(f"the simulated GPU stopped at {type(error).__name__}: {error}")
    else:
        for name, value in result.items():
            if isinstance(value, Tensor):
                claims.require(value.device == CUDA, f"{name} of a batch on {CUDA} is on {value.device}")


def moved_to_cuda(module: nn.Module) -> nn.Module:
    """Move parameters and buffers of a module to the simulated device, in place."""
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
    on_device = bool(own)
    if (device := kwargs.get("device")) is not None:
        on_device = torch.device(device).type != "cpu"
        kwargs = kwargs | {"device": "cpu"}
    elif func in _INDEXING or func is _aten.copy_.default:
        on_device = isinstance(args[0], OnDevice)
    args, kwargs = tree_map_only(OnDevice, lambda tensor: tensor.content, (args, kwargs))
    result = func(*args, **kwargs)
    if not on_device:
        return result
    changed = {id(tensor.content): tensor for tensor in own}  # in-place operations return their input
    return tree_map_only(Tensor, lambda tensor: _wrapped(tensor, changed), result)


def _wrapped(inner: Tensor, known: dict[int, OnDevice]) -> OnDevice:
    if id(inner) in known:
        return known[id(inner)]
    return OnDevice(inner.resolve_conj())  # the wrapper has no conjugate bit


def _check(func: Any, own: list[OnDevice], arguments: Any) -> None:
    """Refuse CPU tensors beside simulated ones; CPU scalars are allowed, as on a GPU."""
    others = [
        leaf
        for leaf in tree_leaves(arguments)
        if isinstance(leaf, Tensor) and not isinstance(leaf, OnDevice) and leaf.dim()
    ]
    if own and others and func not in _BETWEEN_DEVICES:
        shapes = [tuple(tensor.shape) for tensor in others]
        raise DeviceMismatchError(f"{func} gets tensors on cuda:0, and {shapes} on the CPU")
