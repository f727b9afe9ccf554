"""A stranger's plugin, installed beside esmgn, is as good as a shipped one; a broken one harms nobody."""

from __future__ import annotations

import json
import math
import re
import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "examples"
EXAMPLES = {
    "esmgn-egnn": "struct:egnn",
    "esmgn-sqlite": "tracker:sqlite",
    "esmgn-tokenlm": "seq:tokenlm",
    "esmgn-torsion": "pretext:torsion",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def examples(installed, build_wheel, tmp_path_factory):
    """The environment with the example plugins, built as wheels and installed beside esmgn."""
    scratch = tmp_path_factory.mktemp("examples")
    for name in EXAMPLES:
        folder = scratch / name
        shutil.copytree(FOLDER / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
        wheels = scratch / f"wheel-{name}"
        wheels.mkdir()
        installed.install(build_wheel(folder, wheels))
    yield installed
    installed.pip("uninstall", "--yes", *EXAMPLES)


def test_the_components_of_the_examples_are_listed(examples):
    plugins = examples.run("esmgn", "plugins").stdout
    for name, component in EXAMPLES.items():
        row = rf"^{name.removeprefix('esmgn-')} +{name} 0\.1\.0 +in use +{component}$"
        assert re.search(row, plugins, re.MULTILINE)
    listed = examples.run("esmgn", "list", "struct").stdout
    assert re.search(r"^ +egnn +plugin egnn +Equivariant messages on CA atoms$", listed, re.MULTILINE)


def test_the_examples_pass_their_own_tests(examples, tmp_path):
    for name in EXAMPLES:
        shutil.copytree(
            FOLDER / name / "tests", tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    options = ["-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", tmp_path]
    done = examples.run("python", "-P", "-m", "pytest", "-q", "-W", "error", *options, tmp_path)
    assert "9 passed" in done.stdout


def test_the_examples_are_trained_together(examples, tmp_path):
    run = tmp_path / "run"
    parts = [
        "--seq",
        "tokenlm",
        "--struct",
        "egnn",
        "--fuse",
        "serial",
        "--pretext",
        "torsion",
        "--data",
        "sample",
    ]
    settings = [
        *("struct.hidden_dim=8", "data.num_proteins=8", "train.proteins_per_batch=2", "train.max_steps=2"),
        'train.trackers=["sqlite"]',
    ]
    changes = [text for setting in settings for text in ("--set", setting)]
    examples.run("esmgn", "run", *parts, *changes, "--out", run)
    losses = [json.loads(line).get("loss") for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    with closing(sqlite3.connect(tmp_path / "runs.sqlite")) as database:
        rows = list(database.execute("SELECT value FROM metrics WHERE name = 'loss' ORDER BY step"))
    assert [value for (value,) in rows] == pytest.approx(losses)


def test_a_shipped_plugin_is_a_template(installed, tmp_path):
    """Copied, renamed and installed, it is listed beside the original, passes the kit, and can go again."""
    folder = renamed_copy(ROOT / "plugins" / "fusion", tmp_path / "mine", old="fusion", new="mine")
    installed.install(folder)
    try:
        listed = installed.run("esmgn", "list", "fuse").stdout
        assert re.search(r"^ +serial +plugin fusion ", listed, re.MULTILINE)
        assert re.search(r"^ +my_serial +plugin mine ", listed, re.MULTILINE)
        check = "from esmgn_core.testing import check_component; check_component('fuse', 'my_serial')"
        installed.run("python", "-W", "error", "-c", check)
    finally:
        installed.pip("uninstall", "--yes", "esmgn-mine")
    assert "my_serial" not in installed.run("esmgn", "list", "fuse").stdout


def renamed_copy(original: Path, copy: Path, *, old: str, new: str) -> Path:
    """A plugin's folder under another name, its components called ``my_...``."""
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    (copy / f"esmgn_{old}").rename(copy / f"esmgn_{new}")
    project = copy / "pyproject.toml"
    project.write_text(project.read_text().replace(old, new))
    for module in copy.rglob("*.py"):
        module.write_text(module.read_text().replace(f"esmgn_{old}", f"esmgn_{new}"))
    hooks = copy / f"esmgn_{new}" / "__init__.py"
    hooks.write_text(re.sub(r'(Kind\.\w+,\s*")', r"\1my_", hooks.read_text()))
    return copy


@contextmanager
def broken_plugin(environment):
    """A plugin that raises when it is imported."""
    module = environment.site_packages / "esmgn_broken.py"
    metadata = environment.site_packages / "esmgn_broken-3.1.dist-info"
    metadata.mkdir()
    try:
        module.write_text('raise RuntimeError("closed on Sundays")\n')
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: esmgn-broken\nVersion: 3.1\n")
        (metadata / "entry_points.txt").write_text("[esmgn]\nbroken = esmgn_broken\n")
        yield
    finally:
        shutil.rmtree(metadata)
        module.unlink()


def test_a_broken_plugin_is_named_with_its_reason_and_the_others_work_on(installed):
    reason = "RuntimeError: closed on Sundays"
    with broken_plugin(installed):
        shown = installed.run("esmgn", "plugins").stdout
        assert re.search(rf"^broken +esmgn-broken 3\.1 +broken +{reason}$", shown, re.MULTILINE)
        assert re.search(r"^gearnet .* in use ", shown, re.MULTILINE)
        assert "gearnet" in installed.run("esmgn", "list", "struct").stdout
        strict = installed.run("esmgn", "list", check=False, ESMGN_STRICT="1")
        assert strict.returncode not in (0, 2)
        assert "Traceback" in strict.stderr
        assert reason in strict.stderr
        off = installed.run("esmgn", "list", ESMGN_STRICT="1", ESMGN_DISABLE="broken")
        assert "gearnet" in off.stdout
