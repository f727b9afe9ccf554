"""Small models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from esmgn_core.batch import Protein
from esmgn_core.inference.model import Model, ModelName, load_model

DATA = Path(__file__).parents[3] / "shared" / "data"
SMALL = ModelName(
    names={"seq": "esm2_tiny", "struct": "gearnet", "fuse": "serial"},
    changes=("struct.hidden_dim=8", "struct.num_layers=2"),
)
SEQUENCE = ModelName(names={"seq": "esm2_tiny"})


@pytest.fixture(scope="session")
def small() -> Model:
    return load_model(SMALL, device="cpu")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the proteins that pass through a model from now on."""
    names: list[str] = []
    embed_batch: Callable[..., object] = Model.embed_batch

    def counting(model: Model, batch: list[Protein]) -> object:
        names.extend(protein.name for protein in batch)
        return embed_batch(model, batch)

    monkeypatch.setattr(Model, "embed_batch", counting)
    return names
