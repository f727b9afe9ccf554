"""Fixtures shared by the tests of the core and of the program."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gemmi
import pytest

from esmgn_core import hookimpl
from esmgn_core.batch import BACKBONE_ATOMS, Protein
from esmgn_core.host.registry import discover
from esmgn_core.inference.embedding import residues_of
from esmgn_core.spec import ComponentSpec, Kind


@dataclass
class PluginHost:
    """Stands for this Python installation: packages with esmgn plugins are installed in it."""

    monkeypatch: pytest.MonkeyPatch
    folder: Path
    entries: list[Any] = field(default_factory=list)

    def install(
        self,
        name: str,
        *components: ComponentSpec,
        package: str = "",
        version: str = "1.0",
        requires: Sequence[str] = (),
        source: str = "",
        error: BaseException | None = None,
        **hooks: Any,
    ) -> ModuleType:
        """Install a package with one plugin.

        Args:
            name: name of the plugin.
            components: what it declares.
            package: name of the package.
            version: its version.
            requires: its requirements.
            source: text of the module's file.
            error: raised when the plugin is imported.
            hooks: further hooks.
        """
        module = ModuleType(f"installed_{package or name}")
        module.__file__ = str(self.folder / module.__name__ / "__init__.py")
        (self.folder / module.__name__).mkdir(exist_ok=True)
        Path(module.__file__).write_text(source)
        module.__spec__ = spec_from_file_location(module.__name__, module.__file__)
        declared = {"esmgn_components": lambda: list(components), **hooks}
        for hook, function in declared.items():
            setattr(module, hook, hookimpl(function))
        self.monkeypatch.setitem(sys.modules, module.__name__, module)

        def load() -> ModuleType:
            if error is not None:
                raise error
            return importlib.import_module(module.__name__)

        dist = SimpleNamespace(name=package or f"esmgn-{name}", version=version, requires=[*requires])
        entry = SimpleNamespace(
            name=name, value=module.__name__, module=module.__name__, dist=dist, load=load
        )
        self.entries.append(entry)
        return module

    def user_registry(self, text: str) -> Path:
        """Write the user's registry."""
        file = self.folder / "config" / "esmgn" / "registry.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def entry_points(self, *, group: str) -> list[Any]:
        """Stands for :func:`importlib.metadata.entry_points`."""
        assert group == "esmgn"
        return self.entries

    def component(
        self, kind: Kind, name: str, component: object = None, summary: str = "A test"
    ) -> ComponentSpec:
        """A specification whose target is this very object."""
        module = ModuleType(f"target_{kind}_{name}")
        if component is not None:
            vars(module)["Component"] = component
        self.monkeypatch.setitem(sys.modules, module.__name__, module)
        return ComponentSpec(kind, name, f"{module.__name__}:Component", summary)


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Neither the user's registry nor variables of this shell have a say; plugins are found anew."""
    for name in ("ESMGN_REGISTRY", "ESMGN_DISABLE", "ESMGN_STRICT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    discover.cache_clear()
    yield monkeypatch
    discover.cache_clear()


@pytest.fixture
def bare_host(clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> PluginHost:
    """An installation without any plugin, not even the shipped ones."""
    host = PluginHost(clean_environment, tmp_path)
    clean_environment.setattr("esmgn_core.host.plugins.entry_points", host.entry_points)
    return host


@pytest.fixture
def host(bare_host: PluginHost) -> PluginHost:
    """This installation, to which plugins can be added."""
    bare_host.entries += entry_points(group="esmgn")
    return bare_host


@pytest.fixture(scope="session")
def proteins() -> list[Protein]:
    """Six made-up proteins of 30 to 120 residues."""
    registry = discover()
    sample: Any = registry.load(registry.component(Kind.DATA, "sample"))
    data = sample(sample.Settings(num_proteins=6, max_length=120))
    return [replace(data[index], name=f"protein{index}") for index in range(len(data))]


def pdb_text(protein: Protein) -> str:
    """The protein as PDB text."""
    lines: list[str] = []
    for row, residue in enumerate(residues_of(protein)):
        name = gemmi.expand_one_letter(residue.letter, gemmi.ResidueKind.AA)
        place = f"{name} {residue.chain}{residue.number:4d}{residue.insertion_code or ' '}"
        for column, atom in enumerate(BACKBONE_ATOMS):
            xyz = "".join(f"{value:8.3f}" for value in protein.backbone[row, column].tolist())
            end = f"  1.00 20.00          {atom[0]:>2s}"
            lines.append(f"ATOM  {len(lines) + 1:5d}  {atom:<3s} {place}   {xyz}{end}")
    return "\n".join([*lines, "END", ""])


@pytest.fixture
def folder(tmp_path: Path, proteins: list[Protein]) -> Path:
    """A folder with the proteins as PDB files."""
    place = tmp_path / "structures"
    place.mkdir()
    for protein in proteins:
        (place / f"{protein.name}.pdb").write_text(pdb_text(protein))
    return place


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a disk of 600 KB; skips where it cannot be mounted."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
