"""A plugin of every kind, as ``esmgn plugin new`` writes it: built, installed together, used, removed."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
from pathlib import Path

import pytest

from esmgn_core.spec import Kind

from .conftest import run_here

pytestmark = pytest.mark.slow

PACKAGES = [f"esmgn-new-{kind}" for kind in Kind]


@pytest.fixture(scope="module")
def projects(tmp_path_factory) -> Path:
    """The folder of the projects."""
    return tmp_path_factory.mktemp("projects")


@pytest.fixture(scope="module")
def printed(installed, projects) -> dict[Kind, str]:
    """What the installed program prints when it writes the project of each kind."""
    command = ["esmgn", "plugin", "new"]
    return {
        kind: installed.run(*command, f"new_{kind}", "--kind", kind, "--dir", projects).stdout
        for kind in Kind
    }


@pytest.fixture(scope="module")
def environment(installed, projects, printed):  # noqa: ARG001 - writes the projects
    """The environment with all of them, installed from their folders."""
    installed.install(*(projects / package for package in PACKAGES))
    yield installed
    installed.pip("uninstall", "--yes", *PACKAGES)


def test_all_are_in_use_beside_each_other(environment):
    listed = environment.run("esmgn", "plugins").stdout
    for kind in Kind:
        row = rf"^new_{kind} +esmgn-new-{kind} 0\.1\.0 +in use +{kind}:new_{kind}$"
        assert re.search(row, listed, re.MULTILINE)


def test_all_pass_their_own_tests(environment, projects):
    options = ["-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", projects, "-W", "error"]
    done = environment.run("python", "-P", "-m", "pytest", "-q", *options, projects)
    assert re.search(r"^\d+ passed", done.stdout.splitlines()[-1])


def test_all_pass_mypy(environment, tmp_path):
    names = [argument for kind in Kind for argument in ("-p", f"esmgn_new_{kind}")]
    options = ["--strict", "--cache-dir", tmp_path, "--python-executable", environment.python]
    run_here("mypy", *options, *names, scratch=tmp_path)


@pytest.mark.parametrize("kind", Kind)
def test_the_printed_commands_work_as_typed(environment, projects, printed, kind):
    typed = [line.strip() for line in printed[kind].splitlines() if line.startswith("  esmgn ")]
    assert len(typed) == 2
    for command in typed:
        if command.startswith("esmgn plugin check") and kind is not Kind.FORMAT:
            continue  # its own tests have the same claims; the fastest is enough for the command
        # Fewer of the made-up proteins, to save time.
        fewer = ["--set", "data.num_proteins=8"] if "--data sample" in command else []
        environment.run(*shlex.split(command), *fewer, folder=projects / f"esmgn-new-{kind}")


@pytest.fixture(scope="module")
def run(environment, projects) -> Path:
    """A run of two steps with seven of them."""
    out = projects / "run"
    train(
        environment,
        out,
        *("--seq", "new_seq", "--struct", "new_struct", "--fuse", "new_fuse", "--graph", "new_graph"),
        *("--pretext", "new_pretext", "--data", "new_data"),
        *("--set", f"data.table={projects / 'esmgn-new-data' / 'example' / 'labels.csv'}"),
        *("--set", 'train.trackers=["new_tracker"]'),
    )
    return out


def train(environment, out: Path, *arguments: object) -> None:
    """Train two steps; the losses are numbers."""
    small = ["--set", "train.max_steps=2", "--set", "train.proteins_per_batch=2"]
    environment.run("esmgn", "run", *map(str, arguments), *small, "--out", out)
    losses = [json.loads(line).get("loss") for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)


def test_seven_of_them_make_a_run(run):
    config = (run / "config.toml").read_text()
    for kind in ("seq", "struct", "fuse", "graph", "pretext", "data"):
        assert f'name = "new_{kind}"' in config


def test_the_tracker_has_the_metrics_of_the_run(run):
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    with (run / "new_tracker.csv").open(newline="") as lines:
        rows = {(int(row["step"]), row["name"]): float(row["value"]) for row in csv.DictReader(lines)}
    for line in logged:
        if "loss" in line:
            assert rows[line["step"], "loss"] == line["loss"]


def test_the_downstream_task_learns_the_labels_of_the_dataset(run, environment, projects):
    out = projects / "tuned"
    data = projects / "esmgn-new-data" / "example" / "labels.csv"
    parts = ["--init", run, "--downstream", "new_downstream", "--data", "new_data"]
    train(environment, out, *parts, "--set", f"data.table={data}")
    assert 'name = "new_downstream"' in (out / "config.toml").read_text()


def test_files_of_the_format_are_embedded(run, environment, projects):
    file = projects / "esmgn-new-format" / "example" / "peptide.new_format"
    out = projects / "vectors.npz"
    done = environment.run("esmgn", "embed", file, "--model", run, "--out", out)
    assert out.exists(), done.stderr


def test_nothing_is_left_after_uninstalling(environment):
    files = {path for path in environment.site_packages.iterdir() if "new_" in path.name}
    assert len(files) == 2 * len(PACKAGES)
    environment.pip("uninstall", "--yes", *PACKAGES)
    assert [path for path in files if path.exists()] == []
    assert "new_" not in environment.run("esmgn", "plugins").stdout
