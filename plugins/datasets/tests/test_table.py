"""The dataset ``csv`` reads a table of the user."""

from __future__ import annotations

from dataclasses import replace

import pytest

from esmgn_core.errors import SettingsError, StructureError
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


def test_without_a_column_the_dataset_makes_the_splits(folder):
    rows = "".join(f"{protein.name},x\n" for protein in example_proteins())
    dataset = build(write(folder, f"file,label\n{rows}"), valid_fraction=0.3, test_fraction=0.3)
    parts = [*dataset.split("train"), *dataset.split("valid"), *dataset.test_sets.get("test", [])]
    assert sorted(parts) == list(range(5))


def test_relatives_are_in_one_split_and_the_note_says_what_was_compared(folder):
    wild = example_proteins()[2]
    names = []
    for place in range(0, 40, 2):
        changed = wild.residue_type.clone()
        changed[place] = (changed[place] + 1) % 20
        names.append(f"mutant{place}")
        write_pdb(replace(wild, name=names[-1], residue_type=changed), folder / "files" / f"{names[-1]}.pdb")
    for seed in range(1, 7):
        names += [f"AF-Q1-F{seed}-model_v4.pdb", f"single{seed}", f"two{seed}"]
        for name, protein in zip(names[-3:], example_proteins(seed)[::2], strict=False):
            write_pdb(protein, folder / "files" / f"{name.removesuffix('.pdb')}.pdb")
    rows = "".join(f"{name},p{place},{place}\n" for place, name in enumerate(names))
    for fraction in (0.1, 0.4, 0.6):
        dataset = build(
            write(folder, f"file,id,label\n{rows}"),
            name_column="id",
            valid_fraction=fraction,
            test_fraction=0.3,
            **REGRESSION,
        )
        parts = [dataset.split("train"), dataset.split("valid"), dataset.test_sets.get("test", [])]
        for family in (names[:20], names[20::3]):
            rows_of = {f"p{names.index(name)}" for name in family}
            assert sum(any(dataset[index].name in rows_of for index in part) for part in parts) == 1
        assert "chains sharing at least 50 % of the smaller one's 5-mers" in dataset.notes[-1]


def test_proteins_of_one_folder_do_not_belong_together_unless_a_column_says_so(folder):
    """Names of the form GROUP/NAME would be resampled, and ranked, as one group."""
    table = folder / "table.csv"
    table.write_text("file,label,target,split\nfiles/long.pdb,1,t1,train\nfiles/pair.pdb,2,t1,train\n")
    plain = Table(Table.Settings(table=table, kind="regression"))
    assert [plain[index].name for index in range(2)] == ["files:long.pdb", "files:pair.pdb"]
    grouped = Table(Table.Settings(table=table, kind="regression", group_column="target"))
    assert [grouped[index].name for index in range(2)] == ["t1/files:long.pdb", "t1/files:pair.pdb"]


def test_empty_cells_and_rows_as_spreadsheets_append_them_are_passed_over(folder):
    dataset = build(write(folder, "file,split,label,,\nlong,train,a,,\n,,,,\n\npair,train,,,\n"))
    assert dataset.labels([0, 1]).tolist() == [[1], [0]]


def test_rows_without_a_file_are_left_out_with_the_reason(folder):
    dataset = build(write(folder, f"{ROWS}missing,enzyme,train\n"))
    assert [(item.path.name, item.reason) for item in dataset.refused] == [
        ("missing", "there is no such file (row 7)")
    ]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("file,labels,split\nlong,a,train\n", {}, "has no column 'label'\n  did you mean: labels?"),
        ("file,label,split\nlong,a,training\n", {}, "row 2, column 'split': 'training' is not train, valid,"),
        (
            "file,label,split\nlong,a,train\nlong,b,train\n",
            {},
            "row 3, column 'label': 'b' for the protein of row 2, which has another label",
        ),
        ("file,label,split\nlong,a,train\nlong,a,train\n", {}, "row 3, column 'file': 'long' as in row 2"),
        (
            "file,label,set\nlong,a,train\n",
            {"split_column": "sets"},
            "has no column 'sets'\n  did you mean: set",
        ),
        ("file,label,label\nlong,a,b\n", {}, "has two columns 'label'"),
        ("file,label,split\nlong,a\n", {}, "row 2: 2 cells under 3 columns"),
        ("file,label,split\nlong,a,b,train\n", {}, "row 2: 4 cells under 3 columns; put quotation marks"),
        (
            'file,label,split\nlong,"a,train\npair,b,train\n',
            {},
            "cannot read the table .*\n  check for an unclosed quotation mark",
        ),
        ("file,label,split\nlong,a,\n", {}, "has no row to use\n  1 row in all"),
        ("", {}, "has no column 'file'"),
        (
            "file,label,split\nlong,high,train\n",
            {"kind": "regression"},
            "row 2, column 'label': 'high' is not a number",
        ),
    ],
)
def test_mistakes_in_a_table_name_the_place(folder, text, settings, message):
    with pytest.raises(SettingsError, match=message):
        build(write(folder, text), **settings)


