"""Layouts of other plugins: declared in a registry file, mapped by their component classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.errors import PluginError, WeightsError
from esmgn_core.graph import ResidueGraph
from esmgn_core.host.registry import Registry, discover
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.published.convert import export_folder, import_file
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.weights import common_length

from ..conftest import PluginHost

LAYOUT = """
schema = 1
[layout.rings]
summary = "A made-up model"
parts = { struct = "net." }
run = { seq = "onehot", struct = "rings", fuse = { name = "serial", output = "structure" }, graph = "radius" }
constants.format = [2, 1]
"""


class Plain(nn.Module):
    """A structure encoder whose published tensors are its state dict."""

    class Settings(ComponentSettings):
        hidden_dim: int = 8

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:  # noqa: ARG002
        super().__init__()
        self.output_dim = settings.hidden_dim
        self.embed = nn.Linear(input_dim, settings.hidden_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:  # noqa: ARG002
        return Encoding.from_residues(self.embed(features), batch)


class Rings(Plain):
    """An encoder with a transposed weight, sizes to find, and an unused head."""

    @classmethod
    def published_settings(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
        width = common_length(tensors, r"in\.bias")
        return {"hidden_dim": width} if width else None

    def from_published(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        own = {"embed.weight": tensors["in.matrix"].T, "embed.bias": tensors["in.bias"]}
        return own, {"head": tensors["head"]}

    def to_published(self, state: Mapping[str, Tensor], unused: Mapping[str, Tensor]) -> dict[str, Tensor]:
        bias = state["embed.bias"]
        head = unused.get("head", torch.zeros(3, len(bias), device=bias.device))
        return {"in.matrix": state["embed.weight"].T, "in.bias": bias, "head": head}


class Forgetful(Rings):
    """An encoder whose mapping omits a tensor."""

    def from_published(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        own, unused = super().from_published(tensors)
        del own["embed.bias"]
        return own, unused


class Greedy(Rings):
    """An encoder whose mapping overwrites a tensor of the layout."""

    def to_published(self, state: Mapping[str, Tensor], unused: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**super().to_published(state, unused), "format": state["embed.bias"]}


def installed(host: PluginHost, component: type, layout: str = LAYOUT) -> Registry:
    module = host.install("rings", host.component(Kind.STRUCT, "rings", component))
    Path(str(module.__file__)).with_name("registry.toml").write_text(layout)
    return discover()


def published() -> dict[str, Tensor]:
    torch.manual_seed(0)
    tensors = {"net.in.matrix": torch.rand(21, 5), "net.in.bias": torch.rand(5), "net.head": torch.rand(3, 5)}
    return {**tensors, "format": torch.tensor([2, 1])}


def saved(path: Path, state: dict[str, Any]) -> Path:
    torch.save(state, path)
    return path


def refused(state: dict[str, Any], tmp_path: Path) -> str:
    with pytest.raises((PluginError, WeightsError)) as caught:
        import_file(discover(), saved(tmp_path / "rings.pt", state), tmp_path / "imported")
    assert not (tmp_path / "imported").exists()
    return str(caught.value)


def test_a_file_of_a_plugins_model_goes_there_and_back(host: PluginHost, tmp_path: Path) -> None:
    registry = installed(host, Rings)
    content = import_file(registry, saved(tmp_path / "rings.pt", published()), tmp_path / "imported")
    assert content.model.layout.name == "rings"
    assert content.num_parameters == 21 * 5 + 5 + 3 * 5
    assert EncoderFolder(tmp_path / "imported").tables()["struct"]["hidden_dim"] == 5
    ours = EncoderFolder(tmp_path / "imported").tensors(registry)
    assert torch.equal(ours["structure.embed.weight"], published()["net.in.matrix"].T)
    exported = export_folder(registry, tmp_path / "imported", tmp_path / "exported.pt")
    assert exported.unused_from == tmp_path / "imported" / "extras.safetensors"
    again = torch.load(tmp_path / "exported.pt", weights_only=True)
    assert again.keys() == published().keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in published().items())


def test_a_component_without_a_mapping_is_published_unchanged(host: PluginHost, tmp_path: Path) -> None:
    registry = installed(host, Plain)
    state = {
        "net.embed.weight": torch.rand(8, 21),
        "net.embed.bias": torch.rand(8),
        "format": torch.tensor([2, 1]),
    }
    import_file(registry, saved(tmp_path / "plain.pt", state), tmp_path / "imported")
    exported = export_folder(registry, tmp_path / "imported", tmp_path / "exported.pt")
    assert not exported.has_unused
    assert all(torch.equal(exported.state[name], tensor) for name, tensor in state.items())


def test_differences_are_named_by_published_names(host: PluginHost, tmp_path: Path) -> None:
    installed(host, Rings)
    state = {**published(), "net.in.matrix": torch.rand(20, 5), "net.tail": torch.rand(1)}
    del state["net.head"]
    assert refused(state, tmp_path).splitlines()[1:] == [
        "  missing: net.head [3, 5]",
        "  unexpected: net.tail [1]",
        "  wrong shape: net.in.matrix [20, 5] in the file, [21, 5] expected",
    ]
    assert refused({**published(), "format": torch.tensor([2, 2])}, tmp_path).splitlines()[1:] == [
        "  wrong values: format differs from the constant in all files of this layout"
    ]


def test_a_mapping_that_leaves_a_parameter_unfilled_is_refused(host: PluginHost, tmp_path: Path) -> None:
    installed(host, Forgetful)
    text = refused(published(), tmp_path)
    assert text.startswith("[layout.rings] in ")
    assert text.endswith("does not match the encoder: structure.embed.bias")


def test_a_layout_without_a_part_that_has_parameters_is_refused(host: PluginHost, tmp_path: Path) -> None:
    registry = installed(host, Rings, LAYOUT.replace('seq = "onehot"', 'seq = "esm2_tiny"'))
    state = {**published(), "net.in.matrix": torch.rand(32, 5)}
    assert "rings" in registry.catalogue.layouts
    assert "does not match the encoder: sequence.model." in refused(state, tmp_path)


def test_two_tensors_of_one_name_are_refused(host: PluginHost, tmp_path: Path) -> None:
    installed(host, Greedy, LAYOUT.replace('"net."', '""'))
    state = {name.removeprefix("net."): tensor for name, tensor in published().items()}
    assert refused(state, tmp_path).endswith("two components have the tensor format")


def test_an_encoder_that_no_layout_holds_is_not_exported(host: PluginHost, tmp_path: Path) -> None:
    registry = installed(host, Rings)
    import_file(registry, saved(tmp_path / "rings.pt", published()), tmp_path / "imported")
    layouts = registry.catalogue.layouts
    with pytest.raises(WeightsError) as caught:
        export_folder(registry, tmp_path / "imported", tmp_path / "x.pt", layouts["gearnet"])
    assert str(caught.value).splitlines()[0] == (
        f"the layout gearnet does not match the encoder in {tmp_path / 'imported'}: "
        "seq onehot, struct rings, fuse serial"
    )
