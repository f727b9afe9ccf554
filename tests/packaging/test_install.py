"""The distributions hold what they should and work wherever they are installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [Path(folder).name for folder in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]

pytestmark = pytest.mark.slow


def where(environment, module: str) -> Path:
    """The folder an environment imports a package from."""
    script = f"import json, {module}; print(json.dumps({module}.__file__))"
    return Path(json.loads(environment.run("python", "-c", script).stdout)).parent


def test_the_wheel_holds_the_packages_and_nothing_else(distributions):
    names = zipfile.ZipFile(distributions[1]).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)
    assert "esmgn_core/registry.toml" in names
    assert [package for package in PACKAGES if f"{package}/py.typed" not in names] == []
    assert [name for name in names if "tests/" in name or "__pycache__" in name] == []


def test_the_wheel_declares_the_program_and_the_plugins(distributions):
    wheel = zipfile.ZipFile(distributions[1])
    (file,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    declared = ConfigParser(delimiters="=")
    declared.read_string(wheel.read(file).decode())
    assert dict(declared["console_scripts"]) == PROJECT["project"]["scripts"]
    assert dict(declared["esmgn"]) == PROJECT["project"]["entry-points"]["esmgn"]


def test_the_source_distribution_holds_what_a_developer_needs(distributions):
    with tarfile.open(distributions[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    expected = {"pyproject.toml", "registry.toml", "LICENSE", "README.md", "tests/packaging/test_install.py"}
    assert expected <= names
    assert {f"plugins/{name}/pyproject.toml" for name in ("esm2", "gearnet")} <= names


def test_the_installed_program_runs_from_anywhere(installed):
    for package in PACKAGES:
        assert installed.site_packages in where(installed, package).parents
    listed = installed.run("esmgn", "list").stdout
    assert "gearnet" in listed
    assert "serial" in listed
    assert installed.run("python", "-m", "esmgn_cli", "list").stdout == listed


def test_an_editable_installation_runs_from_its_folder(source, new_environment):
    new_environment.install("--editable", source)
    assert where(new_environment, "esmgn_core") == source / "esmgn_core"
    assert where(new_environment, "esmgn_gearnet") == source / "plugins" / "gearnet" / "esmgn_gearnet"
    assert "gearnet" in new_environment.run("esmgn", "list", "struct").stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_it_can_be_installed_from_a_git_repository(source, new_environment, tmp_path):
    repository = tmp_path / "repository"
    shutil.copytree(source, repository)
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "All"]):
        subprocess.run(["git", *command], cwd=repository, check=True, capture_output=True)
    new_environment.install(f"git+file://{repository}")
    assert new_environment.site_packages in where(new_environment, "esmgn_core").parents
    assert "gearnet" in new_environment.run("esmgn", "list", "struct").stdout
