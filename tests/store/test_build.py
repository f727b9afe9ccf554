"""From structures to a store: nothing lost, nothing twice, everything as the reader gave it."""

from __future__ import annotations

import gzip
import os
import re
import tarfile
import zipfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from esmgn_core.batch import CA
from esmgn_core.errors import DataError
from esmgn_core.io import read_protein
from esmgn_core.io.write import pdb_text
from esmgn_core.store import BuildOptions, Layout, Store, build
from esmgn_core.store.filters import Filters
from esmgn_core.store.index import columns_digest
from esmgn_core.store.reader import store_problems

from .conftest import tar, zipped

STRUCTURES = Path(__file__).parents[3] / "shared" / "data" / "structures"


def same(one, two, backbone_atoms=slice(None)):
    for name in ("residue_type", "residue_index", "chain_index"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert one.chains == two.chains
    assert torch.equal(one.atom_mask[:, backbone_atoms], two.atom_mask[:, backbone_atoms])
    ours, theirs = (protein.backbone[:, backbone_atoms].nan_to_num() for protein in (one, two))
    assert torch.equal(ours, theirs)
    assert (one.plddt is None) == (two.plddt is None)


def reasons(store):
    rows = store.index(["name", "reason"], refused=True).to_pylist()
    return {row["name"]: row["reason"] for row in rows}


def test_proteins_come_back_as_the_reader_gives_them(folder, make, proteins):
    store = make(folder)
    assert [store[row].name for row in range(len(store))] == sorted(protein.name for protein in proteins)
    for protein in proteins:
        stored = store[store.find(protein.name)]
        same(stored, protein)
        read = read_protein(folder / f"{protein.name}.pdb")
        assert torch.equal(stored.insertion_code, read.insertion_code)
        if protein.plddt is not None:
            assert torch.equal(stored.plddt, read.plddt)


def test_every_file_is_in_the_store_or_refused_with_its_reason(folder, make):
    store = make(folder)
    assert reasons(store) == {"empty": "the file is empty"}
    assert len(store) + 1 == len(list(folder.iterdir()))


def test_lengths_are_known_without_reading(folder, make, proteins):
    store = make(folder)
    assert store.lengths.sum() == sum(map(len, proteins))
    assert store.lengths.tolist() == [len(store[row]) for row in range(len(store))]


@pytest.mark.parametrize("coordinates", ["fixed", "float32"])
def test_alpha_carbons_alone(folder, make, proteins, coordinates):
    store = make(folder, layout=Layout("ca", coordinates))
    for protein in proteins:
        stored = store[store.find(protein.name)]
        same(stored, protein, slice(1, 2))
        assert not stored.atom_mask[:, [0, 2, 3]].any()
    [plddt] = [p.plddt for p in map(store.__getitem__, range(len(store))) if p.plddt is not None]
    [expected] = [protein.plddt for protein in proteins if protein.plddt is not None]
    assert (plddt - expected).abs().max() <= 0.26


def test_float32_coordinates_are_exact(folder, make, proteins):
    store = make(folder, layout=Layout("backbone", "float32"))
    same(store[store.find("long")], next(protein for protein in proteins if protein.name == "long"))


def test_a_batch_of_stretches_is_what_cutting_the_proteins_gives(folder, make):
    store = make(folder)
    rows, start, length = [2, 0, 4, 2], [1, 0, 11, 0], [50, 1, 20, 120]
    rows = [store.find(name) for name in ("long", "single", "two_chains", "long")]
    batch = store.batch(rows, torch.tensor(start).numpy(), torch.tensor(length).numpy())
    assert batch.names == ("long", "single", "two_chains", "long")
    for place, (row, first, size) in enumerate(zip(rows, start, length, strict=True)):
        cut, whole = slice(batch.ptr[place], batch.ptr[place + 1]), slice(first, first + size)
        protein = store[row]
        for name in ("residue_type", "residue_index", "chain_index", "atom_mask"):
            assert torch.equal(getattr(batch, name)[cut], getattr(protein, name)[whole]), name
        assert torch.equal(batch.backbone[cut].nan_to_num(), protein.backbone[whole].nan_to_num())


def test_a_batch_may_span_shards(folder, make):
    make(folder / "long.pdb", folder / "predicted.pdb")
    store = make(folder / "pair.pdb", append=True)
    batch = store.batch([2, 0, 1])
    assert batch.names == ("pair", "long", "predicted")
    assert torch.equal(batch.backbone[2:122].nan_to_num(), store[0].backbone.nan_to_num())
    assert torch.equal(batch.residue_index[:2], store[2].residue_index)
    assert torch.equal(batch.plddt[122:], store[1].plddt)


def test_several_processes_make_the_same_bytes(folder, make, tmp_path):
    for copy in range(70):  # more than one part
        os.link(folder / "pair.pdb", folder / f"copy{copy}.pdb")
    make(folder, name="one")
    make(folder, name="two", workers=2)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*"))
    assert len(files) == 4
    for file in files:
        if (tmp_path / "one" / file).is_file():
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_files_of_one_name_keep_apart(tmp_path, make, proteins):
    for place in ("a", "b"):
        (tmp_path / "in" / place).mkdir(parents=True)
        (tmp_path / "in" / place / "x.pdb").write_text(pdb_text(proteins[0]))
    (tmp_path / "in" / "a" / "y.pdb").write_text(pdb_text(proteins[0]))
    assert make(tmp_path / "in").names == ["a/x", "a/y".removeprefix("a/"), "b/x"]


def test_a_tar_is_read_without_unpacking(tmp_path, make, proteins):
    archive = tar(tmp_path / "set.tar", {f"deep/{p.name}.pdb.gz": zipped(p) for p in proteins})
    before = set(tmp_path.iterdir())
    store = make(archive)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "store"}
    for protein in proteins:
        same(store[store.find(protein.name)], protein)
    row = store.index().to_pylist()[0]
    assert (row["source"], row["member"]) == (str(archive), f"deep/{proteins[0].name}.pdb.gz")


