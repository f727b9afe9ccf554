"""Paths and settings are checked before weights are downloaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from torch import zeros

from esmgn_core.run_folder import RunFolder

from .conftest import Esmgn

PUBLISHED = ("--seq", "esm2_8m")
JOINT = (*PUBLISHED, "--struct", "gearnet", "--set", "struct.hidden_dim=8")


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights are on this machine, and every connection is an error."""
    for name in ("ESMGN_OFFLINE", "ESMGN_WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)

    def connect(*_: object, **__: object) -> None:
        raise AssertionError("connected before everything else was checked")

    monkeypatch.setattr("esmgn_core.machine.download.urlopen", connect)


def frozen_run(path: Path) -> RunFolder:
    """A finished downstream run that keeps only the name of its sequence encoder's weights."""
    path.mkdir()
    run = RunFolder(path)
    run.config.write_text(
        'seq = "esm2_8m"\nstruct = "gearnet"\nfuse = "serial"\ndownstream = "multilabel"\ndata = "csv"\n'
    )
    for file in (run.model, run.task):
        save_file({"structure.weight": zeros(1)}, file)
    run.labels.write_text(json.dumps({"task": "multilabel", "labels": ["a"]}))
    return run


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("embed", "TYPO", *PUBLISHED, "-o", "x.npz"), "no such file or directory: TYPO"),
        (("embed", "TYPO", *JOINT, "-o", "x.npz"), "no such file or directory: TYPO"),
        (("embed", "empty", *JOINT, "-o", "x.npz"), "no structure files in empty"),
        (
            ("embed", "structures", *JOINT, "-o", "taken.npz"),
            "taken.npz exists and is not the result of this job",
        ),
        (("embed", "structures", *JOINT, "-o", "a_file/x.npz"), "a_file is not a folder (--out)"),
        (("embed", "structures", "--model", "run", "--set", "struct.hidden=8", "-o", "x.npz"), "hidden"),
        (("predict", "run", "TYPO"), "no such file or directory: TYPO"),
        (("predict", "run", "structures", "-o", "none/x.csv"), "none does not exist (--out)"),
        (("mutate", "TYPO", "A1G", *PUBLISHED), "cannot read TYPO"),
        (
            ("mutate", "structures/protein0.pdb", "--all", *PUBLISHED, "-o", "none/x.csv"),
            "none does not exist",
        ),
        (
            ("mutate", "structures/protein0.pdb", "--all", *PUBLISHED, "--picture", "n/x.png"),
            "n does not exist",
        ),
        (("evaluate", "proteingym", "TYPO", *PUBLISHED), "no such folder: TYPO"),
        (("run", *JOINT, "--data", "TYPO"), "no such dataset or path: 'TYPO' (--data)"),
        (
            ("run", *JOINT, "--set", "data.name=folder", "--set", "data.path=TYPO"),
            "no such file or directory",
        ),
        (("run", *JOINT, "--data", "structures", "--init", "TYPO"), "no encoder in TYPO"),
        (("run", *JOINT, "--data", "structures", "--out", "structures"), "structures"),
        (("run", *JOINT, "--data", "structures", "--downstream", "ec"), "needs labels"),
        (("run", "--resume", "TYPO"), "TYPO"),
        (("run", "TYPO.toml"), "run file not found: TYPO.toml"),
        (("check", *JOINT, "--data", "TYPO"), "no such dataset or path: 'TYPO' (--data)"),
        (("weights", "verify", "esm2_8m", "--golden", "TYPO"), "no such file: TYPO (--golden)"),
        (("weights", "import", "TYPO.pth", "-o", "new"), "file not found: TYPO.pth"),
        (("weights", "export", "TYPO", "-o", "new.pth"), "no encoder in TYPO"),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("folder")
def test_nothing_is_downloaded_for_a_command_that_cannot_work(
    esmgn: Esmgn, tmp_path: Path, command: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a_file").touch()
    (tmp_path / "taken.npz").touch()
    frozen_run(tmp_path / "run")
    done = esmgn(*command)
    assert done.status == 2
    assert reason in done.err + done.out


def test_a_query_is_read_before_the_model_of_the_file(esmgn: Esmgn, folder: Path, tmp_path: Path) -> None:
    """The file of embeddings names a model whose weights are gone."""
    from esmgn_core.inference.embed import search as neighbors
    from esmgn_core.inference.embed.files import read_proteins

    out = tmp_path / "out.npz"
    tiny = ("--seq", "esm2_tiny", "--devices", "cpu")
    assert esmgn("embed", folder, "-o", out, *tiny, "--level", "protein").status == 0
    table = read_proteins(out)
    gone: dict[str, Any] = {"folder": None, "names": {"seq": "esm2_8m"}, "changes": []}
    patched = replace(table, metadata={**table.metadata, "model": gone})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "read_proteins", lambda _: patched)
        (tmp_path / "bad.pdb").write_text("")
        assert "cannot read bad.pdb" in esmgn("neighbors", "bad.pdb", "--in", out).err
        assert "structures" in esmgn("neighbors", "structures", "--in", out).err


LONG = "x" * 300
EMBEDDED = Path(__file__).parents[1] / "fixtures" / "esmgn-0.1.0" / "embedded.npz"


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", LONG, "--seq", "esm2_tiny", "--out", "x.npz"),
        ("run", "--data", LONG, "--dry-run"),
        ("run", "--init", LONG, "--dry-run"),
        ("run", LONG),
        ("predict", LONG, "x.pdb"),
        ("neighbors", LONG, "--in", EMBEDDED),
        ("report", LONG),
        ("runs", "--in", LONG),
        ("evaluate", "proteingym", LONG, "--seq", "esm2_tiny"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_path_that_is_too_long_is_an_error(arguments: tuple[object, ...], esmgn: Esmgn) -> None:
    done = esmgn(*arguments)
    assert done.status == 2
    assert "File name too long" in done.err
    assert "Traceback" not in done.err
