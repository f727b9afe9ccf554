"""pLDDT comes from files that say they are predictions, never from values that look like it."""

from pathlib import Path

import pytest
import torch

from esmgn_core.io import read_protein

from .made_up import chain, cif, pdb

TITLE = "TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR ADRENODOXIN (P00257)\n"
XRAY = "EXPDTA    X-RAY DIFFRACTION\n"
MODEL_CIF = """\
loop_
_ma_qa_metric.id
_ma_qa_metric.mode
_ma_qa_metric.name
_ma_qa_metric.type
1 global pLDDT pLDDT
2 {mode} {name} {type}
"""


def atoms(*values):
    return [atom for i, value in enumerate(values, 1) for atom in chain("ALA", start=i, b_factor=value)]


@pytest.mark.parametrize(
    "header",
    [
        TITLE,
        "HEADER    01-JUN-22\n" + TITLE,
        "TITLE     ESMFOLD V1 PREDICTION FOR INPUT\n",
        "PARENT N/A\n",
        "REMARK 1\nPARENT N/A\n",
        TITLE + "EXPDTA    THEORETICAL MODEL\n",
    ],
)
def test_headers_of_predicted_models(read, header):
    protein = read(header + pdb(atoms(91.25, 45.5)))
    assert protein.plddt.tolist() == [91.25, 45.5]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "TITLE     CRYSTAL STRUCTURE OF LYSOZYME\n",
        "TITLE     STRUCTURE SOLVED WITH AN ALPHAFOLD PREDICTION\n",
        XRAY + TITLE,
        XRAY + "PARENT N/A\n",
        "EXPDTA    SOLUTION NMR\n",
        "EXPDTA    THEORETICAL MODEL\n",
        "PFRMAT TS\nTARGET T1024\nMODEL 1\nPARENT N/A\n",
    ],
)
def test_b_factors_of_other_files_are_no_plddt(read, header):
    """Though every value lies between 0 and 100, as crystallographic B-factors do."""
    assert read(header + pdb(atoms(91.25, 45.5))).plddt is None


def test_a_scale_of_0_to_1_is_brought_to_0_to_100(read):
    torch.testing.assert_close(
        read("PARENT N/A\n" + pdb(atoms(0.91, 0.45))).plddt, torch.tensor([91.0, 45.0])
    )


@pytest.mark.parametrize("values", [(0.0, 0.0), (120.0, 50.0), (-1.0, 50.0)])
def test_values_outside_the_scale_are_no_plddt_whatever_the_header_says(read, values):
    assert read(TITLE + pdb(atoms(*values))).plddt is None


@pytest.mark.parametrize(
    "name",
    [
        "AF-P00257-F1-model_v4.pdb",
        "AF-P12345-2-F1-model_v6.pdb",
        "query_unrelaxed_rank_001_alphafold2_ptm_model_3_seed_000.pdb",
        "query_relaxed_rank_001_alphafold2_ptm_model_3_seed_000.pdb",
        "x_relaxed_rank_1_model_3.pdb",
        "relaxed_model_1_pred_0.pdb",
        "relaxed_model_1_pred_0.pdb.gz",
        "unrelaxed_model_1_pred_0.pdb",
        "unrelaxed_model_1_multimer_v3_pred_0.pdb",
        "relaxed_model_5_multimer_v2_pred_4.pdb",
        "unrelaxed_model_1_ptm_pred_0.pdb",
        "relaxed_model_2_ptm.pdb",
        "unrelaxed_model_3.pdb",
        "1UBQ_model_1_ptm_relaxed.pdb",
        "target_model_3_unrelaxed.pdb",
        "pred.model_idx_0.pdb",
    ],
)
def test_a_file_without_header_is_known_by_the_name_its_program_gave(read, name):
    assert read(pdb(atoms(91.0, 45.0)), name).plddt is not None
    assert read(XRAY + pdb(atoms(91.0, 45.0)), name).plddt is None


@pytest.mark.parametrize(
    "name", ["AF-fingers.pdb", "P00257.pdb", "relaxed.pdb", "relaxed_loop.pdb", "model_1.pdb", "pred.pdb"]
)
def test_other_names_say_nothing(read, name):
    protein = read(pdb(atoms(91.0, 45.0)), name)
    assert protein.plddt is None
    assert protein.notes == ()


@pytest.mark.parametrize(
    "name", ["ranked_0.pdb", "ranked_12.pdb.gz", "relaxed_model_1.pdb", "t_ranked_3.pdb"]
)
def test_a_name_that_other_programs_use_too_is_noted(read, name):
    """Docking programs rank their models as well; their B-factors are something else."""
    protein = read(pdb(atoms(91.0, 45.0)), name)
    assert protein.plddt is None
    assert [note.partition(":")[0] for note in protein.notes] == [
        "named like a model of AlphaFold 2, but other programs use this name too"
    ]
    assert read(XRAY + pdb(atoms(91.0, 45.0)), name).notes == ()
    assert read("PARENT N/A\n" + pdb(atoms(91.0, 45.0)), name).notes == ()


CASES = Path(__file__).parents[3] / "shared" / "cases" / "plddt-of-alphafold2-own-outputs"


@pytest.mark.skipif(not CASES.is_dir(), reason=f"needs {CASES}")
def test_the_models_of_a_bug_report():
    for path in CASES.glob("*.pdb"):
        protein = read_protein(path)
        if path.name == "ranked_0.pdb":
            assert len(protein.notes) == 1
        else:
            assert protein.plddt.tolist()[:3] == [91.0, 92.0, 93.0]


BOLTZ = CASES.parent / "boltz-plddt-two-scales" / "c_boltz.cif"


@pytest.mark.skipif(not BOLTZ.is_file(), reason=f"needs {BOLTZ}")
def test_boltz_writes_two_scales():
    plddt = read_protein(BOLTZ).plddt
    assert plddt is not None
    torch.testing.assert_close(plddt[:3], torch.tensor([90.0, 89.0, 88.0]))


@pytest.mark.parametrize(
    ("name", "type"), [("pLDDT", "pLDDT"), ("pLDDT", "other"), ("'local pLDDT'", "other")]
)
def test_modelcif_with_a_local_plddt_metric(read, name, type):  # noqa: A002 - named like the item
    text = cif(atoms(91.25, 45.5), MODEL_CIF.format(mode="local", name=name, type=type))
    assert read(text).plddt.tolist() == [91.25, 45.5]


@pytest.mark.parametrize(
    "category",
    [
        MODEL_CIF.format(mode="local", name="QMEANDisCo", type="other"),
        MODEL_CIF.format(mode="global", name="pLDDT", type="pLDDT"),
        MODEL_CIF.format(mode="local", name="pLDDT", type="pLDDT") + "_exptl.method 'X-RAY DIFFRACTION'\n",
        "_struct.title 'Structure of a protein'\n",
    ],
)
def test_other_mmcif_has_no_plddt(read, category):
    assert read(cif(atoms(91.25, 45.5), category)).plddt is None


def test_plddt_is_that_of_the_alpha_carbon(read):
    """Programs such as AlphaFold 3 give each atom its own value."""
    values = {"N": 80.0, "CA": 90.0, "C": 70.0, "O": 60.0}
    lines = [
        type(atom)(**{**atom.__dict__, "b_factor": values[atom.name]})
        for atom in chain("ALA", "GLY", start=1)
    ]
    assert read(TITLE + pdb(lines)).plddt.tolist() == [90.0, 90.0]
