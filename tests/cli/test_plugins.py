"""``esmgn plugins``."""

from __future__ import annotations

import pytest

import esmgn_core
from esmgn_core.spec import Kind

from ..conftest import PluginHost
from .conftest import Esmgn


def test_shipped_plugins_are_in_use(esmgn: Esmgn) -> None:
    status, out, err = esmgn("plugins")
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["gvp", "esmgn", esmgn_core.__version__, "in", "use", "struct:gvp"] in rows


def test_the_state_of_every_plugin(
    bare_host: PluginHost, esmgn: Esmgn, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_host.install(
        "egnn", bare_host.component(Kind.STRUCT, "egnn"), bare_host.component(Kind.GRAPH, "near")
    )
    bare_host.install("gvp", bare_host.component(Kind.STRUCT, "gvp"))
    bare_host.install("bad", error=ImportError("no module named 'foo'"))
    monkeypatch.setenv("ESMGN_DISABLE", "gvp")
    status, out, _ = esmgn("plugins")
    assert status == 0
    assert out == (
        "plugin  package         state   components or error\n"
        "bad     esmgn-bad 1.0   broken  ImportError: no module named 'foo'\n"
        "egnn    esmgn-egnn 1.0  in use  struct:egnn, graph:near\n"
        "gvp     esmgn-gvp 1.0   off     switched off (ESMGN_DISABLE)\n"
        "\n"
        "disable a plugin: ESMGN_DISABLE=NAME; show the traceback of a broken one: ESMGN_STRICT=1\n"
    )


def test_the_versions_that_a_plugin_needs_are_in_its_line(bare_host: PluginHost, esmgn: Esmgn) -> None:
    bare_host.install("future", requires=["esmgn>=98,<99"], error=ImportError("imported"))
    status, out, _ = esmgn("plugins")
    assert status == 0
    assert f"made for esmgn >=98,<99; this is {esmgn_core.__version__}: install" in " ".join(out.split())
