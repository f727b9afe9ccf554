"""The dataset `folder` reads what it can, accounts for the rest and splits by sequence."""

import sys
from pathlib import Path
from random import Random

import gemmi
import pytest
import torch
from pydantic import ValidationError

from esmgn_core.errors import DataError, SettingsError, StructureError
from esmgn_datasets.structure_folder import StructureFolder

EDGE = Path(__file__).parents[4] / "shared" / "data" / "structures" / "edge"


def ca_trace(sequence):
    """PDB text of alpha carbons 3.8 A apart on a line."""
    return "".join(
        f"ATOM  {i:>5}  CA  {name} A{i:>4}    {3.8 * i:8.3f}   0.000   0.000  1.00 20.00           C\n"
        for i, name in enumerate(gemmi.expand_one_letter_sequence(sequence, gemmi.ResidueKind.AA), 1)
    )


def write(folder, **sequences):
    folder.mkdir(exist_ok=True)
    for name, sequence in sequences.items():
        (folder / f"{name}.pdb").write_text(ca_trace(sequence))
    return folder


def folder(path, **settings):
    return StructureFolder(StructureFolder.Settings(path=path, **settings))


def names(dataset):
    return [dataset[index].name for index in range(len(dataset))]


def test_files_of_a_folder_become_proteins_in_order(tmp_path):
    dataset = folder(write(tmp_path, b="MKV", a="GGS"))
    assert names(dataset) == ["a", "b"]
    assert dataset[1].sequence == "MKV"
    assert dataset.group_size == 1
    assert dataset.refused == ()


def test_several_paths_files_and_folders(tmp_path):
    one, two = write(tmp_path / "one", a="MKV"), write(tmp_path / "two", b="GGS", c="WWW")
    dataset = folder((one, two / "c.pdb"))
    assert names(dataset) == ["a", "c"]


def test_a_path_may_be_given_as_one_string(tmp_path):
    write(tmp_path, a="MKV")
    assert StructureFolder.Settings(path=str(tmp_path)).path == (tmp_path,)
    assert StructureFolder.Settings.model_validate({"path": [str(tmp_path)]}).path == (tmp_path,)


def test_files_of_one_name_in_two_folders_keep_apart(tmp_path):
    write(tmp_path / "one", a="MKV")
    write(tmp_path / "two", a="GGS", b="WWW")
    assert names(folder(tmp_path)) == ["one/a", "two/a", "b"]


def test_bad_files_are_refused_and_the_others_read(tmp_path):
    write(tmp_path, a="MKV", c="GGS")
    (tmp_path / "b.pdb").write_text("<html>404</html>")
    dataset = folder(tmp_path)
    assert names(dataset) == ["a", "c"]
    (refusal,) = dataset.refused
    assert refusal.path == tmp_path / "b.pdb"
    assert refusal.reason.startswith("an HTML page")


def test_proteins_outside_the_length_bounds_are_refused_with_the_reason(tmp_path):
    write(tmp_path, a="MK", b="MKV", c="MKVL", d="MKVLL")
    dataset = folder(tmp_path, min_length=3, max_length=4)
    assert names(dataset) == ["b", "c"]
    assert [(refusal.path.name, refusal.reason) for refusal in dataset.refused] == [
        ("a.pdb", "2 residues, fewer than min_length 3"),
        ("d.pdb", "5 residues, more than max_length 4"),
    ]


# Splits


