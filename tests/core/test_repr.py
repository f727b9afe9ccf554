"""What Python prints for values of many residues: one short line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

import esmgn_core
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.io.write import pdb_text
from esmgn_core.store import BuildOptions, Store, build
from esmgn_core.testing import example_batch, example_proteins


def test_values_of_many_residues_print_one_line(tmp_path: Path) -> None:
    """A list of 25 proteins took thousands of lines of tensors."""
    two_chains, single = example_proteins()[:2]
    model = esmgn_core.load(seq="esm2_tiny", device="cpu")
    (tmp_path / "two_chains.pdb").write_text(pdb_text(two_chains))
    build([str(tmp_path / "two_chains.pdb")], tmp_path / "store", BuildOptions(workers=1))
    batch = example_batch()
    edges = torch.tensor([[0, 1], [1, 0]])
    shown = {
        repr(two_chains): "Protein('two_chains', 40 residues, 2 chains)",
        repr(single): "Protein('single', 1 residue, 1 chain)",
        repr(batch): "ProteinBatch(5 proteins, 196 residues, on cpu)",
        repr(ProteinBatch.from_proteins([single])): "ProteinBatch(1 protein, 1 residue, on cpu)",
        repr(Encoding(torch.zeros(196, 8), torch.zeros(5, 8))): (
            "Encoding(5 proteins, 196 residues, width 8, on cpu)"
        ),
        repr(ResidueGraph.from_edges(edges, torch.zeros(2, dtype=torch.int64), 7)): (
            "ResidueGraph(2 edges, 7 relations)"
        ),
        repr(model): "Model('seq esm2_tiny', width 32, on cpu, random weights: sequence encoder)",
        repr(model.embed(single)): "Embedding('single', 1 residue, width 32)",
        repr(Store(tmp_path / "store")): f"Store('{tmp_path / 'store'}', 1 protein, 40 residues)",
    }
    assert list(shown) == list(shown.values())


def test_a_name_with_a_line_end_prints_one_line() -> None:
    protein = example_proteins()[1]
    assert "\n" not in repr(replace(protein, name="a\nb"))
