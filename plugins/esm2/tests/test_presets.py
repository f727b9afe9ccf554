import tomllib

import pytest

import esmgn_esm2
from esmgn_core.host.presets import shipped_registry
from esmgn_core.spec import Kind
from esmgn_esm2.encoder import ESM2

PUBLISHED = {
    "esm2_8m": ("esm2_t6_8M_UR50D.pt", 6, 320, 20),
    "esm2_35m": ("esm2_t12_35M_UR50D.pt", 12, 480, 20),
    "esm2_150m": ("esm2_t30_150M_UR50D.pt", 30, 640, 20),
    "esm2_650m": ("esm2_t33_650M_UR50D.pt", 33, 1280, 20),
    "esm2_3b": ("esm2_t36_3B_UR50D.pt", 36, 2560, 40),
    "esm2_15b": ("esm2_t48_15B_UR50D.pt", 48, 5120, 40),
}


def preset_settings(name) -> ESM2.Settings:
    preset = tomllib.loads(shipped_registry().read_text())["seq"][name]
    assert preset["component"] == "esm2"
    checkpoint = {"checkpoint": preset["checkpoint"]} if "checkpoint" in preset else {}
    return ESM2.Settings(**preset["settings"], **checkpoint)


@pytest.mark.parametrize("name", PUBLISHED)
def test_preset_is_the_published_model(name):
    """Size as in the name of the file; file, checksum and licence are known."""
    settings = preset_settings(name)
    filename, *size = PUBLISHED[name]
    assert [settings.num_layers, settings.embed_dim, settings.attention_heads] == size
    assert settings.weights == "pretrained"
    assert settings.checkpoint.filename == filename
    assert settings.checkpoint.license == "MIT"


def test_tiny_preset_needs_no_weights():
    assert ESM2(preset_settings("esm2_tiny")).weights_sha256 is None


def test_plugin_declares_the_encoders():
    found = [(spec.kind, spec.name, spec.target) for spec in esmgn_esm2.esmgn_components()]
    assert found == [
        (Kind.SEQ, "esm1", "esmgn_esm2.esm1:ESM1"),
        (Kind.SEQ, "esm2", "esmgn_esm2.encoder:ESM2"),
    ]
