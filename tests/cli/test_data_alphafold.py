"""An archive as AlphaFold DB serves it becomes a store, and the store is trained on."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from esmgn_core.io.write import pdb_text
from esmgn_core.store import Store
from esmgn_core.testing import example_proteins

from ..store.conftest import tar
from .conftest import Esmgn

MODELS = Path(__file__).parents[3] / "shared" / "data" / "structures" / "afdb"
TITLE = "TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR A PROTEIN OF {} (Q{})"
SMALL = (
    *("--seq", "onehot", "--struct", "gearnet", "--fuse", "serial", "--pretext", "residue_type"),
    *("--set", "struct.num_layers=1", "--set", "struct.hidden_dim=8", "--set", "train.max_steps=2"),
)


def made_up() -> dict[str, bytes]:
    """Chains of standard residues with whole backbones and pLDDT, under the title of the models."""
    files = {}
    for number in range(6):
        protein = example_proteins(seed=number)[0]
        protein = replace(
            protein,
            residue_type=protein.residue_type % 20,
            backbone=protein.backbone.nan_to_num(1.0),
            atom_mask=torch.ones_like(protein.atom_mask),
            plddt=torch.full((len(protein),), 60.0 + 5 * number),
        )
        text = pdb_text(protein).replace("PARENT N/A", TITLE.format("YEAST", number).ljust(80), 1)
        files[f"AF-Q0000{number}-F1-model_v2.pdb.gz"] = gzip.compress(text.encode())
    return files


def built_and_trained(esmgn: Esmgn, files: dict[str, bytes], folder: Path) -> Store:
    archive = tar(folder / "UP000002311_559292_YEAST_v2.tar", files)
    store = folder / "store"
    built = esmgn("data", "build", archive, "-o", store, "--workers", 1)
    assert built.status == 0, built.err
    trained = esmgn("run", "--data", store, *SMALL, "--out", folder / "run")
    assert trained.status == 0, trained.err
    assert f'path = "{store}"' in (folder / "run" / "config.toml").read_text()
    return Store(store)


def test_a_made_up_proteome_is_built_and_trained_on(esmgn: Esmgn, tmp_path: Path):
    files = made_up()
    store = built_and_trained(esmgn, files, tmp_path)
    assert store.names == [name.removesuffix(".pdb.gz") for name in files]
    plddt = store.index(["mean_plddt"]).column("mean_plddt").to_pylist()
    assert plddt == [60, 65, 70, 75, 80, 85]


@pytest.mark.skipif(not MODELS.is_dir(), reason=f"needs the models of AlphaFold DB in {MODELS}")
def test_the_real_models_are_built_and_trained_on(esmgn: Esmgn, tmp_path: Path):
    """If a model exists as PDB and as mmCIF, the PDB file is read."""
    files = {path.name: path.read_bytes() for path in sorted(MODELS.iterdir())}
    store = built_and_trained(esmgn, files, tmp_path)
    assert len(files) == 98
    assert set(store.names) == {name.partition(".")[0] for name in files}
    assert len(store) == len(store.names) == 93
    assert store.index(["mean_plddt"]).column("mean_plddt").null_count == 0
    reasons = store.index(["reason"], refused=True).column("reason").to_pylist()
    assert reasons == ["its .pdb twin is read instead"] * 5
