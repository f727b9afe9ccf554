"""A run records the packages of its components; its folder warns when others are installed."""

from __future__ import annotations

import importlib
import sys
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import esmgn_core
from esmgn_core.engine.session import resume_run
from esmgn_core.errors import EsmgnError, EsmgnWarning
from esmgn_core.host.configure import configure, parse_assignments, read_run_file
from esmgn_core.host.registry import discover
from esmgn_core.host.sources import source_changes, source_sha256
from esmgn_core.run_folder import RunFolder
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import PARTS, ComponentSpec, Kind

from ..conftest import PluginHost
from .conftest import Start

RINGS = ComponentSpec(Kind.STRUCT, "rings", "made_up_rings.encoder:Rings", "Rings")
SOURCE = '''"""A structure encoder."""

from esmgn_gearnet.encoder import GearNet


class Rings(GearNet):
    """GearNet under another name."""
'''
OTHER_VERSION = (
    "{} was made with structure encoder 'rings' of esmgn-rings 1.0, and esmgn-rings 2.0 is installed: "
    "results may differ; the version of the run: pip install 'esmgn-rings==1.0'"
)
OTHER_SOURCE = (
    "the source code of esmgn-rings 1.0, which provides structure encoder 'rings', has changed since {} "
    "was made: results may differ"
)
SMALL = ("struct.name=rings", "struct.hidden_dim=16", "struct.num_layers=2")
Install = Callable[..., Path]


