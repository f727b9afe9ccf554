"""BinaryCIF: each encoding is undone, real files equal their mmCIF twins, damage is named."""

from pathlib import Path

import msgpack
import numpy as np
import pytest

from esmgn_core.errors import StructureError
from esmgn_core.io import read_protein
from esmgn_core.io.bcif import decode_column
from esmgn_core.io.read import read_content

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "structures" / "formats"

BYTES = {"kind": "ByteArray", "type": 3}
SHORT = {"kind": "ByteArray", "type": 1}


def ints(values, dtype="<i4"):
    return np.array(values, dtype=dtype).tobytes()


@pytest.mark.parametrize(
    ("data", "encoding", "expected"),
    [
        (ints([1, -2]), [BYTES], [1, -2]),
        (np.array([0.5, -2], "<f4").tobytes(), [{"kind": "ByteArray", "type": 32}], [0.5, -2]),
        (ints([12345, -7]), [{"kind": "FixedPoint", "factor": 1000, "srcType": 32}, BYTES], [12.345, -0.007]),
        (
            ints([0, 0, 1, 2, 2, 1]),
            [{"kind": "IntervalQuantization", "min": 1, "max": 2, "numSteps": 3, "srcType": 33}, BYTES],
            [1, 1, 1.5, 2, 2, 1.5],
        ),
        (ints([7, 3, -1, 2]), [{"kind": "RunLength", "srcSize": 5, "srcType": 3}, BYTES], [7, 7, 7, -1, -1]),
        (
            ints([0, 3, 2, 1]),
            [{"kind": "Delta", "origin": 1000, "srcType": 3}, BYTES],
            [1000, 1003, 1005, 1006],
        ),
        # the example of the specification: sums of bytes, 127 and -128 go on
        (
            ints([1, 2, -3, 127, 1, -128, -2, 127, 0], "i1"),
            [{"kind": "IntegerPacking", "byteCount": 1, "isUnsigned": False, "srcSize": 6}, SHORT],
            [1, 2, -3, 128, -130, 127],
        ),
        (
            ints([255, 0, 3], "u1"),
            [
                {"kind": "IntegerPacking", "byteCount": 1, "isUnsigned": True, "srcSize": 2},
                {"kind": "ByteArray", "type": 4},
            ],
            [255, 3],
        ),
        (
            ints([0, 1, 0, -1], "i1"),
            [
                {
                    "kind": "StringArray",
                    "dataEncoding": [SHORT],
                    "stringData": "aAB",
                    "offsetEncoding": [SHORT],
                    "offsets": ints([0, 1, 3], "i1"),
                }
            ],
            ["a", "AB", "a", ""],
        ),
    ],
    ids=lambda value: value[0]["kind"] if isinstance(value, list) and isinstance(value[0], dict) else "",
)
def test_an_encoding_is_undone(data, encoding, expected):
    assert decode_column({"data": data, "encoding": encoding}).tolist() == expected


def floats(values):
    return {"data": np.array(values, "<f8").tobytes(), "encoding": [{"kind": "ByteArray", "type": 33}]}


def whole(values):
    return {"data": ints(values), "encoding": [BYTES]}


def words(values):
    kinds = sorted(set(values))
    offsets = np.cumsum([0, *map(len, kinds)])
    encoding = {
        "kind": "StringArray",
        "dataEncoding": [BYTES],
        "stringData": "".join(kinds),
        "offsetEncoding": [BYTES],
        "offsets": ints(offsets),
    }
    return {"data": ints([kinds.index(value) for value in values]), "encoding": [encoding]}


def made_up(**changes):
    """Two residues with CA atoms, the second with an insertion code."""
    columns = {
        "group_PDB": words(["ATOM"] * 2),
        "id": whole([1, 2]),
        "type_symbol": words(["C"] * 2),
        "label_atom_id": words(["CA"] * 2),
        "label_alt_id": words(["."] * 2),
        "label_comp_id": words(["MET", "LYS"]),
        "label_asym_id": words(["A"] * 2),
        "label_seq_id": whole([1, 2]),
        "auth_asym_id": words(["A'"] * 2),
        "auth_seq_id": whole([5, 5]),
        "Cartn_x": floats([1.25, 5.05]),
        "Cartn_y": floats([0, 0]),
        "Cartn_z": floats([0, 0]),
        "occupancy": floats([1, 1]),
        "B_iso_or_equiv": floats([20, 20]),
        **changes,
    }
    listed = [{"name": name, "data": data, "mask": None} for name, data in columns.items()]
    listed.append({"name": "pdbx_PDB_ins_code", "data": words(["", "B"]), "mask": whole([2, 0])})
    category = {"name": "_atom_site", "rowCount": 2, "columns": listed}
    return {"version": "0.3.0", "encoder": "test", "dataBlocks": [{"header": "X", "categories": [category]}]}


def test_masked_values_are_missing_and_the_others_are_read():
    residues = read_content(msgpack.packb(made_up()), "x.bcif").residues
    assert residues.sequence == "MK"
    assert residues.number.tolist() == [5, 5]
    assert bytes(residues.insertion_code) == b" B"
    assert residues.chains == ("A'",)
    np.testing.assert_array_equal(residues.backbone[:, 1, 0], np.float32([1.25, 5.05]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (made_up(id={"data": b"", "encoding": [{"kind": "Secret"}]}), "unknown encoding 'Secret'"),
        (made_up(id=whole([1, 2, 3])), "columns of different length in _atom_site"),
        (
            made_up(id={"data": ints([1, 1 << 30]), "encoding": [
                {"kind": "RunLength", "srcSize": 1 << 30, "srcType": 3}, BYTES]}),
            "runs of 1073741824 values",
        ),
        ({"dataBlocks": [{"header": "X"}]}, "KeyError: 'categories'"),
        ({"dataBlocks": []}, "no atoms"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path, content, reason):
    path = tmp_path / "a.bcif"
    path.write_bytes(msgpack.packb(content))
    with pytest.raises(StructureError, match=rf"cannot read .*a\.bcif: .*{reason}"):
        read_protein(path)


def test_a_cut_off_file_is_named(tmp_path):
    path = tmp_path / "a.bcif"
    path.write_bytes(msgpack.packb(made_up())[:-30])
    with pytest.raises(StructureError, match="the BinaryCIF data are damaged"):
        read_protein(path)


@pytest.mark.skipif(not FORMATS.is_dir(), reason=f"needs the structure files in {FORMATS}")
@pytest.mark.parametrize("entry", ["1gbt", "3jqh"])
def test_binary_and_text_of_one_entry_give_the_same(entry):
    text, binary = (
        read_content((FORMATS / f"{entry}.{ending}.gz").read_bytes(), entry) for ending in ("cif", "bcif")
    )
    assert text.report.format == "mmcif"
    assert binary.report.format == "bcif"
    for name in ("residue_type", "backbone", "number", "insertion_code", "chain"):
        np.testing.assert_array_equal(getattr(binary.residues, name), getattr(text.residues, name))
    assert binary.residues.chains == text.residues.chains
    assert binary.report.left_out_kinds == text.report.left_out_kinds
    assert binary.report.alternates == text.report.alternates
    assert binary.origin() == text.origin()
    assert binary.origin().resolution is not None
    assert binary.chains() == text.chains()
