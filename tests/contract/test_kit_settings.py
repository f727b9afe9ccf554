"""The conformance kit catches components whose settings or packaging break the contract."""

from __future__ import annotations

import pytest
import torch
from pydantic import ConfigDict, field_validator

from esmgn_core.errors import SettingsError, UnknownComponentError
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import ExampleGraph, check_class, check_component
from esmgn_core.testing.check import imported_lazily
from esmgn_core.testing.claims import Claims


class NoDefault(ExampleGraph):
    class Settings(ComponentSettings):
        radius: float
        """A radius."""


class NoDescription(ExampleGraph):
    class Settings(ComponentSettings):
        radius: float = 8.0


class TakenName(ExampleGraph):
    class Settings(ComponentSettings):
        component: str = "x"
        """Something."""


class TakesAnything(ExampleGraph):
    class Settings(ComponentSettings):
        model_config = ConfigDict(extra="allow")


class CanBeChanged(ExampleGraph):
    class Settings(ComponentSettings):
        model_config = ConfigDict(frozen=False)


class DriftsInRunFiles(ExampleGraph):
    class Settings(ComponentSettings):
        radius: float = 8.0
        """A radius."""

        @field_validator("radius")
        @classmethod
        def _in_nanometres(cls, radius: float) -> float:
            return radius / 10


class NoSettings(torch.nn.Module):
    num_relations = 1


class NotAModule:
    class Settings(ComponentSettings):
        """No settings."""

    num_relations = 1

    def __init__(self, settings):
        pass

    def __call__(self, batch):
        raise NotImplementedError


class TakesNoSettings(ExampleGraph):
    def __init__(self):
        super().__init__()


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (NoDefault, "setting 'radius' has no default"),
        (NoDescription, "setting 'radius' has no description"),
        (TakenName, "has a setting 'component'"),
        (TakesAnything, "an unknown setting is not refused"),
        (CanBeChanged, "its Settings are not frozen"),
        (NoSettings, "has no nested class Settings"),
        (NotAModule, r"lacks: torch\.nn\.Module as a base class"),
        (TakesNoSettings, r"cannot be built with \(settings\)"),
    ],
)
def test_a_component_that_cannot_be_set_or_built_is_caught(component, message):
    with pytest.raises(AssertionError, match=f"^graph builder '{component.__name__}'.*{message}"):
        check_class(Kind.GRAPH, component)


def test_settings_that_a_run_file_does_not_repeat_are_caught():
    with pytest.raises(AssertionError, match="change when they are written to a run file and read back"):
        check_class(Kind.GRAPH, DriftsInRunFiles, radius=5.0)


def test_a_wrong_setting_of_the_author_is_no_broken_claim():
    with pytest.raises(SettingsError, match="unknown setting"):
        check_class(Kind.GRAPH, ExampleGraph, radius=5.0)


def test_a_misspelt_component_is_no_broken_claim():
    with pytest.raises(UnknownComponentError, match="did you mean: relational"):
        check_component(Kind.GRAPH, "relationl")


def test_a_plugin_module_that_imports_torch_is_caught(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("")
    (tmp_path / "heavy_plugin.py").write_text("import torch\n")
    (tmp_path / "light_plugin.py").write_text("import esmgn_core\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    imported_lazily(Claims("dataset 'x'"), "light_plugin")
    with pytest.raises(AssertionError, match="dataset 'x': its plugin's module heavy_plugin imports torch"):
        imported_lazily(Claims("dataset 'x'"), "heavy_plugin")


def test_the_kit_leaves_the_random_numbers_of_its_caller_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_class(Kind.GRAPH, ExampleGraph)
    assert torch.equal(torch.rand(3), expected)
