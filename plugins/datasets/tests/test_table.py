"""The dataset ``csv`` reads a table of one's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from esmgn_core.errors import SettingsError
from esmgn_core.io.write import mmcif_text
from esmgn_core.spec import Kind
from esmgn_core.testing import check_component, example_proteins
from esmgn_core.testing.files import write_pdb
from esmgn_datasets.table import Table


@pytest.fixture
def folder(tmp_path):
    for protein in example_proteins():
        write_pdb(protein, tmp_path / "files" / f"{protein.name}.pdb")
    return tmp_path


def write(folder, text):
    table = folder / "table.csv"
    table.write_text(text)
    return table


def build(table, **settings):
    return Table(Table.Settings(table=table, structures=table.parent / "files", **settings))


ROWS = """file,label,split
long.pdb,"membrane, enzyme",train
two_chains,enzyme,train
predicted,,valid
pair,membrane,test
single,enzyme,
"""


def test_it_keeps_its_contract(folder):
    table = write(folder, ROWS)
    check_component(Kind.DATA, "csv", table=str(table), structures=str(folder / "files"))


def test_lists_of_classes_with_and_without_file_endings(folder):
    dataset = build(write(folder, ROWS))
    assert dataset.label_names == ("enzyme", "membrane")
    assert [dataset[index].name for index in range(len(dataset))] == [
        "long.pdb",
        "two_chains",
        "predicted",
        "pair",
    ]
    assert dataset.labels(range(4)).tolist() == [[1, 1], [1, 0], [0, 0], [0, 1]]
    assert dataset.test_sets == {"test": [3]}


def test_classes_in_the_order_of_a_file(folder):
    classes = folder / "classes.txt"
    classes.write_text("membrane\nother\nenzyme\n")
    dataset = build(write(folder, ROWS), classes=classes)
    assert dataset.labels([0]).tolist() == [[1, 0, 1]]
    classes.write_text("membrane\n")
    with pytest.raises(SettingsError, match="'enzyme' is not in"):
        build(write(folder, ROWS), classes=classes)


def test_one_class_numbers_and_pairs(folder):
    one = build(
        write(folder, "file,fold,split\nlong,b,train\npair,a,valid\nsingle,,test\n"),
        kind="classification",
        labels="fold",
    )
    assert one.labels([0, 1]).tolist() == [[1], [0]]
    assert one.labels([2]).isnan().all()
    numbers = build(
        write(folder, "file,tm,ph,split\nlong,51.5,,train\npair,3,7,test_hot\n"),
        kind="regression",
        labels=["tm", "ph"],
    )
    assert numbers.labels([0, 1]).nan_to_num(-1).tolist() == [[51.5, -1], [3, 7]]
    assert set(numbers.test_sets) == {"test_hot"}
    pairs = build(
        write(folder, "file,mutant,label,split\nlong,long,1,train\npair,single,0,train\n"), kind="pairs"
    )
    assert pairs.group_size == 2
    assert [protein.name for protein in (pairs[0], pairs[1])] == ["long", "long:mutant"]
    assert [item.reason for item in pairs.refused] == ["2 residues, its mutant 1"]


def test_one_chain_of_a_file(folder):
    rows = ("two_chains,1ABC-B", "two_chains,1ABC-A", "long,1ABC-Z")
    text = "file,pdb_chain,label,split\n" + "".join(f"{row},x,train\n" for row in rows)
    dataset = build(write(folder, text), chain_column="pdb_chain")
    assert [(dataset[index].name, len(dataset[index])) for index in range(2)] == [
        ("two_chains:B", 23),
        ("two_chains:A", 17),
    ]
    assert [item.reason for item in dataset.refused] == ["it has no chain 1ABC-Z, only A"]


def test_a_chain_with_copies_is_refused_and_each_copy_has_a_name(folder):
    """Copies are called A-1 and A-2; ``pair-A`` names neither, ``pair-A-2`` the second."""
    two_chains = example_proteins()[0]
    assert two_chains.chains == ("A", "B")
    text = mmcif_text(replace(two_chains, chains=("A-1", "A-2")))
    (folder / "files" / "copies.cif").write_text(text)
    names = ("A", "copies-A", "A-1", "copies-A-2", "COPIES_A-1-2", "2")
    rows = "".join(f"copies,{name},{number},x,train\n" for number, name in enumerate(names))
    table = write(folder, f"file,chain,id,label,split\n{rows}")
    dataset = build(table, chain_column="chain", name_column="id")
    lengths = {dataset[index].name: (len(dataset[index]), dataset[index].chains) for index in range(2)}
    assert lengths == {"2": (17, ("A-1",)), "3": (23, ("A-2",))}
    assert [item.reason for item in dataset.refused] == [
        "it has chain A 2 times: name A-1 or A-2",
        "it has chain A 2 times: name A-1 or A-2",
        "it has no chain COPIES_A-1-2, only A-1, A-2",
        "it has no chain 2, only A-1, A-2",
    ]
    unnamed = build(
        write(folder, "file,chain,label,split\ncopies,copies-A-2,x,train\n"), chain_column="chain"
    )
    assert unnamed[0].name == "copies:A-2"


def test_without_a_column_sequences_are_held_out_by_themselves(folder):
    rows = "".join(f"{protein.name},x\n" for protein in example_proteins())
    dataset = build(write(folder, f"file,label\n{rows}"), valid_fraction=0.3, test_fraction=0.3)
    parts = [*dataset.split("train"), *dataset.split("valid"), *dataset.test_sets.get("test", [])]
    assert sorted(parts) == list(range(5))


def test_proteins_of_one_folder_do_not_belong_together_unless_a_column_says_so(folder):
    """Names of the form GROUP/NAME would be resampled, and ranked, as one group."""
    table = folder / "table.csv"
    table.write_text("file,label,target,split\nfiles/long.pdb,1,t1,train\nfiles/pair.pdb,2,t1,train\n")
    plain = Table(Table.Settings(table=table, kind="regression"))
    assert [plain[index].name for index in range(2)] == ["files:long.pdb", "files:pair.pdb"]
    grouped = Table(Table.Settings(table=table, kind="regression", group_column="target"))
    assert [grouped[index].name for index in range(2)] == ["t1/files:long.pdb", "t1/files:pair.pdb"]


def test_short_rows_have_empty_cells(folder):
    dataset = build(write(folder, "file,split,label\nlong,train,a\npair,train\n"))
    assert dataset.labels([0, 1]).tolist() == [[1], [0]]


def test_rows_without_a_file_are_left_out_with_the_reason(folder):
    dataset = build(write(folder, f"{ROWS}missing,enzyme,train\n"))
    assert [(item.path.name, item.reason) for item in dataset.refused] == [
        ("missing", "there is no such file")
    ]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("file,labels,split\nlong,a,train\n", {}, "has no column 'label'\n  did you mean: labels?"),
        ("file,label,split\nlong,a,training\n", {}, "'training' is no split"),
        ("file,label,split\nlong,a,train\nlong,b,train\n", {}, "two rows of .* are called 'long'"),
        (
            "file,label,split\nlong,high,train\n",
            {"kind": "regression"},
            "'high' is no number \\(column 'label'",
        ),
    ],
)
def test_mistakes_in_a_table_name_the_place(folder, text, settings, message):
    with pytest.raises(SettingsError, match=message):
        build(write(folder, text), **settings)


def test_no_table():
    with pytest.raises(SettingsError, match="the dataset 'csv' has no table"):
        Table(Table.Settings())
