"""How predictions are laid out in a terminal."""

from __future__ import annotations

import pytest

from esmgn_cli.predict_command import _print


def test_a_caveat_is_printed_once_for_each_protein(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was beside every label, in a column of 15 characters."""
    monkeypatch.setenv("COLUMNS", "80")
    caveat = "mean pLDDT 41: the structure is uncertain, and so is what is predicted from it"
    rows = [
        {"protein": name, "label": f"GO:000{label}", "score": 0.5, "predicted": "yes", "caveat": text}
        for name, text in (("1abc", ""), ("AF-P12345-F1-model_v4", caveat))
        for label in range(3)
    ]
    _print(rows)
    table, caveats = capsys.readouterr().out.split("\n\n")
    assert "caveat" not in table
    assert len(table.splitlines()) == 7
    assert caveats.split() == ["protein", "caveat", "AF-P12345-F1-model_v4", *caveat.split()]
    assert max(map(len, (table + caveats).splitlines())) <= 80
