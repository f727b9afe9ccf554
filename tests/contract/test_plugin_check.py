"""``esmgn plugin check`` and ``check_plugin``: every claim has an outcome, and none ends the check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from esmgn_core.batch import Encoding
from esmgn_core.errors import PluginError, UnknownComponentError
from esmgn_core.host.registry import discover
from esmgn_core.pytest_plugin import esmgn_check  # noqa: F401 - a fixture
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import check_plugin
from esmgn_core.testing.claims import Outcome
from esmgn_core.testing.plugin import plugin_of, plugin_outcomes

from ..cli.conftest import Esmgn, esmgn  # noqa: F401 - a fixture
from ..conftest import PluginHost


class WrongWidth(nn.Module):
    """Residues are narrower than ``output_dim``, and it reads the labels too."""

    class Settings(ComponentSettings):
        width: int = 8
        """Width."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.output_dim = settings.width
        self.embed = nn.Embedding(21, settings.width - 1)

    def forward(self, batch: Any) -> Encoding:
        return Encoding.from_residues(self.embed(batch.residue_type), batch)


class Huge(nn.Module):
    class Settings(ComponentSettings):
        width: int = 30_000
        """Width."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.output_dim = settings.width
        self.layer = nn.Linear(settings.width, settings.width)


def failed(outcomes: list[Outcome]) -> dict[str, str]:
    return {item.claim: item.message for item in outcomes if item.status == "fail"}


def test_a_shipped_plugin_passes_and_is_run() -> None:
    outcomes = list(plugin_outcomes("onehot"))
    assert failed(outcomes) == {}
    claims = [item.claim for item in outcomes]
    assert {"It is in use.", "A run takes two steps.", "The run can be resumed."} <= {*claims}
    assert claims[-1] == "The run embeds a protein."


def test_all_claims_are_checked_after_one_that_fails(host: PluginHost) -> None:
    host.install("wrong", host.component(Kind.SEQ, "wrong", WrongWidth))
    outcomes = list(plugin_outcomes("seq:wrong"))
    messages = failed(outcomes)
    assert any("expected" in message for message in messages.values())
    assert len(messages) > 1
    assert "Settings do not change on the way through a run file." in [
        item.claim for item in outcomes if item.status == "pass"
    ]
    with pytest.raises(AssertionError, match=r"sequence encoder 'wrong': .*\n  claim: "):
        check_plugin("seq:wrong")


def test_the_fixture_fails_without_a_traceback(
    host: PluginHost,
    esmgn_check: Callable[..., None],  # noqa: F811 - the fixture
    capsys: pytest.CaptureFixture[str],
) -> None:
    host.install(
        "wrong", host.component(Kind.SEQ, "wrong", WrongWidth), host.component(Kind.SEQ, "huge", Huge)
    )
    with pytest.raises(pytest.fail.Exception, match="sequence encoder 'wrong': ") as failure:
        esmgn_check("wrong")
    assert not failure.value.pytrace
    assert "not judged: sequence encoder 'huge': " in capsys.readouterr().out


def test_a_component_that_is_too_large_is_not_judged_until_it_is_set_smaller(host: PluginHost) -> None:
    host.install("huge", host.component(Kind.SEQ, "huge", Huge))
    [outcome] = [item for item in plugin_outcomes("huge") if item.about.startswith("sequence encoder")]
    assert outcome.status == "not judged"
    assert outcome.message == "900 million parameters: choose smaller settings, --set KEY=VALUE"
    assert failed(list(plugin_outcomes("seq:huge", {"width": 4})))


def test_faults_of_the_declaration_are_listed(host: PluginHost) -> None:
    module = host.install("silent", host.component(Kind.SEQ, "silent", WrongWidth, summary=" "))
    vars(module)["esmgn_notice"] = lambda text: None  # noqa: ARG005 - a hook
    file = Path(str(module.__file__)).with_name("registry.toml")
    file.write_text('schema = 1\n[seq.other]\ncomponent = "nothing"\nsummary = "s"\n')
    messages = failed([item for item in plugin_outcomes("silent") if item.about == "plugin 'silent'"])
    assert (
        messages["Functions named like hooks are marked."] == "esmgn_notice is not used: @hookimpl is missing"
    )
    assert messages["Every component has a summary."] == "without a summary: silent"
    assert "unknown sequence encoder 'nothing'" in messages["Its registry is valid."]


def test_a_broken_plugin_has_one_outcome(host: PluginHost) -> None:
    host.install("bad", error=RuntimeError("no licence"))
    [outcome] = plugin_outcomes("esmgn-bad")
    assert (outcome.status, outcome.message) == ("fail", "RuntimeError: no licence")


def test_a_name_that_is_not_installed_is_an_error(host: PluginHost) -> None:
    host.install("rings")
    with pytest.raises(UnknownComponentError, match="did you mean: rings"):
        list(plugin_outcomes("ring"))


def test_a_project_folder_is_named_by_its_entry_point(host: PluginHost, tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    with pytest.raises(PluginError, match="has no entry point in the group 'esmgn'"):
        plugin_of(tmp_path)
    file.write_text('[project]\nname = "esmgn-rings"\nentry-points.esmgn.rings = "esmgn_rings"\n')
    with pytest.raises(PluginError, match="the plugin 'rings' is not installed\n  install it: pip"):
        plugin_of(tmp_path)
    host.install("rings")
    discover.cache_clear()
    assert plugin_of(tmp_path) == "rings"


def test_the_command_prints_outcomes_and_fails_with_status_1(
    esmgn: Esmgn,  # noqa: F811
    host: PluginHost,
) -> None:
    host.install("wrong", host.component(Kind.SEQ, "wrong", WrongWidth))
    done = esmgn("plugin", "check", "seq:wrong", "--set", "width=4")
    assert done.status == 1
    assert "fail        sequence encoder 'wrong': " in done.out
    records = [json.loads(line) for line in esmgn("plugin", "check", "wrong", "--json").out.splitlines()]
    assert {*records[0]} == {"about", "claim", "status", "message"}
    assert {record["status"] for record in records} >= {"pass", "fail"}


def test_without_plugins_of_others_there_is_nothing_to_check(esmgn: Esmgn) -> None:  # noqa: F811
    done = esmgn("plugin", "check")
    assert (done.status, "no plugin of another package is installed" in done.out) == (0, True)
