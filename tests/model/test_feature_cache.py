"""Outputs of a frozen sequence encoder are computed once, kept exactly, and survive anything."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from esmgn_core.alphabet import MASKED
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.errors import SettingsError
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.model.feature_cache import CachedEncoder, FeatureCache, state_sha256
from esmgn_core.settings import CacheTable
from esmgn_core.testing import example_batch
from esmgn_esm2.encoder import ESM2

from ..engine.conftest import Start, small_config, start  # noqa: F401 - a fixture


class Counting:
    """A sequence encoder that notes the names of the proteins it encodes."""

    def __init__(self, **settings: Any) -> None:
        torch.manual_seed(0)
        small = {"num_layers": 2, "embed_dim": 32, "attention_heads": 4, "weights": "random"}
        self.encoder = ESM2(ESM2.Settings(**small | settings)).eval().requires_grad_(requires_grad=False)
        self.output_dim, self.Settings = self.encoder.output_dim, ESM2.Settings
        self.seen: list[str] = []

    def __call__(self, batch: ProteinBatch) -> Encoding:
        self.seen += batch.names
        encoding: Encoding = self.encoder(batch)
        return encoding


def cache_of(encoder: Counting, folder: Path, features: str = "fp32", **settings: Any) -> FeatureCache:
    table = CacheTable(features=features, path=folder, **settings)
    return FeatureCache.of(encoder.encoder, table, computed_in=None)


def same(one: Encoding, other: Encoding) -> bool:
    return torch.equal(one.residue, other.residue) and torch.equal(one.protein, other.protein)


def test_what_was_computed_once_is_read_and_bit_identical(tmp_path: Path) -> None:
    encoder, batch = Counting(), example_batch()
    direct = encoder(batch)
    encoder.seen.clear()
    first = cache_of(encoder, tmp_path).on(encoder, batch)(batch)
    assert encoder.seen == list(batch.names)
    encoder.seen.clear()
    again = cache_of(encoder, tmp_path).on(encoder, batch)(batch)
    assert encoder.seen == []
    assert same(direct, first)
    assert same(direct, again)


@pytest.mark.parametrize(("features", "bits"), [("bf16", 8), ("fp16", 11)])
def test_half_the_room_keeps_values_to_the_precision_of_the_type(
    tmp_path: Path, features: str, bits: int
) -> None:
    encoder, batch = Counting(), example_batch()
    direct = encoder(batch)
    missed, kept = (cache_of(encoder, tmp_path, features).on(encoder, batch)(batch) for _ in range(2))
    assert encoder.seen == 2 * list(batch.names)
    assert same(missed, kept)
    torch.testing.assert_close(kept.residue, direct.residue, rtol=2.0**-bits, atol=1e-6)
    assert not torch.equal(kept.residue, direct.residue)


def test_masked_and_cropped_proteins_are_computed_as_they_come(tmp_path: Path) -> None:
    """A view keeps what it leaves whole and nothing else; what it asks for is never mixed up."""
    encoder, batch = Counting(), example_batch()
    masked = batch.replace(residue_type=batch.residue_type.index_fill(0, torch.tensor([3]), MASKED))
    cache = cache_of(encoder, tmp_path)
    for _ in range(2):
        encoder.seen.clear()
        found = cache.on(encoder, batch)(masked)
    assert encoder.seen == [batch.names[0]]
    torch.testing.assert_close(found.residue, encoder(masked).residue)
    assert cache.num_kept == len(batch) - 1
    cropped = batch.select(torch.arange(batch.num_residues) != 50)
    encoder.seen.clear()
    found = cache.on(encoder, batch)(cropped)
    assert set(encoder.seen) == {batch.names[0], batch.names[2]}
    torch.testing.assert_close(found.residue, encoder(cropped).residue)
    assert cache.num_kept == len(batch)


def test_other_weights_settings_and_precisions_have_caches_of_their_own(tmp_path: Path) -> None:
    plain, pooled, moved = Counting(), Counting(readout="sum"), Counting()
    with torch.no_grad():
        next(moved.encoder.parameters()).view(-1)[0] += 1e-7
    caches = [cache_of(encoder, tmp_path) for encoder in (plain, pooled, moved)]
    table = CacheTable(features="fp32", path=tmp_path)
    caches += [FeatureCache.of(plain.encoder, table, computed_in=torch.bfloat16)]
    caches += [FeatureCache.of(plain.encoder, table, computed_in=None, reading="windows of 100")]
    caches += [cache_of(plain, tmp_path, "bf16")]
    assert len({cache.folder for cache in caches}) == 6
    assert cache_of(Counting(), tmp_path).folder == caches[0].folder
    assert state_sha256(plain.encoder) != state_sha256(moved.encoder)


def test_a_full_cache_says_so_once_and_computes_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder, batch = Counting(embed_dim=256), example_batch()
    cache = cache_of(encoder, tmp_path, max_gb=1e-4)
    direct = encoder(batch)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert same(cache.on(encoder, batch)(batch), direct)
    [message] = caplog.messages
    assert message == (
        f"the cache of features in {cache.folder} is full (cache.max_gb = 0.0001); "
        "other features are computed each time"
    )
    assert (cache.folder / "data.mdb").stat().st_size <= 100_000
    assert encoder.seen == 3 * list(batch.names)


def filled_copy(tmp_path: Path) -> tuple[Counting, Encoding, Path]:
    """An encoder, what it gives, and the folder of a filled cache that this process has not opened."""
    encoder, batch = Counting(), example_batch()
    folder = cache_of(encoder, tmp_path / "first").folder
    encoding = cache_of(encoder, tmp_path / "first").on(encoder, batch)(batch)
    copy = tmp_path / "copy" / folder.name
    shutil.copytree(folder, copy)
    encoder.seen.clear()
    return encoder, encoding, copy


def test_a_damaged_record_is_computed_and_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder, encoding, folder = filled_copy(tmp_path)
    batch = example_batch()
    content = bytearray((folder / "data.mdb").read_bytes())
    place = content.index(encoding.residue[25:26].numpy().tobytes())  # of the first protein
    content[place + 2] ^= 1
    (folder / "data.mdb").write_bytes(content)
    for _ in range(2):
        assert same(cache_of(encoder, folder.parent).on(encoder, batch)(batch), encoding)
    assert encoder.seen == [batch.names[0]]
    assert caplog.messages == [
        f"the cache of features in {folder} has damaged records; they are computed again"
    ]


def test_a_truncated_cache_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Reading a page that is missing would end the process by SIGBUS."""
    encoder, encoding, folder = filled_copy(tmp_path)
    batch = example_batch()
    os.truncate(folder / "data.mdb", (folder / "data.mdb").stat().st_size - 40_000)
    for _ in range(2):
        assert same(cache_of(encoder, folder.parent).on(encoder, batch)(batch), encoding)
    assert encoder.seen == 2 * list(batch.names)
    [message] = caplog.messages
    assert message.startswith(f"features are not cached in {folder}: data.mdb is truncated, ")
    assert message.endswith("delete the folder to start a new cache; they are computed each time")


