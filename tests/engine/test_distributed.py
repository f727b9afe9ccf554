"""What processes compute together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.engine.checkpoint import Checkpoints
from esmgn_core.engine.distributed import SyncedBatchNorm, World, synchronize_batch_norm
from esmgn_core.engine.learner import Learner
from esmgn_core.errors import RunError
from esmgn_core.machine.device import pick_device
from esmgn_core.run_folder import RunFolder
from esmgn_core.testing import ExampleGraph, example_proteins
from esmgn_gearnet.encoder import GearNet

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
    return {"output": output.detach(), "input_grad": rows.grad, **gradients, **dict(norm.named_buffers())}


def gearnet() -> GearNet:
    torch.manual_seed(0)
    settings = GearNet.Settings(hidden_dim=8, num_layers=3)
    return GearNet(settings, input_dim=NUM_RESIDUE_FEATURES, num_relations=ExampleGraph.num_relations)


def encode(encoder: GearNet, proteins: Sequence[Protein]) -> dict[str, Tensor]:
    """What a step of GearNet computes and changes."""
    batch = ProteinBatch.from_proteins(proteins)
    features = batch.residue_one_hot.requires_grad_()
    residue = encoder(batch, ExampleGraph()(batch), features).residue
    weights = torch.sin(torch.arange(residue.shape[1]) * 0.7 + batch.residue_index.unsqueeze(1))
    (residue * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    return {
        "output": residue.detach(),
        "input_grad": features.grad,
        **gradients,
        **dict(encoder.named_buffers()),
    }


def _process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    encoder = gearnet()
    synchronize_batch_norm(encoder)
    own = example_proteins()[:2] if rank == 0 else example_proteins()[2:]
    torch.save(encode(encoder, own), Path(folder) / f"gearnet-{rank}.pt")
    module = nn.Sequential(nn.BatchNorm1d(WIDTH))
    synchronize_batch_norm(module)
    parts = [tensor.split(ROWS)[rank] for tensor in inputs()]
    torch.save(normalise(module[0], *parts), Path(folder) / f"{rank}.pt")
    (Path(folder) / f"resumed-{rank}.txt").write_text(resume_without_checkpoint(rank, Path(folder)))
    dist.destroy_process_group()


def resume_without_checkpoint(rank: int, folder: Path) -> str:
    """The error of each process when the main one finds no checkpoint."""
    checkpoints = Checkpoints(RunFolder(folder), cast("Learner", None), World(torch.device("cpu"), rank, 2))
    with pytest.raises(RunError) as caught:
        checkpoints.load()
    return str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found."""
    path = tmp_path_factory.mktemp("together")
    mp.spawn(  # type: ignore[attr-defined]  # torch does not declare it
        _process, args=(str(path),), nprocs=2
    )
    return path


def assert_same(parts: Sequence[dict[str, Tensor]], whole: dict[str, Tensor], buffers: set[str]) -> None:
    """Rows side by side, gradients of parameters summed, and buffers of either process, are the whole."""
    for name, expected in whole.items():
        if name in buffers:
            assert torch.equal(parts[0][name], parts[1][name]), name
            found = parts[0][name]
        elif name in {"output", "input_grad"}:
            found = torch.cat([part[name] for part in parts])
        else:
            found = parts[0][name] + parts[1][name]
        # A bias that a normalisation cancels has a sum of zero, of parts that are not.
        scale = max(float(part[name].abs().max()) for part in (whole, *parts))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * scale, msg=name)


def test_batch_norm_over_two_processes_equals_one_over_all_rows(folder: Path) -> None:
    """Outputs, gradients and running statistics, with unequal numbers of rows."""
    parts = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    norm = nn.BatchNorm1d(WIDTH)
    assert_same(parts, normalise(norm, *inputs()), set(dict(norm.named_buffers())))


def test_gearnet_over_two_processes_equals_one_on_all_proteins(folder: Path) -> None:
    """One process normalises, adds and rectifies in one step of its own; several share statistics.

    Outputs, gradients and running statistics are the same.
    """
    parts = [torch.load(folder / f"gearnet-{rank}.pt", weights_only=True) for rank in range(2)]
    whole = gearnet()
    assert_same(parts, encode(whole, example_proteins()), set(dict(whole.named_buffers())))


def test_processes_fail_together_when_there_is_no_checkpoint(folder: Path) -> None:
    """The main process looks for it; the others raise its error, hints included, instead of waiting."""
    main, other = ((folder / f"resumed-{rank}.txt").read_text() for rank in range(2))
    assert main == other
    assert main.splitlines() == [
        f"nothing to resume in {folder}: no checkpoint was written yet",
        f"  start it again: esmgn run {folder}/config.toml --out NEW_FOLDER",
    ]


def test_conversion_keeps_names_and_leaves_evaluation_alone() -> None:
    plain = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.ReLU())
    state = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    expected = plain.eval()(inputs()[0])
    synchronize_batch_norm(plain)
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
