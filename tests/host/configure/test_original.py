"""``reference = true``: one name for everything the original did differently."""

from __future__ import annotations

import pytest
import tomli_w

from esmgn_core.errors import SettingsError
from esmgn_core.host.configure import check_tables, configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve


def resolved(*layers):
    registry = discover()
    config = resolve(registry, configure(registry, list(layers))).resolved()
    return config.model_dump(mode="json", exclude_none=True)


def on(*texts):
    return parse_assignments(["reference=true", *texts])


def test_every_switch_is_set_at_once():
    tables = {
        "fuse": {"name": "cross"},
        "struct": {"name": "gearnet_ieconv"},
        "pretext": {"name": "siamdiff"},
    }
    plain, original = resolved(tables), resolved(tables, on())
    assert "reference" not in plain
    assert original["reference"] is True
    expected = {
        ("seq", "unknown_residue"): "G",
        ("seq", "chains"): "concatenated",
        ("struct", "unknown_residue"): "G",
        ("struct", "reference"): True,
        ("fuse", "reference"): True,
        ("pretext", "reference"): True,
        ("train", "precision"): "fp32",
        ("train", "test_epoch"): "last",
    }
    differing = {
        (table, name): value
        for table, values in original.items()
        if table != "reference"
        for name, value in values.items()
        if plain[table].get(name) != value
    }
    assert differing == expected


@pytest.mark.parametrize(("task", "longest"), [("ec", 550), ("msp", 1000), ("psr", 0)])
def test_validation_proteins_are_cropped_as_those_of_training(task, longest):
    assert resolved({"downstream": {"name": task}}, on())["downstream"]["test_max_length"] == longest


def test_tasks_of_a_combination_are_set_too():
    found = resolved({"pretext": {"name": "residue_type+distance"}}, on())["pretext"]
    assert found["residue_type"]["reference"]
    assert found["distance"]["reference"]


def test_what_is_given_with_it_or_above_it_counts_more_and_what_is_below_less():
    below = parse_assignments(["train.precision=bf16", "seq.chains=separate"])
    found = resolved(below, on("seq.unknown_residue=X"), parse_assignments(["train.test_epoch=best"]))
    assert found["train"]["precision"] == "fp32"
    assert found["seq"]["chains"] == "concatenated"
    assert found["seq"]["unknown_residue"] == "X"
    assert found["train"]["test_epoch"] == "best"


def test_a_run_file_with_it_gives_the_same_run_again():
    first = resolved({"pretext": {"name": "residue_type"}}, on("seq.chains=separate"))
    assert "reference = true" in tomli_w.dumps(first)
    assert resolved(check_tables(first, origin="config.toml")) == first


def test_it_cannot_be_undone_and_is_true_or_false():
    with pytest.raises(SettingsError, match="cannot undo reference = true"):
        resolved(on(), parse_assignments(["reference=false"]))
    with pytest.raises(SettingsError, match="reference must be true or false, got"):
        parse_assignments(["reference=yes"])
    assert "reference" not in resolved(parse_assignments(["reference=false"]))
