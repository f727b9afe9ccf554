"""Which module may import which, checked over the syntax trees.

The rooms of ``esmgn_core`` (its packages, and the modules at its root) are on floors. A room imports
lower floors only. Some modules are light (standard library and pluggy) or middle (pydantic), so that
commands start fast. Core imports neither plugins nor the program. A plugin imports public modules of
core and no other plugin. The program imports core.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind

ROOT = Path(__file__).parents[1]
LIGHT = {
    "esmgn_core",
    *(
        f"esmgn_core.{name}"
        for name in (
            "alphabet",
            "errors",
            "host.api",
            "host.hooks",
            "host.names",
            "host.plugins",
            "machine.gpu",
            "machine.manifest",
            "machine.parse",
            "host.presets",
            "printable",
            "host.registry",
            "spec",
            "splits",
            "text",
            "version",
        )
    ),
}
MIDDLE = {"esmgn_core.host.configure", "esmgn_core.settings"}
LIBRARIES = {"light": {"packaging", "pluggy"}, "middle": {"pydantic"}, "program": {"typer"}}
ON_REQUEST = {
    "esmgn_core": {"esmgn_core.inference.model"},
    "esmgn_core.io.arrays": {"esmgn_core.batch"},
    "esmgn_core.store.reader": {"esmgn_core.store.tensors"},
    "esmgn_core.pytest_plugin": {"esmgn_core.testing.plugin"},
}
"""What brings torch and waits: for ``esmgn_core.load``, and for those who read a store or a file as tensors;
the processes that build stores, and pytest in other projects, do neither."""
LATE_MODULES = {
    "esmgn_cli.data_progress",
    "esmgn_cli.progress",
    "esmgn_cli.scaffold",
    "esmgn_cli.settings_text",
}
"""Modules of the program that commands import when they need them."""


FLOORS = (
    {"alphabet", "draws", "errors", "metrics", "printable", "spec", "text", "version"},
    {"batch", "layers", "machine", "settings", "splits"},
    {"crop", "graph", "io", "neighbors", "readout", "related", "run_folder", "weights"},
    {"attention", "gather", "protocols", "store"},
    {"host"},
    {"formats", "model"},
    {"engine", "published"},
    {"study", "testing"},
    {"pages", "pytest_plugin"},
    {"inference"},
)
PRIVATE = {"machine", "host", "model", "published", "engine", "inference", "pages", "study"}
"""Rooms that plugins do not import. The other packages, and all modules at the root, are public."""


class Import(NamedTuple):
    """One imported module, and whether the import waits in a function."""

    module: str
    late: bool
    line: int


def packages() -> dict[str, Path]:
    found = [ROOT / "esmgn_core", ROOT / "cli" / "esmgn_cli", *ROOT.glob("plugins/*/esmgn_*")]
    return {path.name: path for path in found if (path / "__init__.py").exists()}


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in packages().items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.fixture(scope="module")
def sizes() -> Iterator[ModuleType]:
    """The benchmark ``sizes``, which reads all kinds of imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("sizes")


MODULES = modules()
PLUGINS = {name for name in packages() if name not in {"esmgn_core", "esmgn_cli"}}


