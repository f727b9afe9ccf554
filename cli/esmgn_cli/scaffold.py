"""Write the project of a new plugin from the templates of this package."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esmgn_core.errors import SettingsError
from esmgn_core.host.api import api_range
from esmgn_core.host.registry import Registry
from esmgn_core.machine.files import write_errors
from esmgn_core.spec import Kind
from esmgn_core.version import __version__

_FOLDER = Path(__file__).parent / "templates"
# Stricter than names of components: the project name must be valid on a package index.
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class _Template:
    """What differs between kinds besides the component.

    Attributes:
        module: module of the component.
        class_suffix: end of the class name.
        summary: line of the component in ``esmgn list``.
        command: a command that uses the component ``NAME``.
        example: files of the folder ``example``; ``NAME`` is replaced.
    """

    module: str
    class_suffix: str
    summary: str
    command: str
    example: tuple[str, ...] = ()


_TABLE = ("labels.csv", *(f"peptide{number}.pdb" for number in range(1, 9)))
_TEMPLATES = {
    Kind.SEQ: _Template(
        "encoder",
        "Encoder",
        "Convolutions along each chain",
        "esmgn run --seq NAME --struct gearnet --data sample --set train.max_steps=2",
    ),
    Kind.STRUCT: _Template(
        "encoder",
        "Encoder",
        "Message passing by CA distances",
        "esmgn run --seq onehot --struct NAME --data sample --set train.max_steps=2",
    ),
    Kind.FUSE: _Template(
        "fuser",
        "Fuser",
        "Gated sum of both encoders",
        "esmgn run --seq onehot --struct gearnet --fuse NAME --data sample --set train.max_steps=2",
    ),
    Kind.GRAPH: _Template(
        "graph",
        "Builder",
        "Edges from the nearest residues",
        "esmgn run --seq onehot --struct gearnet --graph NAME --data sample --set train.max_steps=2",
    ),
    Kind.PRETEXT: _Template(
        "task",
        "Task",
        "Predict the types of masked residues",
        "esmgn run --seq onehot --pretext NAME --data sample --set train.max_steps=2",
    ),
    Kind.DOWNSTREAM: _Template(
        "task",
        "Task",
        "Predict numbers of a protein",
        "esmgn run --seq onehot --downstream NAME --data csv --set data.kind=regression"
        " --set data.table=example/labels.csv --set train.max_steps=2",
        _TABLE,
    ),
    Kind.DATA: _Template(
        "dataset",
        "Dataset",
        "Structure files and numbers of a table",
        "esmgn run --seq onehot --data NAME --set data.table=example/labels.csv --set train.max_steps=2",
        _TABLE,
    ),
    Kind.TRACKER: _Template(
        "tracker",
        "Tracker",
        "Metrics as CSV in the run folder",
        "esmgn run --seq onehot --data sample --set 'train.trackers=[\"NAME\"]' --set train.max_steps=2",
    ),
    Kind.FORMAT: _Template(
        "format",
        "",
        "Text with one residue a line",
        "esmgn embed example/peptide.NAME --seq onehot --out vectors.npz",
        ("peptide.NAME",),
    ),
}


@dataclass(frozen=True, slots=True)
class Project:
    """The files of a plugin with one component.

    Attributes:
        name: name of the plugin and its component, see :func:`plugin_name`.
        kind: kind of the component.
    """

    name: str
    kind: Kind

    @property
    def folder_name(self) -> str:
        """Name of the project folder and of the package on an index."""
        return f"esmgn-{self.name.replace('_', '-')}"

    @property
    def package(self) -> str:
        """Name of the Python package."""
        return f"esmgn_{self.name}"

    @property
    def component_file(self) -> str:
        """Path of the component's module in the project."""
        return f"{self.package}/{_TEMPLATES[self.kind].module}.py"

    @property
    def commands(self) -> tuple[str, ...]:
        """Commands that install and use the plugin, to be typed in the project folder."""
        used = _TEMPLATES[self.kind].command.replace("NAME", self.name)
        return ('pip install -e ".[test]"', f"esmgn plugin check {self.name}", "python -m pytest", used)

    def write(self, parent: Path) -> Path:
        """Write the project folder into ``parent``, completely or not at all.

        Returns:
            The project folder.

        Raises:
            SettingsError: the folder exists and is not empty.
            WriteError: the folder cannot be written.
        """
        folder = parent / self.folder_name
        if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
            raise SettingsError(f"{folder} exists already", "choose another --dir or another name")
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            with write_errors(folder):
                for path, content in self._files():
                    (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                    (temporary / path).write_text(content, encoding="utf-8", newline="\n")
                if folder.exists():
                    folder.rmdir()
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder

    def _files(self) -> Iterator[tuple[str, str]]:
        """Paths in the project folder, and the content of each file."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(  # noqa: S701 - no HTML
            loader=FileSystemLoader(_FOLDER),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            trim_blocks=True,
        )
        template = _TEMPLATES[self.kind]
        title, suffix = "".join(word.capitalize() for word in self.name.split("_")), template.class_suffix
        values = {
            "project": self.folder_name,
            "package": self.package,
            "name": self.name,
            "kind": self.kind,
            "module": template.module,
            "attribute": "FORMAT" if self.kind is Kind.FORMAT else title.removesuffix(suffix) + suffix,
            "summary": template.summary,
            "esmgn_range": esmgn_range(__version__),
            "has_example": bool(template.example),
            "commands": self.commands,
        }
        sources = {
            "pyproject.toml": "pyproject.toml.jinja",
            "README.md": "README.md.jinja",
            ".gitignore": "gitignore.jinja",
            ".github/workflows/test.yml": "workflow.yml.jinja",
            f"{self.package}/__init__.py": "init.py.jinja",
            self.component_file: f"{self.kind}.py.jinja",
            f"tests/test_{self.name}.py": "test.py.jinja",
            **{f"example/{file.replace('NAME', self.name)}": f"example/{file}" for file in template.example},
        }
        for path, source in sources.items():
            yield path, environment.get_template(source).render(values)
        yield f"{self.package}/py.typed", ""


def plugin_name(text: str, kind: Kind, registry: Registry) -> str:
    """Return the name for a new plugin and its component, such as ``my_rings`` for ``esmgn-My Rings``.

    Raises:
        SettingsError: the text does not give a valid name, or the name is taken.
    """
    name = re.sub(r"[\s.-]+", "_", text.strip().lower()).removeprefix("esmgn_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise SettingsError(
            f"'{text}' is not a name for a plugin",
            "use letters a-z, digits and _ between them, starting with a letter; not a keyword of Python",
        )
    if name in registry.names(kind):
        raise SettingsError(f"'{name}' is a {kind.long_name} already", f"esmgn list {kind} shows all names")
    if name in {plugin.name for plugin in registry.plugins}:
        raise SettingsError(f"a plugin '{name}' is installed already", "esmgn plugins lists them")
    package = f"esmgn_{name}"
    if importlib.util.find_spec(package):
        raise SettingsError(f"a Python package '{package}' is installed already", "choose another name")
    return name


def esmgn_range(version: str) -> str:
    """Requirement on esmgn of a plugin written for this version.

    >>> esmgn_range("0.1.0")
    'esmgn>=0.1,<0.4'
    """
    return f"esmgn{api_range(version)}"