def numbered(count):
    letters = "ACDEFGHIKLMNPQRSTVWY"
    return {f"p{i:03}": "M" + letters[i % 20] + letters[i // 20] for i in range(count)}


def test_the_splits_divide_the_proteins_by_the_fraction(tmp_path):
    dataset = folder(write(tmp_path, **numbered(200)), valid_fraction=0.2)
    train, valid = dataset.split("train"), dataset.split("valid")
    assert sorted([*train, *valid]) == list(range(200))
    assert 20 <= len(valid) <= 60


def test_without_a_fraction_no_protein_is_for_validation(tmp_path):
    dataset = folder(write(tmp_path, **numbered(20)), valid_fraction=0)
    assert len(dataset.split("train")) == 20
    assert dataset.split("valid") == []


def test_copies_of_a_sequence_are_on_one_side(tmp_path):
    sequences = numbered(60)
    write(tmp_path / "one", **sequences)
    write(tmp_path / "two", **sequences)
    dataset = folder(tmp_path, valid_fraction=0.3)
    validation = {dataset[index].sequence for index in dataset.split("valid")}
    assert validation
    assert validation.isdisjoint(dataset[index].sequence for index in dataset.split("train"))


def test_the_split_of_a_protein_does_not_depend_on_the_others(tmp_path):
    def validation(dataset):
        return {dataset[index].sequence for index in dataset.split("valid")}

    sequences = numbered(60)
    few = folder(write(tmp_path / "few", **dict(list(sequences.items())[:30])), valid_fraction=0.3)
    many = folder(write(tmp_path / "many", **sequences), valid_fraction=0.3)
    assert validation(few) == validation(many) & {few[index].sequence for index in range(len(few))}
    assert validation(few)


@pytest.mark.parametrize("sequence", ["MKV", "GGS", "WWW", "MTT", "AAA"])
def test_training_is_never_left_without_a_protein(tmp_path, sequence):
    dataset = folder(write(tmp_path, only=sequence), valid_fraction=0.999)
    assert list(dataset.split("train")) == [0]
    assert list(dataset.split("valid")) == []


# What a user can get wrong


def test_no_path_is_said_with_the_flag_to_use():
    with pytest.raises(SettingsError) as error:
        StructureFolder(StructureFolder.Settings())
    assert str(error.value) == "the dataset 'folder' needs a path\n  set it: --data PATH"


def test_a_missing_path(tmp_path):
    with pytest.raises(StructureError, match=r"^no such file or directory: .*nowhere$"):
        folder(tmp_path / "nowhere")


def test_a_folder_without_structure_files(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(StructureError) as error:
        folder(tmp_path)
    assert error.value.message == f"no structure files in {tmp_path}"


def test_a_folder_where_nothing_can_be_read_shows_the_first_reasons(tmp_path):
    for name in "abcde":
        (tmp_path / f"{name}.pdb").write_text("")
    with pytest.raises(StructureError) as error:
        folder(tmp_path)
    assert error.value.message == f"no protein could be read from {tmp_path}, 5 files tried"
    assert error.value.hints == (
        *(f"{tmp_path / name}.pdb: the file is empty" for name in "abc"),
        "... and 2 more",
    )


def test_length_bounds_that_exclude_everything(tmp_path):
    with pytest.raises(StructureError, match=r"3 residues, more than max_length 2"):
        folder(write(tmp_path, a="MKV"), max_length=2)


@pytest.mark.parametrize("settings", [{"valid_fraction": 1.0}, {"valid_fraction": -0.1}, {"min_length": 0}])
def test_settings_out_of_bounds(settings):
    with pytest.raises(ValidationError):
        StructureFolder.Settings(**settings)


def test_every_setting_is_described():
    assert all(field.description for field in StructureFolder.Settings.model_fields.values())


def test_the_progress_bar_is_for_terminals_only(tmp_path, monkeypatch, capsys):
    write(tmp_path, a="MKV")
    folder(tmp_path)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    folder(tmp_path)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "reading structures" in captured.err


@pytest.mark.skipif(not EDGE.is_dir(), reason=f"needs the structure files in {EDGE}")
def test_a_folder_of_hard_and_broken_files():
    dataset = folder(EDGE)
    assert (len(dataset), len(dataset.refused)) == (41, 18)
    assert len(set(names(dataset))) == 41
    assert {"mse_1a8o.pdb.gz", "mse_1a8o.cif.gz"} <= set(names(dataset))
    assert all(torch.isfinite(dataset[index].backbone[:, 1]).all() for index in range(len(dataset)))


def test_every_entry_of_the_folder_is_accounted_for(tmp_path):
    write(tmp_path, a="MKV")
    (tmp_path / "b.pdb1").write_text(ca_trace("GGS"))
    (tmp_path / "c.pqr").write_text(ca_trace("GGS"))
    (tmp_path / "d.pdb").symlink_to("nowhere")
    (tmp_path / "t.tsv").write_text("x")
    dataset = folder(tmp_path)
    assert names(dataset) == ["a", "b.pdb1"]
    assert {refusal.path.name: refusal.reason.partition(":")[0] for refusal in dataset.refused} == {
        "c.pqr": "PQR format has charges and radii instead of occupancy and B-factor",
        "d.pdb": "a link to nowhere, which does not exist",
    }
    assert dataset.passed_over == "1 other file passed over (1 .tsv)"


LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def mutants(length=40, number=20):
    """A protein of a formula, with one substitution each."""
    wild = "".join(LETTERS[(7 * place * place + 3 * place) % 19] for place in range(length))
    return {f"mutant{place}": f"{wild[:place]}Y{wild[place + 1 :]}" for place in range(1, number + 1)}


def others(number=40, length=30):
    random = Random(0)  # noqa: S311 - test data
    return {f"other{place}": "".join(random.choices(LETTERS, k=length)) for place in range(number)}


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_point_mutants_of_one_protein_are_in_one_split(tmp_path, fraction):
    dataset = folder(write(tmp_path, **mutants(), **others()), valid_fraction=fraction)
    found = {dataset[index].name for index in dataset.split("valid")}
    assert len(found & mutants().keys()) in (0, 20)
    assert found


def test_fragments_of_an_accession_are_in_one_split(tmp_path):
    names = [f"AF-P{place // 4}-F{place % 4 + 1}-model_v4" for place in range(40)]
    files = dict(zip(names, others().values(), strict=True))
    for fraction in (0.1, 0.5, 0.9):
        dataset = folder(write(tmp_path, **files), valid_fraction=fraction)
        found = {dataset[index].name for index in dataset.split("valid")}
        assert all(len([name for name in found if f"-P{family}-" in name]) in (0, 4) for family in range(10))
        assert found or fraction == 0.1


def test_the_note_says_how_the_splits_were_made(tmp_path):
    paths = write(tmp_path, **mutants(), **others(25))
    note = folder(paths, valid_fraction=0.3).notes[-1]
    assert note.startswith("splits made by the dataset: ")
    assert "26 groups of related proteins, the largest of 20; checked: identical sequences, " in note
    assert "at least 50 % of the smaller one's 5-mers; not checked: remote homology (use" in note
    note = folder(paths, valid_fraction=0.3, shared_kmers=0).notes[-1]
    assert "45 groups of related proteins" in note
    assert "not checked: 5-mers, remote homology" in note
    assert folder(paths, valid_fraction=0).notes == []


def test_the_note_says_how_to_get_a_validation_set(tmp_path):
    """Few proteins: the hashes of their sequences may leave the validation set empty."""
    paths = write(tmp_path, **others(4))
    [note] = folder(paths, valid_fraction=0.001).notes
    assert "4 train, 0 valid (for a validation set raise data.valid_fraction); 4 groups" in note


def test_proteins_related_to_a_test_set_are_left_out_and_listed(tmp_path):
    draw = Random(3)  # noqa: S311 - made-up sequences
    one, two, three = ("".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=60)) for _ in range(3))
    test = write(tmp_path / "test", t1=one[:30] + "W" + one[31:], t2="GG")
    path = write(tmp_path / "train", a=one, b=two, c="GG", d=three)
    dataset = folder(path, exclude_similar_to=test)
    assert names(dataset) == ["b", "d"]
    reasons = {item.path.name: item.reason for item in dataset.refused}
    assert reasons == {
        "a.pdb": f"related to t1 of {test} (exclude_similar_to)",
        "c.pdb": f"related to t2 of {test} (exclude_similar_to)",
    }
    assert dataset.notes[0] == (f"left out as related to 2 proteins of {test}: 2 proteins: a (t1), c (t2)")
    identical = folder(path, exclude_similar_to=test, shared_kmers=0)
    assert names(identical) == ["a", "b", "d"]
    with pytest.raises(StructureError, match="no such file"):
        folder(path, exclude_similar_to=tmp_path / "none")


def test_proteins_found_by_mmseqs_are_left_out_too(tmp_path, monkeypatch):
    """A program in the place of MMseqs2 that finds the second protein for the first test protein."""
    path = write(tmp_path / "train", a="ACDEFGHIK", b="WWYYWWYYW", c="GGGAAAGGG")
    test = write(tmp_path / "test", t1="ACDEFGHIK")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="a sequence identity needs MMseqs2"):
        folder(path, exclude_similar_to=test, exclude_identity=0.3)
    program = tmp_path / "bin" / "mmseqs"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1 $7" = "easy-search 0.3" ] && printf "0_0\\t1_1\\t0.9\\n" > "$4"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    assert names(folder(path, exclude_similar_to=test)) == ["b", "c"]
    dataset = folder(path, exclude_similar_to=test, exclude_identity=0.3)
    assert names(dataset) == ["c"]
    assert "2 proteins: a (t1), b (t1)" in dataset.notes[0]