@pytest.fixture
def install(host: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install the package esmgn-rings, instead of its other version; returns the folder of its source."""
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("made_up_rings", "made_up_rings.encoder"):  # of an earlier test
        sys.modules.pop(module, None)

    def put(version: str = "1.0", comment: str = "", requires: tuple[str, ...] = ()) -> Path:
        uninstall(host)
        folder = tmp_path / "made_up_rings"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "encoder.py").write_text(SOURCE + comment)
        importlib.invalidate_caches()
        host.install("rings", RINGS, version=version, requires=requires)
        return folder

    return put


def uninstall(host: PluginHost) -> None:
    host.entries[:] = [entry for entry in host.entries if entry.name != "rings"]
    discover.cache_clear()


@pytest.fixture
def run(install: Install, start: Start) -> RunFolder:
    install()
    return start(*SMALL).run


def resumed_log(run: RunFolder) -> str:
    before = len(run.log_file.read_text())
    resume_run(discover(), run.path, changes=parse_assignments(["train.epochs=3"]))
    return run.log_file.read_text()[before:]


def test_the_configuration_records_the_package_of_each_component(run: RunFolder) -> None:
    table = tomllib.loads(run.config.read_text())["provided_by"]
    assert table.keys() == {"seq", "struct", "fuse", "graph", "pretext", "data"}
    package = {"package": "esmgn-rings", "version": "1.0", "sha256": source_sha256(RINGS)}
    assert table["struct"] == {"rings": package}
    relational = table["graph"]["relational"]
    assert (relational["package"], relational["version"]) == ("esmgn", esmgn_core.__version__)
    assert len(relational["sha256"]) == 64


def test_parts_of_a_combined_task_are_recorded(start: Start) -> None:
    run = start("pretext.name=residue_type+distance", "train.max_steps=1").run
    table = tomllib.loads(run.config.read_text())["provided_by"]
    assert table["pretext"].keys() == {"residue_type", "distance"}


def test_trackers_group_runs_by_settings_not_by_packages(host: PluginHost, start: Start) -> None:
    configs: list[Any] = []

    class Seen:
        class Settings(ComponentSettings):
            pass

        def __init__(self, *_: object, config: Any, **_more: object) -> None:
            configs.append(config)

        def log(self, step: int, values: object) -> None:
            pass

        def close(self, *, failed: bool) -> None:
            pass

    host.install("seen", host.component(Kind.TRACKER, "seen", Seen))
    discover.cache_clear()
    start('train.trackers=["seen"]', "train.max_steps=1")
    assert configs[0].keys() >= {"seq", "train"}
    assert "provided_by" not in configs[0]


def test_the_same_package_is_not_mentioned(run: RunFolder, install: Install) -> None:
    install()
    log = resumed_log(run)
    assert "esmgn-rings" not in log
    assert "edited" not in log
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        esmgn_core.load(run.path)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"version": "2.0"}, OTHER_VERSION),
        ({"comment": "# edited"}, OTHER_SOURCE),
    ],
    ids=["version", "source"],
)
def test_another_package_is_a_warning_wherever_the_folder_is_used(
    run: RunFolder, install: Install, start: Start, changed: dict[str, str], expected: str
) -> None:
    install(**changed)
    expected = expected.format(run.path)
    with pytest.warns(EsmgnWarning) as caught:
        esmgn_core.load(run.path)
    assert [str(warning.message) for warning in caught] == [expected]
    second = start(*SMALL, out="second", init=run.path).run
    assert expected in second.log_file.read_text()
    assert expected in resumed_log(run)
    assert expected not in resumed_log(run)  # compared with the last start


def test_a_missing_package_is_named(run: RunFolder, host: PluginHost) -> None:
    uninstall(host)
    for use in (resumed_log, lambda run: esmgn_core.load(run.path)):
        with pytest.raises(EsmgnError) as caught:
            use(run)
        assert str(caught.value).splitlines() == [
            f"{run.path} needs the structure encoder 'rings' of package esmgn-rings 1.0",
            "  install it: pip install 'esmgn-rings==1.0'",
            "  see: esmgn plugins",
        ]


def test_a_package_that_is_not_in_use_is_named_with_the_reason(run: RunFolder, install: Install) -> None:
    install(requires=("esmgn>=99",))
    with pytest.raises(EsmgnError, match="rings' is installed and not in use: made for esmgn >=99"):
        esmgn_core.load(run.path)


def test_a_name_that_another_plugin_claims_later_is_compared_with_its_own_package(
    run: RunFolder, install: Install, host: PluginHost
) -> None:
    install(version="2.0")
    host.install("other", replace(RINGS, target="made_up_other:Rings"), version="9.0")
    discover.cache_clear()
    assert "other:rings" in discover().names(Kind.STRUCT)
    assert source_changes(discover(), run, [Kind.STRUCT]) == [OTHER_VERSION.format(run.path)]


def test_components_of_one_package_are_one_warning(run: RunFolder) -> None:
    version = f'version = "{esmgn_core.__version__}"'
    run.config.write_text(run.config.read_text().replace(version, 'version = "0.0.1"'))
    [text] = source_changes(discover(), run, PARTS)
    assert "with sequence encoder 'esm2', fuser 'serial', graph builder 'relational', pretext task" in text


def test_versions_of_a_package_without_source_are_compared(run: RunFolder, install: Install) -> None:
    text = run.config.read_text()
    digest = tomllib.loads(text)["provided_by"]["struct"]["rings"]["sha256"]
    run.config.write_text(text.replace(digest, ""))
    assert source_changes(discover(), run, [Kind.STRUCT]) == []
    install(version="2.0")
    assert source_changes(discover(), run, [Kind.STRUCT]) == [OTHER_VERSION.format(run.path)]


def test_an_encoder_needs_no_package_that_only_trained_it(start: Start) -> None:
    run = start("train.max_steps=1").run
    text = run.config.read_text()
    table = "[provided_by.pretext.residue_type]"
    assert table in text
    run.config.write_text(text.replace(table, "[provided_by.pretext.gone]"))
    esmgn_core.load(run.path)
    with pytest.raises(EsmgnError, match="needs the pretext task 'gone' of package esmgn"):
        resumed_log(run)


@pytest.mark.parametrize(
    "table", ["[provided_by]\nstruct = 3", "[provided_by.struct]\nrings = 3", "[provided_by.struct.rings]"]
)
def test_a_damaged_record_is_ignored(run: RunFolder, table: str, install: Install) -> None:
    install(version="2.0")
    text = run.config.read_text()
    run.config.write_text(f"{text[: text.index('[provided_by')]}\n{table}\n")
    assert "esmgn-rings" not in resumed_log(run)


def test_the_configuration_of_a_run_is_a_run_file(run: RunFolder) -> None:
    config = configure(discover(), [read_run_file(run.config)])
    assert config.struct.name == "rings"
    assert config.struct.settings["hidden_dim"] == 16


def test_the_digest_depends_on_names_and_contents_of_python_files(install: Install) -> None:
    folder = install()
    first = source_sha256(RINGS)
    (folder / "data.txt").write_text("x")
    assert source_sha256(RINGS) == first
    (folder / "encoder.py").rename(folder / "other.py")
    renamed = source_sha256(RINGS)
    (folder / "sub").mkdir()
    (folder / "sub" / "new.py").touch()
    assert len({first, renamed, source_sha256(RINGS)}) == 3
    assert source_sha256(ComponentSpec(Kind.STRUCT, "x", "no_such_package:X", "")) == ""
