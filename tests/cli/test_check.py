"""``esmgn check``: every recipe, the flags of ``esmgn run``, memory, and data nobody named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from esmgn_core.host.registry import discover

from .conftest import Esmgn

RECIPES = sorted(discover().catalogue.recipes)
WITHOUT_DATA = [name for name in RECIPES if "data" not in discover().catalogue.recipes[name].run]
SMALL = ("--seq", "esm2_tiny", "--set", "struct.hidden_dim=16", "--set", "struct.num_layers=2")


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither weights nor data sets are on this machine, and every connection is an error."""
    for name in ("ESMGN_OFFLINE", "ESMGN_WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("esmgn_core.machine.download.urlopen", lambda *_, **__: pytest.fail("connected"))


def line(text: str, name: str) -> str:
    """The line of one check."""
    [found] = [item for item in text.splitlines() if f" {name}: " in item]
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_checked_to_its_end(esmgn: Esmgn, recipe: str) -> None:
    """A small model in place of the recipe's, so that the test is fast."""
    chosen = discover().catalogue.recipes[recipe].run.get("fuse", {"name": "serial"})["name"]
    small = (
        {"sequence": SMALL[:2], "inject": SMALL[:2], "structure": SMALL[2:]}.get(chosen, SMALL)
        if recipe != "fold"
        else ()
    )
    done = esmgn("check", "--recipe", recipe, *small, "--set", "train.proteins_per_batch=4")
    assert "Traceback" not in done.out + done.err
    assert line(done.out, "model").startswith("ok ")
    assert done.status in (0, 2)
    if recipe == "quickstart":
        assert done.status == 0
    elif "pretext" in discover().catalogue.recipes[recipe].run:
        assert f"problem  recipe '{recipe}' names no data" in done.out
    else:
        assert re.search(r"^(problem|warning)  ", done.out, re.MULTILINE)


def test_a_data_set_that_would_be_downloaded_is_not_downloaded_by_a_check(esmgn: Esmgn) -> None:
    done = esmgn("check", "--recipe", "ec", *SMALL)
    assert "warning  data: 'ec' is not on this machine, the run will download it first" in done.out


@pytest.mark.parametrize("recipe", WITHOUT_DATA)
@pytest.mark.parametrize("more", [(), ("--slurm", "--out", "run"), ("--processes", "2"), ("--dry-run",)])
def test_a_recipe_without_data_does_not_train_on_made_up_proteins(
    esmgn: Esmgn, recipe: str, more: tuple[str, ...]
) -> None:
    done = esmgn("run", "--recipe", recipe, *more)
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"error: recipe '{recipe}' names no data",
        f"  name a folder of structures: esmgn run --recipe {recipe} --data FOLDER_OF_STRUCTURES",
        f"  or try it on made-up proteins: esmgn run --recipe {recipe} --data sample",
    ]


def test_data_may_be_named_anywhere(esmgn: Esmgn, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "run.toml").write_text(f'[data]\nname = "folder"\npath = ["{folder}"]\n')
    base = ("run", "--recipe", "residue_type", *SMALL, "--dry-run")
    for named in (("--data", folder), ("--data", "sample"), ("run.toml",), ("--set", "data.name=sample")):
        assert esmgn(*base, *named).status == 0
    job = esmgn("run", "--recipe", "residue_type", "--slurm", "--out", "run", "--data", "on/the/cluster")
    assert job.status == 0


def test_the_first_line_of_a_plain_run_warns_of_made_up_data(esmgn: Esmgn, tmp_path: Path) -> None:
    sets = ("--set", "data.num_proteins=10", "--set", "data.max_length=36", "--set", "train.max_steps=1")
    done = esmgn("run", *SMALL, *sets, "--out", tmp_path / "run")
    assert done.status == 0
    assert done.err.splitlines()[0].startswith("data: made-up proteins ('sample')")
    assert "made-up proteins ('sample')" in line(esmgn("check", *SMALL).out, "data")


def test_composition_flags_are_those_of_run(esmgn: Esmgn, folder: Path) -> None:
    flags = ("--struct", "gearnet", "--fuse", "parallel", "--graph", "relational", "--pretext", "distance")
    done = esmgn("check", *SMALL, *flags, "--data", folder)
    assert done.status == 0, done.out
    assert "representation of 64" in line(done.out, "model")


def test_memory_has_one_status_and_counts_processes(esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch) -> None:
    base = ("check", *SMALL, "--set", "data.num_proteins=12", "--set", "train.device=cpu")
    one, two = (line(esmgn(*base, *more).out, "memory") for more in ((), ("--processes", "2")))
    assert one.startswith("ok ")
    assert "for each of 2 processes" in two
    assert "GB together" in two
    monkeypatch.setattr("esmgn_core.engine.check.free_memory_of", lambda _: 1000)
    assert line(esmgn(*base).out, "memory").startswith("warning ")


def test_gpus_that_are_not_here_are_a_problem_unless_the_run_is_a_job(
    esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    base = ("check", *SMALL, "--set", "data.num_proteins=30", "--gpus", "4")
    here = esmgn(*base)
    assert here.status == 2
    assert "problem  --gpus 4: this machine has 0 CUDA devices" in here.out
    job = esmgn(*base, "--slurm")
    assert job.status == 0, job.out
    assert "on each of 4 GPUs (bfloat16" in line(job.out, "memory")
    assert line(job.out, "memory").endswith("fits an A100 of 40 GB and of 80 GB")


@pytest.mark.parametrize(
    ("sets", "verdict"),
    [
        (("optim.seq_lr_scale=0",), "fits an A100 of 40 GB and of 80 GB"),
        (("train.precision=fp32",), "does not fit an A100 of 40 GB, fits one of 80 GB"),
    ],
)
def test_the_published_batch_of_650m_is_compared_with_an_a100(
    esmgn: Esmgn, sets: tuple[str, ...], verdict: str
) -> None:
    """96 crops of 100 residues, ESM-2 650M frozen or trained; only two of its 33 blocks are run."""
    flags = [flag for text in sets for flag in ("--set", text)]
    data = ("--set", "data.name=sample", "--set", "data.min_length=100", "--set", "data.num_proteins=400")
    trained = ("--set", "optim.seq_lr_scale=0.1")
    done = esmgn("check", "--recipe", "residue_type", *trained, *data, *flags, "--gpus", "1", "--slurm")
    assert line(done.out, "memory").endswith(verdict)
