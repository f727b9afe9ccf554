"""Lists agree with what they list: those of ``pyproject.toml`` and those of the plugin tutorial."""

import inspect
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pluggy
import pytest

from esmgn_core.host.hooks import PROJECT as PROJECT_NAME
from esmgn_core.host.hooks import HookSpecs

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PLUGINS = sorted(folder.parent.name for folder in (ROOT / "plugins").glob("*/pyproject.toml"))
EXAMPLE = ROOT / "docs" / "examples" / "esmgn-egnn"
TUTORIAL = (ROOT / "docs" / "write-a-plugin.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
OWN_PACKAGES = {"esmgn_core": "esmgn_core", "esmgn_cli": "cli/esmgn_cli"}


def test_every_folder_under_plugins_is_a_project():
    folders = [
        path.name for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name != "__pycache__"
    ]
    assert sorted(folders) == PLUGINS


def test_the_wheel_holds_every_package():
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    expected = [*OWN_PACKAGES.values(), *(f"plugins/{name}/esmgn_{name}" for name in PLUGINS)]
    assert sorted(wheel["packages"]) == sorted(expected)
    assert wheel["force-include"] == {"registry.toml": "esmgn_core/registry.toml"}


def test_every_plugin_has_its_entry_point():
    assert PROJECT["project"]["entry-points"]["esmgn"] == {name: f"esmgn_{name}" for name in PLUGINS}


def test_mypy_reads_every_package():
    expected = [*OWN_PACKAGES, *(f"esmgn_{name}" for name in PLUGINS), "tests"]
    assert sorted(PROJECT["tool"]["mypy"]["packages"]) == sorted(expected)


def test_every_ignored_type_error_has_a_reason():
    folders = ("esmgn_core", "plugins", "cli", "tests", "benchmarks", "docs")
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"#\s*type: ignore(\[[\w, -]+\])?\s*$", line)
    ]
    assert bare == []


def test_every_package_ships_its_types():
    folders = [*OWN_PACKAGES.values(), *(f"plugins/{name}/esmgn_{name}" for name in PLUGINS)]
    assert [folder for folder in folders if not (ROOT / folder / "py.typed").exists()] == []


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_folder_is_a_complete_project(name):
    """Copied out of the repository and installed, it is a plugin like any other."""
    folder = ROOT / "plugins" / name
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["build-system"] == PROJECT["build-system"]
    assert project["project"]["name"] == f"esmgn-{name}"
    assert project["project"]["dependencies"] == ["esmgn"]
    assert project["project"]["entry-points"]["esmgn"] == {name: f"esmgn_{name}"}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"esmgn_{name}"]
    assert (folder / "README.md").exists()


def test_no_plugin_folder_configures_pytest():
    """A second configuration would take the repository's place when a plugin's tests run alone."""
    for name in PLUGINS:
        folder = ROOT / "plugins" / name
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        assert "pytest" not in project.get("tool", {})
        assert not {"pytest.ini", "tox.ini", "setup.cfg"} & {path.name for path in folder.iterdir()}


def test_the_tutorial_shows_the_examples_as_they_are():
    shown = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", TUTORIAL, re.DOTALL))
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in {".py", ".toml"}]
    assert {path.relative_to(EXAMPLE).as_posix() for path in files} <= shown.keys()
    assert len(shown) == len(files) + 3
    for name, text in shown.items():
        assert text == (EXAMPLE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["fuse", "graph", "downstream", "data"])
def test_the_tutorial_shows_the_templates_as_they_are(kind):
    [shown] = re.findall(rf"<!-- template: {kind} -->\n```python\n(.*?)```\n", TUTORIAL, re.DOTALL)
    template = (ROOT / "cli" / "esmgn_cli" / "templates" / f"{kind}.py.jinja").read_text(encoding="utf-8")
    names = {"{{ name }}": f"new_{kind}", "{{ attribute }}": f"New{kind.capitalize()}"}
    for placeholder, name in names.items():
        template = template.replace(placeholder, name)
    assert shown == template


def test_the_tutorial_imports_public_names():
    imports = re.findall(r"^from (esmgn_core[\w.]*) import (.+)$", TUTORIAL, re.MULTILINE)
    assert len(imports) > 5
    for module, names in imports:
        public = re.split(r"\n## ", API.partition(f"\n## {module}\n")[2])[0]
        for name in names.split(", "):
            assert re.search(rf"^- `{name}\b", public, re.MULTILINE), f"{module}.{name}"


def test_the_tutorial_names_every_hook_with_its_arguments():
    for name, hook in vars(HookSpecs).items():
        if name.startswith("esmgn_"):
            arguments = ", ".join(list(inspect.signature(hook).parameters)[1:])
            assert f"`{name}({arguments})`" in TUTORIAL


def test_the_hooks_written_in_the_tutorial_are_hooks():
    snippets = [
        code for code in re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL) if "@hookimpl" in code
    ]
    assert len(snippets) == 2
    for code in snippets:
        module = ModuleType("tutorial")
        exec(code, vars(module))  # noqa: S102 - our own documentation
        manager = pluggy.PluginManager(PROJECT_NAME)
        manager.add_hookspecs(HookSpecs)
        manager.register(module)
        manager.check_pending()
