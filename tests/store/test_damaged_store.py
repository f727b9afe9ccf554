"""A store that lost or changed a file is refused at its opening, by name, never read as a smaller one."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from esmgn_core.errors import DataError
from esmgn_core.store import BuildOptions, Store, build
from esmgn_core.store.columns import ColumnFile
from esmgn_core.store.contents import sample_digest
from esmgn_core.store.merge import merge_stores
from esmgn_core.store.reader import store_problems
from esmgn_core.store.settings import read_manifest

RECORD = {"size": 1, "sample": "", "sha256": ""}
DAMAGED = Path(__file__).parents[3] / "shared" / "cases" / "damaged"


@pytest.fixture
def store(folder, make) -> Path:
    """Two shards, made one after the other."""
    make(folder / "pair.pdb", folder / "single.pdb")
    return make(folder, append=True).path


def shard(store: Path, number: int = 0, suffix: str = "safetensors") -> Path:
    return store / "shards" / f"{number:05d}.{suffix}"


def without_record(store: Path) -> None:
    """As esmgn 0.1.0 wrote it."""
    values = json.loads((store / "store.json").read_text())
    for name in ("proteins", "shards", "files"):
        del values[name]
    (store / "store.json").write_text(json.dumps(values))


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)


def refuses(store: Path, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        Store(store)
    assert f"esmgn data verify {store}" in caught.value.hints
    assert any(reason.replace("\\", "") in problem for problem in store_problems(store))


def test_the_manifest_counts_shards_and_proteins(store):
    values = json.loads((store / "store.json").read_text())
    assert (values["shards"], values["proteins"], len(values["files"])) == (2, 5, 4)
    assert values["files"]["00001.parquet"]["size"] == shard(store, 1, "parquet").stat().st_size
    assert store_problems(store) == []


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("suffixes", [("safetensors", "parquet"), ("safetensors",), ("parquet",)])
def test_a_lost_shard_is_named(store, number, suffixes):
    for suffix in suffixes:
        shard(store, number, suffix).unlink()
    refuses(store, rf"{number:05d}\.{suffixes[0]} is missing")


def test_a_shard_too_many_is_named(store):
    for suffix in ("safetensors", "parquet"):
        shutil.copy(shard(store, 0, suffix), shard(store, 2, suffix))
    refuses(store, r"00002\.parquet does not belong to the store")


@pytest.mark.parametrize("suffix", ["safetensors", "parquet"])
def test_a_file_that_is_cut_off_is_named(store, suffix):
    file = shard(store, 1, suffix)
    file.write_bytes(file.read_bytes()[:-100])
    refuses(store, rf"00001\.{suffix} has ")


@pytest.mark.parametrize("suffix", ["safetensors", "parquet"])
@pytest.mark.parametrize("at", [3, 40, -1])
def test_a_changed_byte_is_noticed_at_the_opening(store, suffix, at):
    flip(shard(store, 1, suffix), at)
    refuses(store, rf"00001\.{suffix}: the bytes are not those that were written")


def test_of_a_large_file_a_sample_is_compared_and_all_by_verify(tmp_path, store, monkeypatch):
    file = tmp_path / "large"
    file.write_bytes(os.urandom(2 << 20))
    before = sample_digest(file)
    for at in (0, 1 << 20, -1):
        content = bytearray(file.read_bytes())
        content[at] ^= 1
        file.write_bytes(content)
    assert sample_digest(file) != before
    monkeypatch.setattr("esmgn_core.store.contents.sample_digest", lambda _: "0" * 64)
    for name in ("safetensors", "parquet"):
        values = json.loads((store / "store.json").read_text())
        for record in values["files"].values():
            record["sample"] = "0" * 64
        (store / "store.json").write_text(json.dumps(values))
        flip(shard(store, 0, name), -30)
        assert f"{shard(store, 0, name)}: the bytes are not those that were written" in store_problems(store)


@pytest.mark.parametrize(
    "files",
    [{}, [], None, {"00000.safetensors": {}}, {"a": {"size": "1"}}, {"../" + "a" * 300: RECORD, "b": RECORD}],
)
def test_a_record_without_its_files_is_not_whole(store, files):
    values = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**values, "files": files}))
    for opened in (Store, store_problems):
        with pytest.raises(DataError, match=r"store\.json is damaged: "):
            opened(store)


def test_a_wrong_count_of_proteins_is_named(store):
    values = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**values, "proteins": 6}))
    with pytest.raises(DataError, match="5 proteins in its shards, expected 6"):
        Store(store)


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, "\xff", "[]", '{"format": "esmgn-store", "version": 1, "atoms": 7}']
)
def test_a_damaged_manifest_is_named(store, text):
    (store / "store.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"store\.json"):
        Store(store)


def test_nothing_is_added_to_a_store_that_lost_a_shard(store, folder):
    for suffix in ("safetensors", "parquet"):
        shard(store, 0, suffix).unlink()
    with pytest.raises(DataError, match=r"00000\.safetensors is missing"):
        build([str(folder)], store, BuildOptions(append=True))
    assert shard(store, 1).exists()


def test_a_store_of_0_1_0_opens_and_loses_only_its_last_shards_unnoticed(store, tmp_path):
    names = Store(store).names
    without_record(store)
    assert Store(store).names == names
    assert (store_problems(store), read_manifest(store).contents) == ([], None)
    merge_stores([store], tmp_path / "copy")
    assert read_manifest(tmp_path / "copy").contents
    for suffix in ("safetensors", "parquet"):
        shard(store, 0, suffix).unlink()
    refuses(store, r"00000\.safetensors is missing")


@pytest.mark.parametrize("seed", range(40))
def test_damage_without_a_record_is_our_own_error_or_harmless(store, seed):
    """Header, values and index of a store that esmgn 0.1.0 wrote."""
    without_record(store)
    draw = random.Random(seed)  # noqa: S311
    file = shard(store, 1, "safetensors" if seed % 4 else "parquet")
    size = file.stat().st_size
    for _ in range(draw.randint(1, 4)):
        flip(file, draw.randrange(900 if seed % 2 else size) % size)
    try:
        opened = Store(store)
        for number in range(len(opened)):
            opened[number].sequence  # noqa: B018
            opened.ca(number)
        opened.batch(range(len(opened)))
        opened.index()
    except DataError as error:
        assert str(file.name).partition(".")[0] in str(error) or "index" in str(error)  # noqa: PT017


def test_a_residue_type_that_does_not_exist_is_named(store):
    """A store of 0.1.0 has no checksum that would find the changed byte at the opening."""
    without_record(store)
    content = shard(store).read_bytes()
    at = content.index(ColumnFile(shard(store)).columns["residue_type"].tobytes())
    shard(store).write_bytes(content[:at] + b"\x63" + content[at + 1 :])
    with pytest.raises(DataError, match="is damaged: a residue type of 99, expected at most 20"):
        Store(store)[0]


def test_a_shard_cut_off_while_in_use_is_an_error_before_it_is_read(store):
    code = """if True:
        import os, sys
        from esmgn_core.errors import DataError
        from esmgn_core.store import Store
        store = Store(sys.argv[1])
        os.truncate(sys.argv[2], 0)
        for read, argument in (
            (store.batch, [0, 1]), (store.batch, [0, 4]), (store.ca, 0), (store.__getitem__, 0)
        ):
            try:
                read(argument)
            except DataError as error:
                print(error.message.partition("is damaged: ")[2])
    """
    command = [sys.executable, "-c", code, str(store), str(shard(store))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("cut off while in use: 0 bytes, expected") for line in lines)


@pytest.mark.skipif(not DAMAGED.is_dir(), reason=f"needs the damaged files in {DAMAGED}")
@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("store-KeyError-columns.py-112-00000.safetensors", "safetensors"),
        ("store-ArrowInvalid-core.py-1480-00000.parquet", "parquet"),
    ],
)
def test_the_damaged_shards(store, name, suffix):
    shard(store, 0, suffix).unlink()
    shutil.copyfile(DAMAGED / name, shard(store, 0, suffix))
    refuses(store, rf"00000\.{suffix}")
    without_record(store)
    assert any("00000" in problem for problem in store_problems(store))
    with pytest.raises(DataError, match="00000"):
        Store(store).index()
