"""One rule for all connections: when they are forbidden."""

from __future__ import annotations

import pytest

from esmgn_core.errors import SettingsError
from esmgn_core.machine.download import DownloadError, download, offline


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ESMGN_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "on", " On "])
def test_every_spelling_of_yes_forbids_connections(monkeypatch, value):
    monkeypatch.setenv("ESMGN_OFFLINE", value)
    assert offline() == offline(hub=True) == "ESMGN_OFFLINE"


@pytest.mark.parametrize("value", [None, "", "0", "false", "No", "OFF"])
def test_every_spelling_of_no_allows_them(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("ESMGN_OFFLINE", value)
    assert offline() == offline(hub=True) == ""


def test_a_word_that_is_neither_is_refused(monkeypatch):
    """A misspelt ban must not be taken for a permission."""
    monkeypatch.setenv("ESMGN_OFFLINE", "ture")
    with pytest.raises(SettingsError, match="variable ESMGN_OFFLINE is 'ture', expected 1 or 0"):
        offline()


def test_the_hubs_own_variable_forbids_the_hub_only(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert offline(hub=True) == "HF_HUB_OFFLINE"
    assert offline() == ""


def test_no_download_starts_whoever_asks_for_it(monkeypatch, tmp_path):
    monkeypatch.setenv("ESMGN_OFFLINE", "yes")
    monkeypatch.setattr("esmgn_core.machine.download.urlopen", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises(DownloadError, match="ESMGN_OFFLINE is set"):
        download("https://example.org/file", tmp_path / "part")