def test_of_twins_in_an_archive_the_pdb_is_read(tmp_path, make, proteins):
    content = zipped(proteins[0])
    files = {"x-model.cif.gz": b"never read", "x-model.pdb.gz": content, "y.cif.gz": content}
    store = make(tar(tmp_path / "set.tar", files))
    assert store.names == ["x-model", "y"]
    assert reasons(store) == {"x-model.cif.gz": "its .pdb twin is read instead"}


def test_the_twin_of_a_pdb_that_cannot_be_read_is_read(tmp_path, make, proteins):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        link = tarfile.TarInfo("x.pdb.gz")
        link.type, link.linkname = tarfile.SYMTYPE, "elsewhere"
        archive.addfile(link)
        content = zipped(proteins[0])
        member = tarfile.TarInfo("x.cif.gz")
        member.size = len(content)
        archive.addfile(member, BytesIO(content))
    store = make(tmp_path / "set.tar")
    assert len(store) == 1
    assert set(reasons(store).values()) == {"a link, not a file"}


def test_twins_are_told_by_their_endings_alone(tmp_path, make, proteins):
    content = zipped(proteins[0])
    files = {"my.cif/a.pdb.gz": content, "my.cif/a.cif.gz": b"never read"}
    files |= {"b.cif.pdb.gz": content, "b.cif.cif.gz": b"never read"}
    store = make(tar(tmp_path / "set.tar", files))
    assert store.names == ["a", "b.cif"]
    assert reasons(store).keys() == {"a.cif.gz", "b.cif.cif.gz"}


def test_a_zip_is_read(tmp_path, make, proteins):
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for protein in proteins:
            archive.writestr(f"{protein.name}.pdb", pdb_text(protein))
    store = make(tmp_path / "set.zip")
    same(store[store.find("long")], proteins[2])


