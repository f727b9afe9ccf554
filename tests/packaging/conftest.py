"""Distributions built from a clean copy of the repository, and fresh environments to install them in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment that sees the third-party packages of this one, but not its esmgn.

    A ``.pth`` file names the site-packages of this environment. What is installed here comes before
    it, and ``.pth`` files found through it, such as that of an editable esmgn, are not followed.
    """

    path: Path

    @classmethod
    def create(cls, path: Path) -> Environment:
        venv.create(path / "venv", with_pip=False, symlinks=True)
        (path / "elsewhere").mkdir()
        environment = cls(path)
        places = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
        (environment.site_packages / "third_party.pth").write_text("\n".join(places) + "\n")
        return environment

    def _folder(self, name: str) -> Path:
        base = str(self.path / "venv")
        return Path(sysconfig.get_path(name, "venv", {"base": base, "platbase": base}))

    @property
    def site_packages(self) -> Path:
        return self._folder("purelib")

    @property
    def python(self) -> Path:
        return self._folder("scripts") / "python"

    def run(
        self, *command: str | Path, check: bool = True, folder: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in ``folder``, by default an empty one."""
        program = self._folder("scripts") / command[0]
        done = subprocess.run(
            [program, *command[1:]],
            cwd=folder or self.path / "elsewhere",
            env=clean_variables(self.path) | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(map(str, command))} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def pip(self, *arguments: str | Path) -> None:
        """Run this environment's pip on the other one."""
        run_here("pip", "--python", self.python, *arguments, scratch=self.path)

    def install(self, *what: str | Path) -> None:
        """Install without looking at any index, at dependencies, or at what lies outside."""
        options = ["--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed", "--no-compile"]
        self.pip("install", *options, *what)


def clean_variables(scratch: Path) -> dict[str, str]:
    """The variables of this process but those that would lead to its esmgn, settings or index."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ESMGN_", "PIP_", "PYTHON", "VIRTUAL_ENV", "GIT_"))
    }
    return kept | {
        "XDG_CONFIG_HOME": str(scratch / "config"),
        "ESMGN_CACHE": str(scratch / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
    }


def run_here(module: str, *arguments: str | Path, scratch: Path) -> None:
    """Run a module of this environment, such as pip or build."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=scratch,
        env=clean_variables(scratch),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{module} {' '.join(map(str, arguments))} failed:\n{done.stdout}\n{done.stderr}")


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    """A copy of the repository without what git ignores, as others may be at work in the original."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line]
    copy = tmp_path_factory.mktemp("source") / "esmgn"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", *ignored))
    return copy


@pytest.fixture(scope="session")
def distributions(source, tmp_path_factory) -> tuple[Path, Path]:
    """The source distribution, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run_here("build", "--no-isolation", "--outdir", folder, source, scratch=folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def build_wheel():
    """Build the wheel of a plugin's folder."""

    def build(folder: Path, scratch: Path) -> Path:
        run_here("build", "--wheel", "--no-isolation", "--outdir", scratch, folder, scratch=scratch)
        (wheel,) = scratch.glob("*.whl")
        return wheel

    return build


@pytest.fixture
def new_environment(tmp_path) -> Environment:
    """An environment without esmgn."""
    return Environment.create(tmp_path)


@pytest.fixture(scope="session")
def installed(distributions, tmp_path_factory) -> Environment:
    """An environment with esmgn installed from the wheel. Leave it as you found it."""
    environment = Environment.create(tmp_path_factory.mktemp("installed"))
    environment.install(distributions[1])
    return environment
