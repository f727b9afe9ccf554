"""Without torch-geometric the plugin is listed, and its use reports what to install."""

from __future__ import annotations

import sys

import pytest

from esmgn_core.errors import PluginError
from esmgn_core.host.registry import discover
from esmgn_core.spec import Kind


@pytest.fixture
def no_torch_geometric(monkeypatch) -> None:
    """As if it were not installed; the plugin's modules are imported anew, and again afterwards."""
    packages = ("torch_geometric", "esmgn_pyg")
    for module in [name for name in sys.modules if name.partition(".")[0] in packages]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch_geometric", None)


@pytest.mark.usefixtures("no_torch_geometric")
def test_message_names_the_extra(name) -> None:
    registry = discover()
    with pytest.raises(PluginError) as caught:
        registry.load(registry.component(Kind.STRUCT, name))
    first, *hints = str(caught.value).splitlines()
    assert first.startswith(f"structure encoder '{name}' needs a package that cannot be imported: ")
    assert hints == [
        "  install it: pip install 'esmgn[pyg]'",
        "  or choose another structure encoder: esmgn list struct",
    ]
