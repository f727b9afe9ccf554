"""``esmgn neighbors`` as typed."""

from __future__ import annotations

from pathlib import Path

from .conftest import Esmgn

MODEL = ("--seq", "esm2_tiny", "--struct", "gearnet", "--set", "struct.hidden_dim=8")


def test_a_query_of_the_file_is_left_out_and_random_weights_are_named(
    esmgn: Esmgn, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.npz"
    esmgn("embed", folder, "-o", out, *MODEL, "--devices", "cpu")
    by_file = esmgn("neighbors", folder / "protein3.pdb", "--in", out, "--device", "cpu")
    by_name = esmgn("neighbors", "protein3", "--in", out)
    assert by_file.out == by_name.out
    assert "protein3" not in by_file.out
    assert (
        by_file.err.splitlines()
        == by_name.err.splitlines()
        == [
            "warning: random weights: sequence encoder, structure encoder",
            "note: the query is in the file as 'protein3' and is left out",
        ]
    )
