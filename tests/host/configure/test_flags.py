"""``--set`` and ``--data``."""

from __future__ import annotations

from pathlib import Path

import pytest

from esmgn_core.errors import SettingsError
from esmgn_core.host.configure import (
    Tables,
    data_tables,
    parse_assignments,
)
from esmgn_core.host.registry import Registry
from esmgn_core.spec import Kind

from .conftest import message


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("train.epochs=5", {"train": {"epochs": 5}}),
        ("optim.lr=1e-3", {"optim": {"lr": 0.001}}),
        ("seq.weights=random", {"seq": {"weights": "random"}}),
        ("seq.weights=./a b=c.pt", {"seq": {"weights": "./a b=c.pt"}}),
        ('seq.weights="true"', {"seq": {"weights": "true"}}),
        ("struct.concat=true", {"struct": {"concat": True}}),
        ("data.date=2024-01-01", {"data": {"date": "2024-01-01"}}),
        ('data.path=["a", "b"]', {"data": {"path": ["a", "b"]}}),
        ("optim.betas=[0.9,0.98]", {"optim": {"betas": [0.9, 0.98]}}),
        ("seq.checkpoint.url=x", {"seq": {"checkpoint": {"url": "x"}}}),
        ("train.device=cuda:1", {"train": {"device": "cuda:1"}}),
        ("seq.weights=", {"seq": {"weights": ""}}),
        (" train.epochs = 5 ", {"train": {"epochs": 5}}),
    ],
)
def test_an_assignment_is_toml_or_plain_text(text: str, tables: Tables) -> None:
    assert parse_assignments([text]) == tables


def test_assignments_add_up_and_the_last_wins() -> None:
    texts = ["train.epochs=5", "seq.a.b=1", "train.seed=2", "seq.a.c=2", "train.epochs=6"]
    assert parse_assignments(texts) == {"train": {"epochs": 6, "seed": 2}, "seq": {"a": {"b": 1, "c": 2}}}


@pytest.mark.parametrize("texts", [["seq.a=1", "seq.a.b=2"], ["seq.a.b=2", "seq.a=1"]])
def test_a_value_and_a_table_under_one_name_are_no_crash(texts: list[str]) -> None:
    assert parse_assignments(texts)["seq"] == parse_assignments(texts[-1:])["seq"]


@pytest.mark.parametrize("text", ["epochs=5", "train.epochs", "=5", "train.=5", ".epochs=5", ""])
def test_an_assignment_of_another_form(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_assignments([text])
    assert message(caught) == (
        f"cannot read --set '{text}'\n  expected TABLE.KEY=VALUE, such as train.epochs=5"
    )


def test_text_in_a_list_needs_quotes() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_assignments(["data.path=[a, b]"])
    first, hint = message(caught).splitlines()
    assert first.startswith("cannot read --set 'data.path=[a, b]': Invalid value")
    assert hint == """  quote texts in lists, and the argument for the shell: --set 'data.path=["a", "b"]'"""


def test_an_assignment_to_an_unknown_table() -> None:
    with pytest.raises(SettingsError, match=r"unknown table \[trian\] \(--set\)\n  did you mean: train\?"):
        parse_assignments(["trian.epochs=5"])


def test_data_is_a_dataset_before_it_is_a_path(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sample").mkdir()
    monkeypatch.chdir(tmp_path)
    assert data_tables(registry, "sample") == {"data": {"name": "sample"}}
    assert data_tables(registry, "./sample") == {
        "data": {"name": "folder", "path": [str(tmp_path / "sample")]}
    }


def test_data_that_is_neither_a_dataset_nor_a_path(registry: Registry) -> None:
    with pytest.raises(SettingsError) as caught:
        data_tables(registry, "sampel")
    assert message(caught) == (
        "no such dataset or path: 'sampel' (--data)\n"
        "  did you mean: sample?\n"
        f"  available: {', '.join(registry.names(Kind.DATA))}, or a store, a folder or a file of structures\n"
        "  see: esmgn list data"
    )