def imports(path: Path) -> Iterator[Import]:
    """Everything a module imports; what only a type checker sees does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from _imports(tree, late=False)


def _imports(node: ast.AST, *, late: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, late, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield Import(whole if whole in MODULES else str(child.module), late, child.lineno)
        elif not _for_type_checkers(child):
            in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(child, late=late or in_function)


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def top(module: str) -> str:
    return module.partition(".")[0]


def is_own(module: str) -> bool:
    return top(module) in packages()


def offences(module: str, allowed: set[str], *, late: bool | None = None) -> list[str]:
    """Imports of our own packages by ``module`` beyond ``allowed`` modules or packages."""
    return [
        f"{MODULES[module].relative_to(ROOT)}:{found.line} imports {found.module}"
        for found in imports(MODULES[module])
        if is_own(found.module) and late in (None, found.late)
        if not {found.module, top(found.module) + ".*"} & allowed
    ]


def test_the_tree_has_the_expected_packages() -> None:
    assert packages().keys() >= {"esmgn_core", "esmgn_cli", "esmgn_esm2", "esmgn_gearnet"}
    assert MODULES.keys() >= LIGHT | MIDDLE | LATE_MODULES


@pytest.mark.parametrize("module", sorted(name for name in MODULES if top(name) == "esmgn_core"))
def test_core_imports_no_plugin_and_no_program(module: str) -> None:
    assert offences(module, {"esmgn_core.*"}) == []


WORDS = {"identity", "multilabel", "residue_type", "sequence", "structure", "tensorboard", "token"}
"""Names of components that are also words: of sequences, an output, a field of proteins, two encoders, a
folder, a row of a sequence."""
NAMED = (Kind.SEQ, Kind.STRUCT, Kind.FUSE, Kind.GRAPH, Kind.PRETEXT, Kind.DOWNSTREAM, Kind.TRACKER)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if top(name) == "esmgn_core"))
def test_core_names_no_component(module: str) -> None:
    """In texts of its code; docstrings may have examples."""
    names = {name for kind in NAMED for name in discover().names(kind)} - WORDS
    pattern = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, names))})(?!\w)")
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    texts = {id(node): node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            texts.pop(id(node.value), None)
    assert [text for text in texts.values() if isinstance(text, str) and pattern.search(text)] == []


@pytest.mark.parametrize("module", sorted(name for name in MODULES if top(name) in PLUGINS))
def test_a_plugin_imports_core_and_itself_never_another_plugin(module: str) -> None:
    assert offences(module, {"esmgn_core.*", f"{top(module)}.*"}) == []


@pytest.mark.parametrize("module", sorted(name for name in MODULES if top(name) == "esmgn_cli"))
def test_the_program_imports_core_and_itself(module: str) -> None:
    assert offences(module, {"esmgn_core.*", "esmgn_cli.*"}) == []


@pytest.mark.parametrize("module", sorted(name for name in MODULES if top(name) in PLUGINS))
def test_a_plugin_imports_public_modules_of_core(module: str) -> None:
    private = [
        found.module
        for found in imports(MODULES[module])
        if top(found.module) == "esmgn_core"
        and found.module.split(".")[1:2]
        and found.module.split(".")[1] in PRIVATE
    ]
    assert private == []


def test_a_room_imports_lower_floors_only(sizes: ModuleType) -> None:
    """Imports inside functions, those for type checkers and modules named in texts count too."""
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    graph = sizes.import_graph(ROOT, [path for name, path in MODULES.items() if top(name) == "esmgn_core"])
    rooms = {name.split(".")[1] for name in graph if "." in name}
    assert floor.keys() == rooms
    upward = [
        f"{name} imports {other}"
        for name, found in graph.items()
        for other in found
        if "." in name
        and (
            other == "esmgn_core"
            or _floor(floor, other) > _floor(floor, name)
            or (_floor(floor, other) == _floor(floor, name) and sizes.room(other) != sizes.room(name))
        )
    ]
    assert upward == []


def test_the_design_notes_show_the_floors() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    shown: dict[int, set[str]] = {}
    for floor, rooms in re.findall(r"^\| (\d+) \| ([^|]*) \|", page, re.MULTILINE):
        shown.setdefault(int(floor) - 1, set()).update(re.findall(r"`(\w+)`", rooms))
    assert shown == dict(enumerate(FLOORS))


def test_the_design_notes_name_modules_that_exist() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+/\w+\.py)`", page))
    assert len(named) > 8
    assert [name for name in named if not (ROOT / "esmgn_core" / name).exists() and "test_" not in name] == []


def _floor(floors: dict[str, int], module: str) -> int:
    return floors[module.split(".")[1]]


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_light_modules_import_light_ones_and_pluggy(module: str) -> None:
    assert offences(module, LIGHT, late=False) == []
    assert offences(module, LIGHT | ON_REQUEST.get(module, set())) == []
    assert libraries(module) <= LIBRARIES["light"]


@pytest.mark.parametrize("module", sorted(MIDDLE))
def test_middle_modules_import_light_and_middle_ones_and_pydantic(module: str) -> None:
    assert offences(module, LIGHT | MIDDLE) == []
    assert libraries(module) <= LIBRARIES["light"] | LIBRARIES["middle"]


@pytest.mark.parametrize(
    "module", sorted(name for name in MODULES if top(name) == "esmgn_cli" and name not in LATE_MODULES)
)
def test_the_program_starts_with_light_modules_and_typer(module: str) -> None:
    program = {name for name in MODULES if top(name) == "esmgn_cli"} - LATE_MODULES
    assert offences(module, LIGHT | program, late=False) == []
    assert libraries(module, late=False) <= LIBRARIES["program"]


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_a_plugin_is_declared_by_light_modules(plugin: str) -> None:
    """What an entry point names is imported by every command."""
    assert offences(plugin, LIGHT | {plugin}) == []
    assert libraries(plugin) == set()


@pytest.mark.parametrize("module", sorted(name for name in MODULES if top(name) != "esmgn_cli"))
def test_own_packages_are_imported_at_the_top(module: str) -> None:
    """Only the program may wait with an import until a command needs it, and those that would bring much."""
    late = {found.module for found in imports(MODULES[module]) if found.late and is_own(found.module)}
    assert late == ON_REQUEST.get(module, set())


def libraries(module: str, *, late: bool | None = None) -> set[str]:
    """Third-party packages that ``module`` imports."""
    found = {top(found.module) for found in imports(MODULES[module]) if late in (None, found.late)}
    return {name for name in found if name not in sys.stdlib_module_names and not is_own(name)}


def test_no_module_imports_itself_through_others() -> None:
    """The graph of imports at the top of modules has no cycle."""
    graph = {
        name: {found.module for found in imports(path) if not found.late and found.module in MODULES}
        for name, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()