def test_no_table():
    with pytest.raises(SettingsError, match="the dataset 'csv' needs a table"):
        Table(Table.Settings())


REGRESSION = {"kind": "regression"}
CLASSES = {"kind": "classification"}


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("inf", "'inf' is infinite"),
        ("-Infinity", "'-Infinity' is infinite"),
        ("+INF", "'[+]INF' is infinite"),
        ("1e39", "'1e39' is outside the range of float32"),
        ("-3.5e38", "'-3.5e38' is outside the range of float32"),
        ("1e-60", "'1e-60' is too small for float32"),
        ("1_5", "'1_5' is not a number"),
        ("\u0661\u0662", "'\u0661\u0662' is not a number"),
        ("\uff11", "'\uff11' is not a number"),
        ("0x1F", "'0x1F' is not a number"),
        ('"3,5"', "'3,5' is not a number"),
        ("['1', '2']".replace(",", ";"), "is not a number"),
        ("none", "'none' is not a number"),
        ("1" * 60, f"'{'1' * 40}...' is outside"),
    ],
)
def test_what_is_not_a_number_of_float32_is_named_with_its_place(folder, cell, reason):
    text = f"file,x,label,split\npair,1,2,train\n\nlong,1,{cell},test\n"
    with pytest.raises(
        SettingsError, match=f"1 mistake in the table .*\n  row 4, column 'label': .*{reason}"
    ):
        build(write(folder, text), **REGRESSION)


@pytest.mark.parametrize("cell", ["5", "-5.", ".5", "+5e-3", "3.4e38", "1E-40"])
def test_numbers_are_read_as_they_are_written(folder, cell):
    dataset = build(write(folder, f"file,label,split\nlong,{cell},train\n"), **REGRESSION)
    assert dataset.labels([0]).item() == pytest.approx(float(cell), rel=1e-4)


def test_all_mistakes_are_counted_and_the_first_five_named(folder):
    names = [protein.name for protein in example_proteins()] * 2
    rows = "".join(f"{name}{'.pdb' * (n > 4)},{n},inf\n" for n, name in enumerate(names))
    with pytest.raises(SettingsError) as caught:
        build(write(folder, f"file,name,label\n{rows}"), name_column="name", **REGRESSION)
    assert caught.value.message.startswith("10 mistakes in the table")
    assert len(caught.value.hints) == 6
    assert caught.value.hints[-1] == "... and 5 more"


MISSING = ("nan", "NaN", "NA", "None", "null", "N/A", "<NA>", "")


@pytest.mark.parametrize("cell", MISSING)
@pytest.mark.parametrize("kind", ["regression", "classification", "multilabel", "pairs"])
def test_what_pandas_writes_for_missing_is_unknown_and_counted(folder, kind, cell):
    text = f"file,mutant,label,split\nlong,long,1,train\npair,pair,{cell},train\nsingle,single,{cell},test\n"
    dataset = build(write(folder, text), kind=kind)
    assert dataset.label_names == (("1",) if kind in ("classification", "multilabel") else ("label",))
    if kind == "multilabel" and not cell:
        assert dataset.labels([0, 1]).tolist() == [[1], [0]]  # none of the classes
        assert dataset.notes == []
        return
    group = dataset.group_size
    assert dataset.labels([0, group, 2 * group]).isnan().flatten().tolist() == [False, True, True]
    cells = f"2 '{cell}'" if cell else "2 empty"
    assert dataset.notes[0].startswith(f"2 labels unknown: {cells}")
    assert ("list all classes in data.classes" in dataset.notes[0]) == bool(
        cell and kind in ("classification", "multilabel")
    )


def test_a_listed_class_is_a_class_whatever_its_name(folder):
    classes = folder / "classes.txt"
    classes.write_text("NA\nK\n")
    text = "file,label,split\nlong,NA,train\npair,K,train\nsingle,nan,test\n"
    dataset = build(write(folder, text), classes=classes, **CLASSES)
    assert dataset.labels([0, 1]).flatten().tolist() == [0, 1]
    assert dataset.labels([2]).isnan().all()
    assert dataset.notes == ["1 label unknown: 1 'nan'"]


def test_without_a_known_training_label_there_is_nothing_to_train(folder):
    text = "file,label,x,split\nlong,,1,train\npair,2,3,test\n"
    with pytest.raises(
        StructureError, match="no training protein has a known label\n  1 label unknown: 1 empty"
    ):
        build(write(folder, text), **REGRESSION)
    dataset = build(write(folder, text), labels=["label", "x"], **REGRESSION)
    assert dataset.notes[-1] == "no training protein has a known 'label'"


