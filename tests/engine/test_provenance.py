"""A resumed run says what changed since it started; one that no longer fits is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from esmgn_core.engine.provenance import data_fingerprint
from esmgn_core.engine.session import resume_run
from esmgn_core.errors import RunError
from esmgn_core.host.configure import parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.io.write import pdb_text
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.run_folder import RunFolder
from esmgn_datasets.sample import Sample
from esmgn_datasets.table import Table

from .conftest import Start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve structures of 30 to 40 residues."""
    path = tmp_path / "structures"
    path.mkdir()
    proteins = Sample(Sample.Settings(num_proteins=12, min_length=30, max_length=40))
    for number in range(12):
        (path / f"p{number:02}.pdb").write_text(pdb_text(proteins[number]))
    return path


def resumed_log(run: RunFolder, *changes: str) -> str:
    """What the log has to say when the run is resumed."""
    before = len(run.log_file.read_text())
    resume_run(discover(), run.path, changes=parse_assignments(changes))
    return run.log_file.read_text()[before:]


def started(start: Start, folder: Path) -> RunFolder:
    return start("data.name=folder", f"data.path={folder}", "data.valid_fraction=0").run


def edit(run: RunFolder, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(run.environment.read_text())
    change(record)
    run.environment.write_text(json.dumps(record))


def test_a_run_that_goes_on_as_it_was_says_nothing(start: Start, folder: Path) -> None:
    log = resumed_log(started(start, folder), "train.epochs=3")
    assert "since the run started" not in log
    assert "environment" not in log


def test_proteins_that_are_gone_are_counted(start: Start, folder: Path) -> None:
    run = started(start, folder)
    (folder / "p00.pdb").unlink()
    assert (
        "the data changed since the run started: 12 proteins then, 11 now, "
        "12 training proteins then, 11 now; "
        "steps from here on use other proteins than without the interruption"
        in resumed_log(run, "train.epochs=3")
    )


def test_coordinates_that_changed_are_noticed(start: Start, folder: Path) -> None:
    run = started(start, folder)
    text = (folder / "p00.pdb").read_text()
    place = text.index("ATOM ") + 30
    (folder / "p00.pdb").write_text(f"{text[:place]}  99.000{text[place + 8 :]}")
    log = resumed_log(run, "train.epochs=3")
    assert "the data changed since the run started: sequences or coordinates of the proteins differ;" in log


def test_renamed_proteins_are_noticed(start: Start, folder: Path) -> None:
    run = started(start, folder)
    (folder / "p11.pdb").rename(folder / "q.pdb")
    assert "started: the names of the proteins differ;" in resumed_log(run, "train.epochs=3")


def test_a_checkpoint_beyond_the_last_step_is_refused(start: Start, folder: Path) -> None:
    run = started(start, folder)
    for number in range(6):
        (folder / f"p{number:02}.pdb").unlink()
    files = {path: path.read_bytes() for path in (run.config, run.environment, run.metrics)}
    with pytest.raises(RunError) as caught:
        resume_run(discover(), run.path, changes={})
    message, difference, hint = str(caught.value).splitlines()
    assert message == f"cannot resume {run.path} at step 6: the run now has 4 steps"
    assert "12 proteins then, 6 now" in difference
    assert hint == "  restore its data and settings, or train longer: --set train.epochs=N"
    assert files == {path: path.read_bytes() for path in files}


def test_edited_settings_are_named(start: Start) -> None:
    run = start().run
    run.config.write_text(run.config.read_text().replace("lr = 0.001\n", "lr = 0.01\n"))
    log = resumed_log(run, "train.epochs=3")
    assert f"{run.config} was edited since the run started: optim.lr 0.001 -> 0.01; the run goes on" in log
    assert "was edited" not in resumed_log(run, "train.epochs=4")


def test_other_packages_and_processes_are_named(start: Start) -> None:
    run = start().run
    edit(run, lambda record: record["packages"].update(torch="1.0") or record.update(num_processes=2))
    log = resumed_log(run, "train.epochs=3")
    expected = (
        rf"another environment: torch 1\.0 -> {re.escape(torch.__version__)}, processes 2 -> 1; results agree"
    )
    assert re.search(expected, log)


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"data": 3, "packages": [3], "plugins": {}, "settings": []}', b"\xff"]
)
def test_a_damaged_record_does_not_stop_a_resume(start: Start, content: str | bytes) -> None:
    run = start().run
    run.environment.write_bytes(content.encode() if isinstance(content, str) else content)
    assert "resumed at step 6 of 9" in resumed_log(run, "train.epochs=3")


def test_an_encoder_trained_with_other_settings_is_named(start: Start) -> None:
    first = start(out="first").run
    log = start("graph.radius=8", out="second", init=EncoderFolder(first.path).path).run.log_file.read_text()
    assert (
        f"the encoder in {first.path} was trained with other settings: graph.radius 10.0 -> 8.0; its" in log
    )
    log = start(out="third", init=first.path).run.log_file.read_text()
    assert "other settings" not in log


def test_labels_are_part_of_the_fingerprint(folder: Path) -> None:
    table = folder / "table.csv"

    def fingerprint(value: float) -> dict[str, Any]:
        rows = [f"p{number:02},{value},{'valid' if number > 9 else 'train'}\n" for number in range(12)]
        table.write_text("file,value,split\n" + "".join(rows))
        settings = Table.Settings(table=table, kind="regression", labels=("value",))
        return data_fingerprint(Table(settings))

    one, other = fingerprint(1.0), fingerprint(2.0)
    assert {name for name in one if one[name] != other[name]} == {"labels"}
    assert (one["num_train"], one["num_valid"]) == (10, 2)


@pytest.mark.parametrize(
    ("lost", "what"),
    [(("data",), "data"), (("settings",), "settings"), (("data", "settings"), "data and the settings")],
)
def test_a_run_that_recorded_neither_data_nor_settings_says_what_is_not_checked(
    start: Start, folder: Path, lost: tuple[str, ...], what: str
) -> None:
    run = started(start, folder)
    edit(run, lambda record: [record.pop(name) for name in lost])
    log = resumed_log(run, "train.epochs=3")
    assert f"not checked: whether the {what} changed since the run started; {run.environment} does not" in log
