"""Mistakes in ``esmgn run``: what, where, the nearest name, the next command; never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from esmgn_core.spec import Kind

from ..conftest import PluginHost
from .conftest import Esmgn

SMALL = ("--seq", "esm2_tiny", "--set", "struct.num_layers=1", "--set", "data.num_proteins=8")


def error(esmgn: Esmgn, *arguments: object) -> str:
    """Error message of a command, which ends with status 2 and prints nothing else."""
    status, out, err = esmgn("run", *arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert err.startswith("error: ")
    return err.removeprefix("error: ")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("flag", "name", "message"),
    [
        (
            "--seq",
            "esm2_650M ",
            "unknown sequence encoder 'esm2_650M ' (--seq)\n  did you mean: esm2_650m?\n",
        ),
        (
            "--struct",
            "gearnett",
            "unknown structure encoder 'gearnett' (--struct)\n  did you mean: gearnet?\n",
        ),
        ("--fuse", "series", "unknown fuser 'series' (--fuse)\n  did you mean: serial?\n"),
        ("--graph", "relation", "unknown graph builder 'relation' (--graph)\n  did you mean: relational?\n"),
        (
            "--pretext",
            "residue",
            "unknown pretext task 'residue' (--pretext)\n  did you mean: residue_type?\n",
        ),
        ("--data", "samples", "no such dataset or path: 'samples' (--data)\n  did you mean: sample?\n"),
        ("--recipe", "quick-start", "unknown recipe 'quick-start' (--recipe)\n  did you mean: quickstart?\n"),
    ],
)
def test_an_unknown_name(esmgn: Esmgn, flag: str, name: str, message: str) -> None:
    text = error(esmgn, flag, name)
    assert text.startswith(message)
    assert "\n  available: " in text
    assert text.endswith(f"\n  see: esmgn list {flag.removeprefix('--')}\n")


def test_an_unknown_name_in_a_run_file(esmgn: Esmgn) -> None:
    Path("run.toml").write_text('struct = "gearnett"')
    assert error(esmgn, "run.toml").startswith("unknown structure encoder 'gearnett' (run.toml)\n")


def test_wrong_settings_in_a_run_file(esmgn: Esmgn) -> None:
    Path("run.toml").write_text('[struct]\nname = "gearnet"\nhidden_dim = "wide"\nnum_layer = 4\n')
    assert error(esmgn, "run.toml", "--dry-run") == (
        "invalid settings for struct 'gearnet' (run.toml)\n"
        '  hidden_dim  expected an integer, got "wide"\n'
        "  num_layer   unknown setting, did you mean: num_layers?\n"
        "  see: esmgn show gearnet\n"
    )


def test_a_wrong_setting_on_the_command_line(esmgn: Esmgn) -> None:
    assert error(esmgn, "--set", "train.epoch=5") == (
        "invalid settings for train (--set)\n"
        "  epoch  unknown setting, did you mean: epochs?\n"
        "  see: esmgn show train\n"
    )


def test_a_wrong_setting_within_a_table(esmgn: Esmgn) -> None:
    text = error(esmgn, "--seq", "esm2_8m", "--set", "seq.checkpoint.ulr=x", "--dry-run")
    assert "\n  checkpoint.ulr  unknown setting, did you mean: url?\n" in text


def test_a_setting_out_of_bounds(esmgn: Esmgn) -> None:
    text = error(esmgn, *SMALL, "--set", "struct.num_layers=0", "--dry-run")
    assert text.startswith(
        "invalid settings for struct 'gearnet' (--set)\n  num_layers  expected a number >= 1, got 0"
    )


def test_a_missing_run_file(esmgn: Esmgn) -> None:
    assert error(esmgn, "run.toml") == "run file not found: run.toml\n  see: esmgn run --help\n"


def test_a_recipe_in_place_of_a_run_file(esmgn: Esmgn) -> None:
    assert (
        error(esmgn, "quickstart") == "run file not found: quickstart\n  did you mean: --recipe quickstart?\n"
    )


def test_a_run_file_that_is_no_toml(esmgn: Esmgn) -> None:
    Path("run.toml").write_text("[train\nepochs = 3")
    assert error(esmgn, "run.toml").startswith("cannot read run file run.toml: Expected ']'")


def test_resume_takes_no_other_choice(esmgn: Esmgn) -> None:
    assert error(esmgn, "config.toml", "--resume", "R", "--seq", "esm2_8m", "--dry-run") == (
        "--resume continues a run unchanged; it cannot be combined with config.toml, --seq, --dry-run\n"
        "  only --set can be combined with it, such as --set train.epochs=100\n"
    )


def test_resume_needs_a_run(esmgn: Esmgn) -> None:
    assert error(esmgn, "--resume", "R").startswith("no run in R: R/config.toml is missing (--resume)")


def test_the_run_folder_must_be_free(esmgn: Esmgn) -> None:
    Path("R").mkdir()
    Path("R/notes.txt").touch()
    text = error(esmgn, *SMALL, "--out", "R")
    assert text.startswith("R exists and is not an empty folder (--out)\n")
    assert "name another folder" in text


def test_an_empty_dataset(esmgn: Esmgn) -> None:
    Path("structures").mkdir()
    text = error(esmgn, "--seq", "esm2_tiny", "--data", "structures")
    assert "structures" in text
    assert not Path("runs").exists()


def test_weights_that_do_not_exist(esmgn: Esmgn) -> None:
    assert "no.pt" in error(esmgn, *SMALL, "--set", "seq.weights=./no.pt")
    assert not Path("runs").exists()


def test_an_unknown_device(esmgn: Esmgn) -> None:
    text = error(esmgn, *SMALL, "--set", "train.device=gpu")
    assert text.startswith("unknown device 'gpu' (train.device)\n")


def test_a_component_that_two_plugins_claim(host: PluginHost, esmgn: Esmgn) -> None:
    for plugin in ("first", "second"):
        host.install(plugin, host.component(Kind.STRUCT, "rings"))
    status, _, err = esmgn("run", "--struct", "rings", "--dry-run")
    assert status == 2
    claims = "'first' (esmgn-first) and 'second' (esmgn-second)"
    assert f"error: structure encoder 'rings' is claimed by 2 plugins: {claims}\n" in err


def test_a_dry_run_prints_a_run_file_that_gives_the_same_run(esmgn: Esmgn) -> None:
    first = esmgn("run", *SMALL, "--set", "seq.unknown_residue=G", "--set", "train.seed=3", "--dry-run")
    assert (first.status, first.err) == (0, "")
    Path("run.toml").write_text(first.out)
    assert esmgn("run", "run.toml", "--dry-run") == first
    assert not Path("runs").exists()


def test_a_dry_run_prints_the_warnings_of_the_run(esmgn: Esmgn) -> None:
    command = (*SMALL, "--set", "train.proteins_per_batch=2")
    dry = esmgn("run", *command, "--dry-run")
    assert dry.status == 0
    assert dry.err.startswith("warning: batch normalisation sees only 2 proteins at a time, fewer than 4")
    assert dry.err.splitlines()[0].removeprefix("warning: ") in esmgn("check", *command).out


def test_a_flag_switches_the_encoder_of_a_resolved_run_file_wholly(esmgn: Esmgn) -> None:
    Path("run.toml").write_text(esmgn("run", "--seq", "esm2_8m", "--dry-run").out)
    assert esmgn("run", "run.toml", "--seq", "esm2_35m", "--dry-run") == esmgn(
        "run", "--seq", "esm2_35m", "--dry-run"
    )


def test_paths_in_a_run_file_do_not_depend_on_where_the_run_starts(esmgn: Esmgn, tmp_path: Path) -> None:
    Path("structures").mkdir()
    out = esmgn("run", "--data", "structures", "--dry-run").out
    assert f'path = [\n    "{tmp_path}/structures",\n]' in out
    assert (
        esmgn("run", "--set", "data.name=folder", "--set", 'data.path=["structures"]', "--dry-run").out == out
    )


def test_python_m_esmgn_cli_is_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "esmgn_cli", "run", "--struct", "gearnett"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: unknown structure encoder 'gearnett' (--struct)\n  did you mean: gearnet?\n"
    )


@pytest.mark.parametrize("flag", ["--init", "--recipe", "--data", "--out"])
def test_resume_takes_no_other_beginning(esmgn: Esmgn, flag: str) -> None:
    assert error(esmgn, "--resume", "R", flag, "X").startswith(
        f"--resume continues a run unchanged; it cannot be combined with {flag}\n"
    )