def test_a_full_disk_costs_time_only(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder, batch = Counting(embed_dim=512), example_batch()
    cache, direct = cache_of(encoder, small_disk), encoder(batch)
    (small_disk / "rest").write_bytes(bytes(500_000))
    for _ in range(2):
        assert same(cache.on(encoder, batch)(batch), direct)
    assert encoder.seen == 3 * list(batch.names)
    assert [text.split(": ")[1] for text in caplog.messages] == ["cannot write to it"]


def test_a_cache_that_cannot_be_made_costs_time_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder, batch = Counting(), example_batch()
    (tmp_path / "file").touch()
    for _ in range(2):
        cache = cache_of(encoder, tmp_path / "file")
        assert same(cache.on(encoder, batch)(batch), encoder(batch))
        assert cache.num_kept == 0
    assert "Not a directory" in caplog.messages[0]


def _fill(folder: str, order: str, started: Any) -> None:
    """One process that encodes proteins in an order of its own until it is killed or done."""
    encoder, batch = Counting(), example_batch()
    cache = cache_of(encoder, Path(folder))
    started.set()
    for number in range(20):
        own = variant(batch, number if order == "up" else 19 - number)
        cache.on(encoder, own)(own)


def variant(batch: ProteinBatch, number: int) -> ProteinBatch:
    """The batch with other sequences for each of 20 numbers."""
    return batch.replace(residue_type=(batch.residue_type + number) % 20)


def _process(folder: Path, order: str) -> tuple[Any, Any]:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_fill, args=(str(folder), order, started))
    process.start()
    return process, started


def check_records(cache: FeatureCache, encoder: Counting) -> int:
    """How many proteins of the variants are kept; every value is what the encoder gives."""
    num_kept = 0
    for number in range(20):
        own = variant(example_batch(), number)
        encoder.seen.clear()
        encoding = cache.on(encoder, own)(own)
        num_kept += len(own.names) - len(encoder.seen)
        torch.testing.assert_close(encoding.residue, encoder.encoder(own).residue)
    return num_kept