@pytest.mark.parametrize("other", ["1.0", "01", "1e0", "\uff11", "\u0661"])
@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_one_number_written_in_two_ways_is_not_two_classes(folder, kind, other):
    text = f"file,label,split\nlong,1,train\npair,2,train\nsingle,{other},test\n"
    with pytest.raises(
        SettingsError, match=r"row [24], column 'label': '.*' is the same number as '.*' in row [24]"
    ):
        build(write(folder, text), kind=kind)
    classes = folder / "classes.txt"
    classes.write_text(f"1\n2\n{other}\n", encoding="utf-8")
    assert len(build(write(folder, text), kind=kind, classes=classes).label_names) == 3


def test_ec_numbers_are_not_numbers(folder):
    """EC 1.1 and EC 1.10 are two classes."""
    dataset = build(write(folder, 'file,label,split\nlong,"1,1.1",train\npair,"1,1.10",train\n'))
    assert dataset.label_names == ("1", "1.1", "1.10")


def test_classes_that_differ_in_case_are_noted(folder):
    dataset = build(write(folder, "file,label,split\nlong,enzyme,train\npair,Enzyme,train\n"))
    assert dataset.notes == ["the classes 'Enzyme' and 'enzyme' differ only in case or width"]


@pytest.mark.parametrize("cell", ["\"['a', 'b']\"", "['a']", '"[""a"", ""b""]"', "\"('a', 'b')\"", "[]"])
@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_a_list_in_the_notation_of_python_is_not_a_class(folder, kind, cell):
    text = f"file,label,split\nlong,a,train\npair,{cell},train\n"
    with pytest.raises(
        SettingsError, match=r"row 3, column 'label': .* is a list in the notation of Python; write a,b"
    ):
        build(write(folder, text), kind=kind)


def test_a_class_may_begin_with_a_bracket(folder):
    dataset = build(write(folder, "file,label,split\nlong,[2Fe-2S],train\npair,(R)-x,train\n"))
    assert dataset.label_names == ("(R)-x", "[2Fe-2S]")


def test_a_missing_value_among_classes_is_named(folder):
    with pytest.raises(SettingsError, match="row 2, column 'label': 'NA' \\(unknown\\) is next to classes"):
        build(write(folder, 'file,label,split\nlong,"a,NA",train\n'))


@pytest.mark.parametrize("cell", ["2", "-1", "0.5", "yes"])
def test_labels_of_pairs_are_1_or_0(folder, cell):
    with pytest.raises(SettingsError, match="row 2, column 'label'"):
        build(write(folder, f"file,mutant,label,split\nlong,long,{cell},train\n"), kind="pairs")


def test_one_sequence_with_two_labels_in_two_files_is_noted(folder):
    write_pdb(example_proteins()[0], folder / "files" / "twin.pdb")
    name = example_proteins()[0].name
    text = f"file,label,split\n{name},1,train\npair,1,train\ntwin,2,train\n"
    dataset = build(write(folder, text), **REGRESSION)
    assert dataset.notes == ["1 row with the sequence of another row and another label, such as rows 2 and 4"]


@pytest.mark.parametrize(("text", "message"), [("a\nb\na\n", "lists 'a' twice"), ("\n", "is empty")])
def test_a_file_of_classes_names_each_once(folder, text, message):
    (folder / "classes.txt").write_text(text)
    with pytest.raises(SettingsError, match=message):
        build(write(folder, ROWS), classes=folder / "classes.txt")


def test_a_row_without_the_name_of_a_file_is_left_out_with_its_number(folder):
    dataset = build(write(folder, "file,label,split\n,1,train\nlong,2,train\n"), **REGRESSION)
    assert [item.reason for item in dataset.refused] == ["no file is named (row 2)"]


def test_a_missing_group_is_a_group_of_its_own(folder):
    text = "file,label,target,split\nlong,1,t1,train\npair,2,nan,train\nsingle,3,,train\n"
    dataset = build(write(folder, text), group_column="target", **REGRESSION)
    assert [dataset[index].name for index in range(3)] == ["t1/long", "pair", "single"]


def test_given_splits_that_divide_relatives_are_noted(folder):
    long = example_proteins()[2]
    changed = long.residue_type.clone()
    changed[50] = (changed[50] + 1) % 20
    write_pdb(replace(long, name="mutant", residue_type=changed), folder / "files" / "mutant.pdb")
    text = "file,label,split\n{},1,train\nmutant,1,{}\npair,1,valid\n"
    assert build(write(folder, text.format(long.name, "train")), **REGRESSION).notes == []
    [note] = build(write(folder, text.format(long.name, "test")), **REGRESSION).notes
    assert note.startswith(
        "the given splits divide 1 group of related proteins between training and evaluation, "
        f"such as '{long.name}' (train) and 'mutant' (test); checked: identical sequences, "
    )


def test_labels_name_each_column_once(folder):
    with pytest.raises(SettingsError, match="each once"):
        build(write(folder, "file,x,split\nlong,1,train\n"), labels=["x", "x"], **REGRESSION)


def test_a_cell_too_long_for_a_path_is_refused(folder):
    dataset = build(write(folder, f"file,label,split\nlong,a,train\n{'x' * 300},a,train\n"))
    assert [item.reason for item in dataset.refused] == ["there is no such file (row 3)"]
