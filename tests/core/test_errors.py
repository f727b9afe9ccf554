"""What a user reads when something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from esmgn_core import errors
from esmgn_core.errors import EsmgnError, SettingsError, did_you_mean, shown

KINDS_OF_ERROR = [
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, EsmgnError)
]


def test_hints_stand_indented_below_the_message() -> None:
    error = SettingsError("run file not found: x.toml", "did you mean: y.toml?", "see: esmgn run --help")
    assert str(error) == "run file not found: x.toml\n  did you mean: y.toml?\n  see: esmgn run --help"


def test_a_message_needs_no_hints() -> None:
    assert str(EsmgnError("out of luck")) == "out of luck"


@pytest.mark.parametrize("error", KINDS_OF_ERROR)
def test_every_kind_of_error_can_be_caught_as_one(error: type[EsmgnError]) -> None:
    with pytest.raises(EsmgnError, match="wrong") as caught:
        raise error("wrong", "try again")
    assert caught.value.hints == ("try again",)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("gearnett", "gearnet"), ("GearNet", "gearnet"), ("ESM2-650M", "esm2_650m"), ("esm2_65m", "esm2_650m")],
)
def test_the_nearest_name_is_offered(typed: str, meant: str) -> None:
    assert did_you_mean(typed, ["esm2_8m", "esm2_650m", "gearnet", "serial"]) == (f"did you mean: {meant}?",)


def test_nothing_is_offered_for_a_name_far_from_all() -> None:
    assert did_you_mean("transformer", ["gearnet", "serial"]) == ()
    assert did_you_mean("gearnet", []) == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (0.5, "0.5"),
        ('a "word"', '"a \\"word\\""'),
        (Path("/data/x"), '"/data/x"'),
        (["a", 1], '["a", 1]'),
        ((), "[]"),
        ({"name": "gearnet", "num_layers": 4}, '{name = "gearnet", num_layers = 4}'),
    ],
)
def test_values_are_shown_as_in_a_run_file(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_deprecated_name_works_with_a_warning() -> None:
    find = errors.deprecated_names("esmgn_core.old", "0.2", {"before": "esmgn_core.errors.shown"})
    with pytest.warns(errors.EsmgnDeprecationWarning) as caught:
        assert find("before") is shown
    assert str(caught[0].message) == (
        "esmgn_core.old.before is deprecated since esmgn 0.2: use esmgn_core.errors.shown"
    )
    assert caught[0].filename == __file__
    with pytest.raises(AttributeError, match=r"module 'esmgn_core.old' has no attribute 'other'"):
        find("other")
