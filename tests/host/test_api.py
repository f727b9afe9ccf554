"""Versions of esmgn that a plugin was made for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest

from esmgn_core.host import api
from esmgn_core.host.api import api_problem, api_range, api_requirement
from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind

from ..conftest import PluginHost

Entry = Callable[..., SimpleNamespace]


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """An entry point of a package with these requirements and this source, which raises on import."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(*requires: str, source: str = "", module: str = "made_for_tests") -> SimpleNamespace:
        file = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{source}\nraise ImportError('imported')\n")
        if file.parent != tmp_path:
            (file.parent / "__init__.py").write_text("raise ImportError('imported')\n")
        dist = SimpleNamespace(name="esmgn-made", version="1.0", requires=[*requires])
        return SimpleNamespace(name="made", module=module, dist=dist)

    return make


@pytest.mark.parametrize(
    ("requires", "stated"),
    [
        (["esmgn>=0.1,<0.4"], ">=0.1,<0.4"),
        (["numpy", "ESMGN >= 0.1"], ">=0.1"),
        (["esmgn[wandb]>=0.2"], ">=0.2"),
        (["esmgn"], ""),
        (["esmgn-egnn>=99", "esmgn_other==3"], ""),
        (['esmgn>=99; extra == "test"'], ""),
        (['esmgn>=99; python_version < "3"', "esmgn>=0.1"], ">=0.1"),
        (["esmgn>=0.1", "esmgn<0.9"], ">=0.1,<0.9"),
        (["esmgn is required"], ""),
        ([], ""),
    ],
)
def test_the_requirement_of_the_package(entry: Entry, requires: list[str], stated: str) -> None:
    assert api_requirement(entry(*requires)) == stated


@pytest.mark.parametrize(
    ("source", "stated"),
    [
        ('esmgn_api = "0.1"', ">=0.1,<0.4"),
        ('esmgn_api: str = "0.3"', ">=0.3,<0.6"),
        ('"""A plugin."""\nimport os\nother = esmgn_api = "1.2.5"', ">=1.2,<1.5"),
        ('esmgn_api = ">=0.3,<0.4"', ">=0.3,<0.4"),
        ('def f():\n    esmgn_api = "9.9"', ""),
        ("esmgn_api: str", ""),
        ("esmgn_api = f()", ""),
        ('esmgn_api = "0.1"\ndef broken(:', ""),
        ('# -*- coding: latin-1 -*-\nesmgn_api = "0.1"  # for tests', ">=0.1,<0.4"),
    ],
)
@pytest.mark.parametrize("module", ["made_for_tests", "made_package.hooks"])
def test_the_constant_is_read_without_an_import(entry: Entry, source: str, stated: str, module: str) -> None:
    assert api_requirement(entry(source=source, module=module)) == stated
    assert module.partition(".")[0] not in sys.modules


def test_the_requirement_comes_before_the_constant(entry: Entry) -> None:
    assert api_requirement(entry("esmgn>=0.1", source='esmgn_api = "9.9"')) == ">=0.1"


@pytest.mark.parametrize("version", ["0.3.0", "0.3.0.dev3", "0.3.1rc1", "0.3.2+local"])
def test_development_versions_have_the_api_of_their_release(
    entry: Entry, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "__version__", version)
    assert api_problem(entry("esmgn>=0.3,<0.4")) == ""
    assert api_problem(entry(f"esmgn=={version}")) == ""
    assert api_problem(entry("esmgn>=0.2,<0.3")) == (
        f"made for esmgn >=0.2,<0.3; this is {version}: "
        "install another version of esmgn-made, or pip install 'esmgn>=0.2,<0.3'"
    )


def test_a_constant_that_is_not_a_version_is_reported(entry: Entry) -> None:
    assert (
        api_problem(entry(source='esmgn_api = "one"')) == "esmgn_api = 'one' is not a version such as '0.1'"
    )


def test_shipped_plugins_need_no_statement() -> None:
    shipped = [found for found in entry_points(group="esmgn") if found.dist and found.dist.name == "esmgn"]
    assert len(shipped) > 10
    assert {api_requirement(found) for found in shipped} == {""}


def test_a_version_without_two_numbers() -> None:
    with pytest.raises(ValueError, match="1"):
        api_range("1")


def test_a_plugin_for_another_api_is_reported_and_not_imported(bare_host: PluginHost) -> None:
    bare_host.install("future", requires=["esmgn>=99"], error=ImportError("imported"))
    bare_host.install("next", source='esmgn_api = "98.1"', error=ImportError("imported"))
    bare_host.install("silent", bare_host.component(Kind.STRUCT, "silent"))
    registry = discover()
    problems = {plugin.name: plugin.problem for plugin in registry.plugins}
    assert problems["future"].startswith("made for esmgn >=99; this is ")
    assert problems["next"].startswith("made for esmgn >=98.1,<98.4; this is ")
    assert problems["silent"] == ""
    assert registry.names(Kind.STRUCT)[0] == "silent"