def test_a_glob_is_expanded(folder, make):
    assert make(folder / "p*.pdb").names == ["pair", "predicted"]


def test_filters_refuse_with_the_reason(folder, make):
    filters = Filters(min_length=3, max_length=100, min_plddt=101, max_chains=1)
    store = make(folder, filters=filters)
    assert len(store) == 0
    found = reasons(store)
    assert found["single"] == "1 residue, fewer than --min-length 3"
    assert found["long"] == "120 residues, more than --max-length 100"
    assert found["two_chains"] == "2 chains, more than --max-chains 1"
    assert found["predicted"].endswith("less than --min-plddt 101")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sources": ["pair.pdb"]}, r"is being built from \S*structures$"),
        ({"filters": Filters()}, "is being built with --min-length 3 --min-plddt 0.5$"),
    ],
)
def test_a_build_in_hand_says_what_it_is_built_of(folder, tmp_path, changed, message):
    filters = Filters(min_length=3, min_plddt=0.5)
    build([str(folder)], tmp_path / "store", BuildOptions(filters=filters), executor=lambda *_: None)
    sources = [str(folder / name) for name in changed.pop("sources", [""])]
    with pytest.raises(DataError) as error:
        build(sources, tmp_path / "store", BuildOptions(**{"filters": filters, **changed}))
    assert re.search(message, error.value.message)


def test_the_index_says_where_a_protein_comes_from(folder, make):
    row = {r["name"]: r for r in make(folder).index().to_pylist()}["two_chains"]
    content = (folder / "two_chains.pdb").read_bytes()
    assert row["sha256"] == sha256(content).digest()
    assert (row["length"], row["num_chains"], row["source"]) == (40, 2, str(folder / "two_chains.pdb"))


def test_appending_reads_only_what_is_new(folder, make, proteins):
    make(folder)
    (folder / "more.pdb").write_text(pdb_text(proteins[0]))
    store = make(folder, append=True)
    assert len(store) == len(proteins) + 1
    assert store.names[-1] == "more"
    assert reasons(store) == {"empty": "the file is empty"}


def test_a_finished_store_is_not_added_to_by_accident(folder, make):
    make(folder)
    with pytest.raises(DataError, match=r"is finished\n  add to it: --append"):
        make(folder)


def test_another_layout_is_refused(folder, make):
    make(folder)
    with pytest.raises(DataError, match="has atoms 'backbone' and coordinates 'fixed'"):
        make(folder, layout=Layout("ca"), append=True)


def test_shares_of_several_machines_make_the_same_store(folder, make, tmp_path):
    for copy in range(70):
        os.link(folder / "pair.pdb", folder / f"copy{copy}.pdb")
    make(folder, name="one")
    for share in ((2, 3), (1, 3), (3, 3)):
        left = build([str(folder)], tmp_path / "two", BuildOptions(share=share)).missing
    assert left == 0
    store = make(name="two")
    assert store.names == Store(tmp_path / "one").names
    shards = [tmp_path / name / "shards" / "00000.safetensors" for name in ("one", "two")]
    assert shards[0].read_bytes() == shards[1].read_bytes()


def test_a_store_can_be_read_while_it_is_being_built(folder, tmp_path):
    for copy in range(70):
        os.link(folder / "pair.pdb", folder / f"copy{copy}.pdb")
    build([str(folder)], tmp_path / "store", BuildOptions(share=(1, 2)))
    store = Store(tmp_path / "store")
    assert 0 < len(store) < 75
    assert not store.is_finished
    assert store.problems() == []


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no such file or folder: .*nothing"):
        build([str(tmp_path / "nothing")], tmp_path / "store", BuildOptions())
    assert not (tmp_path / "store").exists()


def test_an_empty_folder_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="no structures in"):
        build([str(tmp_path / "in")], tmp_path / "store", BuildOptions())
    assert not (tmp_path / "store").exists()


