"""Proteins read ahead: in order, and in spite of what cannot be read."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import pytest
import torch

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.engine.loader import Reader
from esmgn_core.engine.schedule import MicroBatch
from esmgn_core.errors import PluginError, RunError, StructureError
from esmgn_datasets.sample import Sample

from .conftest import Start
from .test_run import losses, same_tensors


@dataclass
class Shelf:
    """Proteins of one residue, some of which are damaged."""

    broken: dict[int, Exception] = field(default_factory=dict)
    group_size: int = 1
    num_proteins: int = 12

    def __getitem__(self, index: int) -> Protein:
        if index in self.broken:
            raise self.broken[index]
        ones, mask = torch.ones(1, dtype=torch.int64), torch.ones(1, 4, dtype=torch.bool)
        return Protein(str(index), ones, torch.zeros(1, 4, 3), mask, ones, ones)

    def split(self, name: str) -> Sequence[int]:
        return range(self.num_proteins) if name == "train" else []


def parts(*groups: Sequence[int]) -> list[MicroBatch]:
    return [MicroBatch(tuple(group), tuple(100 + index for index in group)) for group in groups]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_come_in_the_order_they_were_asked_for(threads: int) -> None:
    reader = Reader(cast(Any, Shelf()), threads, pytest.fail, pytest.fail)
    asked = [(index, (index + 1) % 12) for index in range(12)] * 5
    assert [batch.names for _, batch in reader.read(parts(*asked))] == [
        tuple(map(str, group)) for group in asked
    ]


@pytest.mark.parametrize("threads", [0, 2])
def test_a_protein_that_cannot_be_read_is_left_out_and_reported_once(threads: int) -> None:
    notices: list[tuple[int, str]] = []
    shelf = Shelf({3: StructureError("record 3: checksum differs")})
    reader = Reader(cast(Any, shelf), threads, lambda *item: notices.append(item), pytest.fail)
    results = list(reader.read(parts([2, 3, 4], [3, 5])))
    assert [(part.indices, part.positions, batch.names) for part, batch in results] == [
        ((2, 4), (102, 104), ("2", "4")),
        ((5,), (105,), ("5",)),
    ]
    assert notices == [(3, "record 3: checksum differs")]


def test_a_pair_is_left_out_as_a_whole_and_an_empty_pass_gets_the_next_one() -> None:
    notices: list[tuple[int, str]] = []
    shelf = Shelf({3: OSError("input/output error")}, group_size=2)
    reader = Reader(cast(Any, shelf), 0, lambda *item: notices.append(item), pytest.fail)
    [first, second] = reader.read(parts([0, 1, 2, 3], [2, 3]))
    assert first[1].names == ("0", "1")
    assert second[0] == MicroBatch((4, 5), (102, 103))


def test_a_set_of_which_nothing_can_be_read_stops_the_run() -> None:
    shelf = Shelf({index: OSError("stale file handle") for index in range(12)})
    for threads in (0, 1):
        reader = Reader(cast(Any, shelf), threads, lambda *_: None, pytest.fail)
        with pytest.raises(RunError) as caught:
            list(reader.read(parts([0])))
        assert str(caught.value).splitlines() == [
            "no training protein can be read",
            "  last reason: stale file handle",
        ]


def test_what_a_dying_thread_was_to_read_is_read_again() -> None:
    class Deadly(Shelf):
        def __getitem__(self, index: int) -> Protein:
            if index == 2 and threading.current_thread() is not threading.main_thread():
                raise SystemError("worker died")
            return super().__getitem__(index)

    failures: list[str] = []
    reader = Reader(cast(Any, Deadly()), 2, pytest.fail, failures.append)
    assert [batch.names for _, batch in reader.read(parts([1], [2], [3]))] == [("1",), ("2",), ("3",)]
    assert failures == ["reading ahead failed: SystemError: worker died; read again"]


def test_a_bug_of_a_dataset_is_not_taken_for_a_damaged_protein() -> None:
    reader = Reader(cast(Any, Shelf({1: KeyError("names")})), 1, pytest.fail, lambda _: None)
    with pytest.raises(KeyError):
        list(reader.read(parts([1])))


class Names(Shelf):
    def __getitem__(self, index: int) -> Any:
        return str(index)


@pytest.mark.parametrize("threads", [0, 1])
def test_an_item_that_is_not_a_protein_is_an_error(threads: int) -> None:
    reader = Reader(cast(Any, Names()), threads, pytest.fail, lambda _: None)
    with pytest.raises(PluginError, match="item 1 of the dataset Names is of type str, expected Protein"):
        list(reader.read(parts([1])))


class DamagedSample(Sample):
    """Made-up proteins of which one can no longer be read once training begins."""

    damaged: ClassVar[set[int]] = set()

    def __getitem__(self, index: int) -> Protein:
        if index in self.damaged:
            raise StructureError(f"record {index} is damaged")
        return super().__getitem__(index)


def test_a_run_goes_on_without_an_unreadable_protein_and_records_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmgn_datasets.sample.Sample", DamagedSample)
    monkeypatch.setattr(DamagedSample, "damaged", {5})
    outcome = start("data.valid_fraction=0")
    assert outcome.progress.step == outcome.num_steps
    assert outcome.run.refused.read_text().splitlines() == [
        "path\treason",
        "protein 5\trecord 5 is damaged",
    ]
    assert "protein 5 cannot be read and is left out" in outcome.run.log_file.read_text()


def test_threads_change_no_bit_of_a_run(start: Start) -> None:
    none = start("train.workers=0", out="none").run
    many = start("train.workers=3", out="many").run
    assert losses(none) == losses(many)
    assert same_tensors(none.last / "model.safetensors", many.last / "model.safetensors")


class Together(Shelf):
    """A shelf that also gives many proteins at once, and says so."""

    def batch(self, indices: Sequence[int]) -> ProteinBatch:
        batch = ProteinBatch.from_proteins([self[index] for index in indices])
        return replace(batch, names=tuple(f"{name} at once" for name in batch.names))


@pytest.mark.parametrize("threads", [0, 2])
def test_a_dataset_that_gives_batches_is_asked_for_them_unless_one_protein_is_damaged(threads: int) -> None:
    notices: list[tuple[int, str]] = []
    shelf = Together({3: StructureError("damaged")})
    reader = Reader(cast(Any, shelf), threads, lambda *item: notices.append(item), pytest.fail)
    names = [batch.names for _, batch in reader.read(parts([1, 2], [2, 3], [4]))]
    assert names == [("1 at once", "2 at once"), ("2",), ("4 at once",)]
    assert notices == [(3, "damaged")]
