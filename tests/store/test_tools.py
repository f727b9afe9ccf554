"""Splits, reports, exports, merges and downloads of stores."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from esmgn_core.errors import DataError, RunError
from esmgn_core.io import read_protein
from esmgn_core.io.write import mmcif_text, pdb_text
from esmgn_core.machine.files import locked
from esmgn_core.pages.store import store_page
from esmgn_core.related import Chains, Sequences
from esmgn_core.splits import Shares
from esmgn_core.store import Store, fetch
from esmgn_core.store.export import export_structures
from esmgn_core.store.merge import merge_stores
from esmgn_core.store.report import reasons, totals
from esmgn_core.store.sequences import similar_by_identity
from esmgn_core.store.splits import (
    clusters_by_identity,
    leaks,
    read_clusters,
    read_splits,
    related_rows,
    split_store,
    unmatched,
    write_fasta,
    write_splits,
)


@pytest.fixture
def store(folder, make, proteins) -> Store:
    (folder / "copy.pdb").write_text(pdb_text(replace(proteins[2], name="copy")))
    return make(folder)


def test_copies_of_a_sequence_are_in_one_split_whatever_the_shares(store):
    groups = related_rows(store)
    for valid in np.linspace(0.05, 0.95, 19):
        splits = split_store(store, groups, Shares(valid=float(valid)))
        assert splits["copy"] == splits["long"]
        assert leaks(store, splits, groups) == []


def test_shares_are_about_as_requested():
    shares = Shares(valid=0.2, test=0.3)
    found = [shares.split(str(key)) for key in range(4000)]
    assert found.count("valid") / 4000 == pytest.approx(0.2, abs=0.03)
    assert found.count("test") / 4000 == pytest.approx(0.3, abs=0.03)


def test_the_chains_of_a_store_are_those_of_its_proteins(store):
    chains, expected = store.chains(), Chains.of(store[row] for row in range(len(store)))
    assert np.array_equal(chains.residue_type, expected.residue_type)
    assert chains.ptr.tolist() == expected.ptr.tolist()
    assert chains.protein.tolist() == expected.protein.tolist()
    assert len(chains.protein) == 7
    rows = np.array([1, 3, 4])
    some, expected = chains.take(rows), Chains.of(store[int(row)] for row in rows)
    assert np.array_equal(some.residue_type, expected.residue_type)
    assert (some.ptr.tolist(), some.protein.tolist()) == (expected.ptr.tolist(), expected.protein.tolist())


def test_clusters_stay_together(store, tmp_path):
    file = tmp_path / "clusters.tsv"
    file.write_text("long\tlong\nlong\tcopy\nlong\tpair\nsingle\tsingle\nsingle\tpredicted\nx\ttwo_chains\n")
    groups = related_rows(store, clusters=read_clusters(file, store.names))
    for valid in np.linspace(0.05, 0.95, 10):
        splits = split_store(store, groups, Shares(valid=float(valid)))
        assert splits["long"] == splits["copy"] == splits["pair"]
        assert splits["single"] == splits["predicted"]


def test_a_member_of_two_clusters_joins_them(store):
    groups = related_rows(store, clusters=[("a", "long"), ("a", "pair"), ("b", "pair"), ("b", "single")])
    row = store.names.index
    assert groups[row("long")] == groups[row("pair")] == groups[row("single")] != groups[row("predicted")]


def test_a_protein_without_a_cluster_is_named(store, tmp_path):
    (tmp_path / "clusters.tsv").write_text("long\tlong\n")
    with pytest.raises(DataError, match="has no cluster for 5 proteins, such as 'copy'"):
        read_clusters(tmp_path / "clusters.tsv", store.names)


def test_a_leak_between_splits_is_found(store):
    splits = {"long": "train", "copy": "valid", "pair": "train"}
    assert leaks(store, splits, related_rows(store)) == [("copy", "long")]
    groups = related_rows(store, clusters=[("a", "pair"), ("a", "single")])
    assert leaks(store, {"pair": "train", "single": "test"}, groups) == [("pair", "single")]


def test_splits_of_other_proteins_are_not_free_of_leaks(store):
    """Nothing was compared, so that nothing was found."""
    with pytest.raises(DataError, match=r"no protein of the splits is in .*: such as 'long.pdb'"):
        leaks(store, {"long.pdb": "train"}, related_rows(store))
    assert list(unmatched(store, {"long": "train", "x": "valid"})) == [
        "not compared: 5 proteins of the store in no split, such as 'copy'",
        "not compared: 1 protein of the splits not in the store, such as 'x'",
    ]


def test_mmseqs_is_needed_only_for_identity(store, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="a sequence identity needs MMseqs2"):
        clusters_by_identity(store, 0.3)


def test_mmseqs_clusters_are_used(store, tmp_path, monkeypatch):
    """A program in the place of MMseqs2 that puts every second protein into the cluster of the first."""
    program = tmp_path / "bin" / "mmseqs"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$1" = easy-cluster ] || exit 1\n'
        "grep '>' \"$2\" | tr -d '>' | awk '{print ($1 % 2) \"\\t\" $1}' > \"$3_cluster.tsv\"\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    groups = related_rows(store, shared=0, clusters=clusters_by_identity(store, 0.3))
    assert len(set(groups[::2])) == len(set(groups[1::2])) == 1


def test_mmseqs_hits_of_test_chains_are_used(store, tmp_path, monkeypatch):
    """A program in the place of MMseqs2 that finds the third protein of the store for every query."""
    program = tmp_path / "bin" / "mmseqs"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$1 $6 $7" = "easy-search --min-seq-id 0.4" ] || exit 1\n'
        "grep '>' \"$2\" | tr -d '>' | awk '{print $1 \"\\t2_2\\t0.9\"}' > \"$4\"\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    sequences = Sequences(store.names, store.chains())
    assert similar_by_identity(sequences, sequences, 0.4) == [(2, 0)]


def test_splits_are_read_as_they_were_written(tmp_path):
    splits = {"a": "train", "b": "valid"}
    write_splits(tmp_path / "splits.tsv", splits)
    assert read_splits(tmp_path / "splits.tsv") == splits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n", "line 1: expected two columns"),
        ("a\ttrain\na\tvalid\n", "line 2: 'a' is in the splits"),
        ("a\ttrain\nb\tval\n", "line 2: 'b' is in the split 'val', expected train, valid, test"),
        ("a\tTrain\n", "did you mean: train?"),
    ],
)
def test_wrong_lines_of_splits_are_named(tmp_path, text, message):
    (tmp_path / "splits.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_splits(tmp_path / "splits.tsv")


def test_sequences_are_written_as_fasta(store, tmp_path, proteins):
    write_fasta(store, tmp_path / "all.fasta")
    lines = (tmp_path / "all.fasta").read_text().splitlines()
    sequences = dict(zip((line[1:] for line in lines[::2]), lines[1::2], strict=True))
    assert sequences == {"copy": proteins[2].sequence, **{p.name: p.sequence for p in proteins}}


def test_what_does_not_fit_the_format_keeps_nobody_from_being_exported(make, tmp_path, proteins):
    (tmp_path / "in").mkdir()
    for protein in proteins:
        (tmp_path / "in" / f"{protein.name}.cif").write_text(mmcif_text(protein))
    odd = replace(proteins[2], name="odd", chains=("LONG",))
    (tmp_path / "in" / "odd.cif").write_text(mmcif_text(odd))
    store = make(tmp_path / "in")
    with pytest.raises(DataError, match=f"1 of {len(proteins) + 1} proteins are not written") as error:
        export_structures(store, None, tmp_path / "out", "pdb")
    assert error.value.hints[0] == "'odd' does not fit the PDB format: chain 'LONG'"
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {protein.name for protein in proteins}


@pytest.mark.parametrize("chain", ["_", "$x", ";", "data_x", "a b", "a'b\" c", "?", ""])
def test_a_chain_is_exported_whatever_its_name(chain, tmp_path, proteins):
    """Some names are syntax in mmCIF."""
    protein = next(protein for protein in proteins if len(protein.chains) == 1)
    (tmp_path / "again.cif").write_text(mmcif_text(replace(protein, chains=(chain,))))
    assert read_protein(tmp_path / "again.cif").chains == (chain,)


@pytest.mark.parametrize("chain", ["\u00e9", "a\nb", "\x1b"])
def test_a_chain_that_mmcif_cannot_hold_is_named(chain, proteins):
    with pytest.raises(DataError, match="does not fit the mmCIF format: chain"):
        mmcif_text(replace(proteins[0], chains=(chain,) * len(proteins[0].chains[:1])))


@pytest.mark.parametrize("form", ["pdb", "cif"])
def test_what_is_exported_builds_the_same_columns(store, make, tmp_path, form):
    export_structures(store, None, tmp_path / "files", form)
    again = make(tmp_path / "files", name="again")
    shards = [path / "shards" / "00000.safetensors" for path in (store.path, again.path)]
    one, two = (Store(shard.parents[1]) for shard in shards)
    assert one.names == two.names
    for row in range(len(one)):
        for name in ("residue_type", "residue_index", "insertion_code", "chain_index", "atom_mask"):
            assert torch.equal(getattr(one[row], name), getattr(two[row], name)), name
        assert torch.equal(one[row].backbone.nan_to_num(), two[row].backbone.nan_to_num())
        assert (one[row].plddt is None) == (two[row].plddt is None)
        if one[row].plddt is not None:
            assert torch.equal(one[row].plddt, two[row].plddt)


def test_the_totals_count_what_the_files_say(store):
    found = dict(totals(store))
    assert found["proteins"] == 6
    assert found["files refused"] == 1
    assert found["chains"] == 7
    assert reasons(store) == [("the file is empty", 1)]


def test_the_account_tells_what_is_missing_from_the_declared_sequence(make, tmp_path, proteins):
    text = pdb_text(proteins[3])  # two residues
    names = [line[17:20] for line in text.splitlines() if line[12:16] == " CA "]
    declared = ["GLY", names[0], "TRP", "TRP", names[1]]
    (tmp_path / "x.pdb").write_text(f"SEQRES   1 A    5  {' '.join(declared)}\n{text}")
    account = json.loads(make(tmp_path / "x.pdb").index().to_pylist()[0]["account"])
    [chain] = account["chains"]
    assert (chain["declared"], chain["residues"]) == (5, 2)
    assert chain["missing"] == [[1, 1], [3, 4]]


def test_the_page_needs_no_other_file_and_shows_every_reason(store):
    page = store_page(store)
    assert page.count("<svg") == 3
    assert "the file is empty" in page
    assert "src=" not in page
    assert "<link" not in page


def test_merged_stores_hold_the_proteins_of_all(folder, make, tmp_path):
    one, two = make(folder / "long.pdb", name="one"), make(folder / "p*.pdb", name="two")
    merge_stores([one.path, two.path], tmp_path / "both")
    both = Store(tmp_path / "both")
    assert both.names == ["long", "pair", "predicted"]
    assert torch.equal(both[2].plddt, two[1].plddt)
    assert both.problems() == []
    with pytest.raises(DataError, match="'long' is in both"):
        merge_stores([one.path, both.path], tmp_path / "twice")


def test_a_store_is_merged_by_one_process_at_a_time(folder, make, tmp_path):
    """A second merge deleted the files of the first."""
    one = make(folder / "long.pdb", name="one")
    with (
        locked(tmp_path / ".both.lock", ""),
        pytest.raises(RunError, match=r"another process writes .*both \("),
    ):
        merge_stores([one.path], tmp_path / "both")
    merge_stores([one.path], tmp_path / "both")
    assert Store(tmp_path / "both").names == ["long"]
    assert not list(tmp_path.glob(".both*"))


def test_a_merge_that_fails_leaves_nothing(folder, make, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    one = make(folder / "long.pdb", name="one")
    monkeypatch.setattr("esmgn_core.store.merge.record_contents", full)
    with pytest.raises(DataError, match=r"cannot write the store at .*both: the disk is full \("):
        merge_stores([one.path], tmp_path / "both")
    assert not list(tmp_path.glob("*both*"))


@pytest.fixture
def server(tmp_path, proteins, monkeypatch):
    """Archives and entries on a local server; the addresses point at it."""
    root = tmp_path / "www"
    root.mkdir()
    (root / "SMALL.tar").write_bytes(b"an archive")
    (root / "1ABC.cif.gz").write_bytes(gzip.compress(mmcif_text(proteins[0]).encode()))
    (root / "AF-P12345-F1-model_v4.pdb").write_text(pdb_text(proteins[0]))

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{running.server_port}"
        for name, form in (
            ("_AFDB_ARCHIVES", "{}.tar"),
            ("_AFDB_LATEST", "{}.tar"),
            ("_AFDB_LIST", "download_metadata.json"),
            ("_RCSB_ENTRY", "{}.cif.gz"),
            ("_AFDB_ENTRY", "AF-{}-F1-model_v{}.pdb"),
        ):
            monkeypatch.setattr(fetch, name, f"{address}/{form}")
        monkeypatch.setattr(fetch, "_PAUSE", 0)
        monkeypatch.delenv("ESMGN_OFFLINE", raising=False)
        yield root
        running.shutdown()
        thread.join()


def small(md5: str) -> dict[str, tuple[fetch.Archive, ...]]:
    return {"small": (fetch.Archive("SMALL", md5, 3),)}


@pytest.mark.usefixtures("server")
def test_an_archive_goes_into_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SETS", small(hashlib.md5(b"an archive").hexdigest()))  # noqa: S324
    [line] = fetch.fetch_structures("small", tmp_path / "out")
    assert line.endswith("SMALL.tar: 3 structures expected")
    assert (tmp_path / "out" / "SMALL" / "SMALL.tar").read_bytes() == b"an archive"
    assert next(fetch.fetch_structures("small", tmp_path / "out")).endswith("exists already")


@pytest.mark.usefixtures("server")
def test_an_archive_with_another_checksum_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SETS", small("0" * 32))
    with pytest.raises(DataError, match=r"has the MD5 checksum .*, expected 000"):
        list(fetch.fetch_structures("small", tmp_path / "out"))
    assert list((tmp_path / "out").rglob("*.tar*")) == []


LISTED = {"archive_name": "SMALL.tar", "num_predicted_structures": 3, "size_bytes": 10, "type": "proteome"}


def test_the_latest_proteomes_are_those_the_server_lists(server, tmp_path):
    other = {**LISTED, "archive_name": "swissprot_cif_v4.tar", "type": "swissprot"}
    (server / "download_metadata.json").write_text(json.dumps([LISTED, other]))
    [line] = fetch.fetch_structures(fetch.LATEST, tmp_path / "out")
    assert line.endswith("SMALL.tar: 3 structures expected")
    assert (tmp_path / "out" / "SMALL" / "SMALL.tar").read_bytes() == b"an archive"


def test_an_archive_of_another_size_than_listed_is_not_kept(server, tmp_path):
    (server / "download_metadata.json").write_text(json.dumps([{**LISTED, "size_bytes": 11}]))
    with pytest.raises(DataError, match="the file has 10 bytes, expected 11"):
        list(fetch.fetch_structures(fetch.LATEST, tmp_path / "out"))
    assert list((tmp_path / "out").rglob("*.tar*")) == []


@pytest.mark.parametrize("content", ["[" * 100_000, "[{}]", '{"a": 1}', "[3]"])
def test_a_list_of_another_form_is_one_message(server, tmp_path, content):
    (server / "download_metadata.json").write_text(content)
    with pytest.raises(DataError, match="the list of AlphaFold DB has an unknown format"):
        list(fetch.fetch_structures(fetch.LATEST, tmp_path / "out"))


def test_a_server_without_the_list_is_named(server, tmp_path):
    assert not (server / "download_metadata.json").exists()
    with pytest.raises(DataError, match=r"cannot download .*download_metadata\.json: HTTP 404"):
        list(fetch.fetch_structures(fetch.LATEST, tmp_path / "out"))


@pytest.mark.usefixtures("server")
def test_entries_are_downloaded_by_id_and_accession_and_the_missing_are_named(tmp_path):
    (tmp_path / "ids.txt").write_text("1abc-A\n# a comment\nP12345\n9xyz\n")
    lines = list(fetch.fetch_structures(str(tmp_path / "ids.txt"), tmp_path / "out"))
    assert lines == [f"2 of 3 entries in {tmp_path / 'out'}", "9xyz.cif.gz: HTTP 404 File not found"]
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"1abc.cif.gz", "AF-P12345-F1-model_v4.pdb"}


@pytest.mark.usefixtures("server")
def test_a_folder_is_downloaded_into_by_one_process_at_a_time(tmp_path, monkeypatch):
    """Two downloads appended to one file; existing files need no lock."""
    (tmp_path / "ids.txt").write_text("1abc\n")
    out = tmp_path / "out"
    monkeypatch.setattr(fetch, "SETS", small(""))
    for what, place in ((str(tmp_path / "ids.txt"), out), ("small", out / "SMALL")):
        place.mkdir()
        busy = "another process downloads into"
        with locked(place / ".lock", ""), pytest.raises(RunError, match=busy):
            list(fetch.fetch_structures(what, out))
        list(fetch.fetch_structures(what, out))
        with locked(place / ".lock", ""):
            assert len(list(fetch.fetch_structures(what, out))) == 1
    assert not list(out.rglob(".*"))


@pytest.mark.usefixtures("server")
def test_a_list_of_which_nothing_can_be_fetched_is_an_error(tmp_path):
    (tmp_path / "ids.txt").write_text("9xyz\n9xyy\n")
    with pytest.raises(DataError, match=r"none of 2 entries was fetched\n  9xyz\.cif\.gz: HTTP 404"):
        list(fetch.fetch_structures(str(tmp_path / "ids.txt"), tmp_path / "out"))
    (tmp_path / "ids.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match="no identifiers in"):
        list(fetch.fetch_structures(str(tmp_path / "ids.txt"), tmp_path / "out"))


def test_the_newest_version_of_an_entry_is_taken_and_none_asked_for_twice(server, tmp_path, proteins):
    (tmp_path / "ids.txt").write_text("P12345\n")
    (server / "AF-P12345-F1-model_v6.pdb").write_text(pdb_text(proteins[1]))
    for _ in range(2):
        assert list(fetch.fetch_structures(str(tmp_path / "ids.txt"), tmp_path / "out")) == [
            f"1 of 1 entry in {tmp_path / 'out'}"
        ]
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["AF-P12345-F1-model_v6.pdb"]
        (server / "AF-P12345-F1-model_v6.pdb").unlink(missing_ok=True)


def test_a_line_that_is_no_identifier_is_named(tmp_path):
    (tmp_path / "ids.txt").write_text("1abc\nhello!\n")
    with pytest.raises(DataError, match="line 2: 'hello!' is neither a PDB id nor a UniProt accession"):
        list(fetch.fetch_structures(str(tmp_path / "ids.txt"), tmp_path))


def test_an_unknown_set_gets_the_nearest_name(tmp_path):
    with pytest.raises(DataError, match=r"did you mean: alphafold_v1\?"):
        list(fetch.fetch_structures("alphafold_v2", tmp_path))


def test_no_connection_is_made_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("ESMGN_OFFLINE", "1")
    with pytest.raises(DataError, match="ESMGN_OFFLINE is set"):
        list(fetch.fetch_structures("alphafold_v1", tmp_path))


def test_the_manifest_of_alphafold_v1_is_whole():
    archives = fetch.SETS["alphafold_v1"]
    assert len({archive.name for archive in archives}) == len({a.md5 for a in archives}) == 21
    assert all(len(archive.md5) == 32 and set(archive.md5) <= set("0123456789abcdef") for archive in archives)
    assert sum(archive.num_structures for archive in archives) == 365_198


@pytest.mark.filterwarnings("ignore:Unlikely unit cell:UserWarning")
def test_frames_of_a_trajectory_are_proteins_in_angstrom(folder, make, tmp_path, proteins):
    mdtraj = pytest.importorskip("mdtraj")
    topology = folder / "two_chains.pdb"
    first = mdtraj.load(str(topology))
    frames = mdtraj.join([first, first])
    frames.xyz[1] += 0.5
    frames.save_dcd(str(tmp_path / "md.dcd"))
    store = make(tmp_path / "md.dcd", topology=Path(topology))
    assert store.names == ["md-0", "md-1"]
    expected = proteins[0].backbone
    torch.testing.assert_close(store[0].backbone, expected, atol=2e-3, rtol=0, equal_nan=True)
    torch.testing.assert_close(store[1].backbone, expected + 5, atol=2e-3, rtol=0, equal_nan=True)
    assert store[0].residue_index.tolist() == proteins[0].residue_index.tolist()
    assert len(store[0].chains) == 2


def test_a_trajectory_without_topology_says_what_to_give(make, tmp_path):
    (tmp_path / "md.xtc").write_bytes(b"x")
    with pytest.raises(DataError, match="which has no atom names\n  give a structure of it: --topology FILE"):
        make(tmp_path / "md.xtc")


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "a/b", "a\\b", "..", "", ".hidden", "a\nb.tar", "a\0b", "a" * 300, "x\x1b[2J.tar"],
)
def test_names_from_the_server_stay_inside_the_folder(server, tmp_path, name):
    listed = [{"archive_name": name, "num_predicted_structures": 1, "size_bytes": 10}]
    (server / "download_metadata.json").write_text(json.dumps(listed))
    with pytest.raises(DataError, match=r"ValueError: .* is not the name of an archive"):
        list(fetch.fetch_structures("alphafold_latest", tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["download_metadata.json"]


PORTAL = "<!DOCTYPE html>\n<html><body>Log in to the network</body></html>"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PORTAL, "the server answered with a web page"),
        (f"\ufeff \n<!-- portal --><HTML>{PORTAL}", "the server answered with a web page"),
        ('{"error": "try later"}', "did not send a structure"),
        ("", "did not send a structure: the file is empty"),
    ],
)
def test_what_a_captive_portal_sends_is_not_a_structure(server, tmp_path, content, reason):
    """Status 200 all the same; also where the server calls it a PDB file."""
    for name in ("1ABC.cif.gz", "AF-P12345-F1-model_v6.pdb", "AF-P12345-F1-model_v4.pdb"):
        (server / name).write_text(content)
    (tmp_path / "ids.txt").write_text("1ABC\nP12345\n")
    with pytest.raises(DataError, match=f"none of 2 entries was fetched(.|\n)*{reason}"):
        list(fetch.fetch_structures(str(tmp_path / "ids.txt"), tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_captive_portal_sends_is_not_an_archive_or_a_list(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SETS", small(""))
    for name in ("SMALL.tar", "download_metadata.json"):
        (server / name).write_text(PORTAL)
    for what in ("small", "alphafold_latest"):
        with pytest.raises(DataError, match="the server answered with a web page"):
            list(fetch.fetch_structures(what, tmp_path / "out"))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