@pytest.mark.slow
def test_two_processes_fill_one_cache_together(tmp_path: Path) -> None:
    processes = [_process(tmp_path, order) for order in ("up", "down")]
    for process, _ in processes:
        process.join(120)
        assert process.exitcode == 0
    encoder = Counting()
    cache = cache_of(encoder, tmp_path)
    assert cache.num_kept == check_records(cache, encoder) == 100


@pytest.mark.slow
def test_a_killed_process_leaves_whole_records(tmp_path: Path) -> None:
    process, started = _process(tmp_path, "up")
    assert started.wait(120)
    encoder = Counting()
    cache = cache_of(encoder, tmp_path)
    deadline = time.monotonic() + 60
    # Two batches of five: the latest may be written but not yet committed.
    while cache.num_kept < 10 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert check_records(cache, encoder) >= 5
    assert cache.num_kept == 100


# Runs


def test_the_second_epoch_of_a_run_encodes_no_sequence(
    start: Start,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Training and validation proteins alike; the losses are those of a run without a cache."""
    changes = ["pretext.name=distance", "optim.seq_lr_scale=0", "train.epochs=2", "train.max_steps=4"]
    plain = start(*changes, out="plain").run
    encoded: list[str] = []
    original = CachedEncoder._computed

    def noted(self: CachedEncoder, batch: ProteinBatch, proteins: list[int]) -> dict[int, Tensor]:
        encoded.extend(batch.names[number] for number in proteins)
        return original(self, batch, proteins)

    monkeypatch.setattr(CachedEncoder, "_computed", noted)
    kept = start(*changes, "cache.features=fp32", f"cache.path={tmp_path / 'kept'}", out="kept_run").run
    assert len(encoded) == len(set(encoded)) == 14
    for one, two in zip(plain.read_metrics(), kept.read_metrics(), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert "features of at most 14 of 14 proteins, " in kept.log_file.read_text()


def test_a_trained_encoder_is_not_kept(start: Start) -> None:  # noqa: F811
    with pytest.raises(SettingsError) as caught:
        start("pretext.name=distance", "cache.features=bf16")
    assert str(caught.value) == (
        "cache.features needs a frozen sequence encoder\n  freeze it: --set optim.seq_lr_scale=0"
    )


def test_a_task_that_leaves_no_sequence_whole_is_an_error(start: Start, tmp_path: Path) -> None:  # noqa: F811
    for task in ("pretext.name=residue_type", "pretext.crop_length=10"):
        with pytest.raises(SettingsError) as caught:
            start(task, "optim.seq_lr_scale=0", "cache.features=bf16", f"cache.path={tmp_path}")
        assert str(caught.value).startswith("cache.features has nothing to cache: the task crops or masks")


def test_the_cache_is_off_unless_asked() -> None:
    assert small_config().cache.features == "off"


def test_each_window_setting_has_its_own_cache(tmp_path: Path) -> None:
    """A long sequence read in other windows gets other features, so that they must not be shared."""
    registry, folders = discover(), []
    for changes in (
        (),
        ("length.policy=window", "length.max_residues=64", "length.overlap=32"),
        ("length.policy=window", "length.max_residues=64", "length.overlap=16"),
        ("length.policy=window", "length.max_residues=48", "length.overlap=16"),
    ):
        torch.manual_seed(0)
        encoder = resolve(registry, small_config(*changes)).encoder().freeze_sequence()
        folders.append(encoder.keep_features(CacheTable(features="fp32", path=tmp_path)).folder)
    assert len(set(folders)) == 4


def test_a_forked_process_opens_the_cache_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LMDB does not allow an environment to be carried across a fork."""
    opened: list[int] = []

    class Environment:
        """A new one of an empty file at each opening."""

        def info(self) -> dict[str, int]:
            return {"last_pgno": -1}

        def stat(self) -> dict[str, int]:
            return {"psize": 4096}

    def noted(*_: object, **__: object) -> Environment:
        opened.append(os.getpid())
        return Environment()

    (tmp_path / "data.mdb").touch()
    monkeypatch.setattr("lmdb.open", noted)
    cache = FeatureCache(tmp_path, dtype=torch.float32, max_bytes=1 << 20)
    first = cache._environment()
    assert cache._environment() is first
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert cache._environment() is not first
    assert len(opened) == 2