def test_nothing_is_written_over_a_folder_of_something_else(folder, make):
    with pytest.raises(DataError, match="exists and is not a store"):
        make(folder, name="structures")


def test_a_changed_byte_is_found(folder, make):
    store = make(folder)
    file = store.path / "shards" / "00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert store_problems(store.path) == [f"{file}: the bytes are not those that were written"]


def test_the_hash_of_a_large_file_is_that_of_a_small_one(folder, make, monkeypatch):
    small = make(folder, name="small")
    monkeypatch.setattr("esmgn_core.store.columns._LARGE", 0)
    large = make(folder, name="large")
    assert large.problems() == []
    digests = [columns_digest(store.path / "shards" / "00000.parquet") for store in (small, large)]
    assert digests[0] == digests[1]


def test_a_cut_off_shard_is_named(folder, make):
    store = make(folder)
    file = store.path / "shards" / "00000.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"store is damaged: .*safetensors has [\d,]+ bytes, expected"):
        Store(store.path)


def test_newer_stores_are_refused(folder, make):
    store = make(folder)
    manifest = store.path / "store.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(DataError, match="store of version 2, this esmgn reads version 1"):
        Store(store.path)


@pytest.mark.skipif(not STRUCTURES.is_dir(), reason=f"needs the structure files in {STRUCTURES}")
def test_all_edge_files_are_in_the_store_or_refused(make):
    store = make(STRUCTURES / "edge", STRUCTURES / "formats")
    files = [
        path for name in ("edge", "formats") for path in (STRUCTURES / name).rglob("*") if path.is_file()
    ]
    refused = {Path(r["source"]).name for r in store.index(["source"], refused=True).to_pylist()}
    assert len(store) + len(refused) == len(files)
    assert refused == {
        *(
            "coarse_grained_martini.pdb",
            "empty.pdb",
            "empty.pdb.gz",
            "html_error_page.pdb",
            "random_bytes.pdb",
        ),
        *("truncated_midline_1crn.pdb", "truncated_stream_1crn.pdb.gz", "whitespace_only.pdb"),
        *(
            "random_bytes.pdb",
            "difficult_mmcif_quoting.cif",
            "dna_only_5ch0.pdb",
            "five_digit_residue_number.pdb",
        ),
        *("header_only.pdb", "hetatm_only.pdb", "lower_case_resname.pdb", "one_atom_no_ca.pdb"),
        *("residues_without_ca_1ssu_mod.pdb", "rna_only_1ehz_fragment.pdb"),
        *("same_resid_different_resname.pdb", "1a8o.mmtf", "4zhl.mmtf"),
    }
    assert "d1asha_" in store.names


def test_a_compressed_tar_says_what_to_do(tmp_path, make, proteins):
    archive = tar(tmp_path / "set.tar", {"x.pdb.gz": zipped(proteins[0])})
    packed = tmp_path / "set.tar.gz"
    packed.write_bytes(gzip.compress(archive.read_bytes()))
    assert "inflate it once: gunzip" in reasons(make(packed))["set.tar.gz"]


@pytest.mark.parametrize("layout", [Layout(), Layout("ca"), Layout("backbone", "float32")])
def test_one_protein_is_read_without_tensors(folder, make, layout):
    far = folder / "far.pdb"
    lines = (folder / "long.pdb").read_text().splitlines()
    moved = [
        f"{line[:30]}{float(line[30:38]) + 500:8.3f}{line[38:]}" if line[22:26] == "   9" else line
        for line in lines
    ]
    far.write_text("\n".join(moved) + "\n")
    store = make(folder, layout=layout)
    for index, protein in enumerate(store[row] for row in range(len(store))):
        assert np.array_equal(store.ca(index), protein.backbone[:, CA].numpy())
        assert store.record(index).residue_type.tolist() == protein.residue_type.tolist()
    assert (store.ca(store.find("far")) != store.ca(store.find("long"))).any()
    with pytest.raises(IndexError):
        store.record(len(store))
