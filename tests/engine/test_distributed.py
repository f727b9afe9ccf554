"""What processes compute together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from esmgn_core.engine.distributed import SyncedBatchNorm, pick_device, synchronise_batch_norm
from esmgn_core.errors import RunError

ROWS = (5, 12)
WIDTH = 3


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(sum(ROWS), WIDTH, generator=generator, dtype=torch.float64).float() * 3 + 1
    return rows, torch.randn(sum(ROWS), WIDTH, generator=generator)


def normalise(norm: nn.Module, rows: Tensor, weights: Tensor) -> dict[str, Tensor]:
    rows = rows.clone().requires_grad_()
    output = norm(rows)
    (output * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in norm.named_parameters()}
    return {"output": output.detach(), "input_grad": rows.grad, **gradients, **dict(norm.named_buffers())}  # type: ignore[dict-item]


def _process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    module = nn.Sequential(nn.BatchNorm1d(WIDTH))
    synchronise_batch_norm(module)
    parts = [tensor.split(ROWS)[rank] for tensor in inputs()]
    torch.save(normalise(module[0], *parts), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_batch_norm_over_two_processes_equals_one_over_all_rows(tmp_path: Path) -> None:
    """Outputs, gradients and running statistics, with unequal numbers of rows."""
    mp.spawn(_process, args=(str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    whole = normalise(nn.BatchNorm1d(WIDTH), *inputs())
    for name in ("output", "input_grad"):
        torch.testing.assert_close(
            torch.cat([part[name] for part in parts]), whole[name], rtol=1e-5, atol=1e-5
        )
    for name in ("weight", "bias"):
        torch.testing.assert_close(parts[0][name] + parts[1][name], whole[name], rtol=1e-5, atol=1e-5)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(parts[0][name], whole[name], rtol=1e-6, atol=1e-6)
        assert torch.equal(parts[0][name], parts[1][name])


def test_conversion_keeps_names_and_leaves_evaluation_alone() -> None:
    plain = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.ReLU())
    state = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    expected = plain.eval()(inputs()[0])
    synchronise_batch_norm(plain)
    assert isinstance(plain[0], SyncedBatchNorm)
    assert plain.state_dict().keys() == state.keys()
    assert torch.equal(plain(inputs()[0]), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "unknown device 'gpu'"),
        ("mps", "device 'mps' (train.device) is not supported"),
        ("cuda:99", "device cuda:99 (train.device) is not available"),
    ],
)
def test_a_device_that_cannot_be_used(name: str, message: str) -> None:
    with pytest.raises(RunError) as caught:
        pick_device(name)
    assert message in str(caught.value)
