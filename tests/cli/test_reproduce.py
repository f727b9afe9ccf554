"""``esmgn reproduce``: every step on a made-up archive of the published layout."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from esmgn_core.study.published import PublishedValue, published
from esmgn_core.testing import example_proteins
from esmgn_core.testing.files import write_pdb

from .conftest import Esmgn

LABELS = "### EC-numbers\n1.1.1.-\t2.7.1.1\n### PDB-chain\tEC-numbers\n"
SMALL = (
    "seq.name=onehot",
    "struct.hidden_dim=8",
    "struct.num_layers=1",
    "train.epochs=1",
    "train.device=cpu",
)
SETS = [part for text in (*SMALL, "train.trackers=[]", "train.resamples=0") for part in ("--set", text)]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Six chains in the layout of the published archive."""
    shapes = [protein for protein in example_proteins() if len(protein) > 2]
    folder, rows = tmp_path / "served", LABELS
    folder.mkdir()
    path = folder / "EnzymeCommission.zip"
    with zipfile.ZipFile(path, "w") as outer:
        for number, split in enumerate(("train", "train", "valid", "valid", "test", "test")):
            chain = f"{number + 1}AAA-A"
            write_pdb(replace(shapes[number % len(shapes)], name=chain), tmp_path / split / f"{chain}_x.pdb")
            rows += f"{chain}\t{('1.1.1.-', '2.7.1.1')[number % 2]}\n"
        for split in ("train", "valid", "test"):
            inner = tmp_path / f"{split}.zip"
            with zipfile.ZipFile(inner, "w") as zipped:
                for file in sorted((tmp_path / split).iterdir()):
                    zipped.write(file, f"{split}/{file.name}")
            outer.write(inner, f"EnzymeCommission/{split}.zip")
        outer.writestr("EnzymeCommission/nrPDB-EC_annot.tsv", rows)
        tests = "PDB-chain,<30%,<40%,<50%,<70%,<95%\n5AAA-A,1,1,1,1,1\n6AAA-A,0,0,1,1,1\n"
        outer.writestr("EnzymeCommission/nrPDB-EC_test.csv", tests)
    return path


@pytest.fixture
def served(archive: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(archive.parent))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{archive.name}"
        server.shutdown()
        thread.join()


def command_with_archive(url: str, md5: str) -> Callable[[int], Callable[[Sequence[str]], list[str]]]:
    """``esmgn run`` that takes the archive from another address."""
    script = (
        "import sys; from esmgn_datasets import function; from esmgn_cli.__main__ import main;"
        f"changes = {{'url': {url!r}, 'md5': {md5!r}}};"
        "function.EC_ARCHIVE = function.EC_ARCHIVE.model_copy(update=changes);"
        "sys.argv = ['esmgn', 'run', *sys.argv[1:]]; main()"
    )
    return lambda _: lambda arguments: [sys.executable, "-c", script, *arguments]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, esmgn: Esmgn) -> Esmgn:
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("ESMGN_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    return esmgn


def expect(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the published value be ``value``."""

    def changed(row: str, task: str) -> PublishedValue | None:
        found = published(row, task)
        return found and replace(found, value=value)

    monkeypatch.setattr("esmgn_core.study.reproduce.published", changed)


def test_a_result_is_repeated_from_the_archive_to_the_verdict(
    here: Esmgn, archive: Path, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()  # noqa: S324 - what the publishers give
    monkeypatch.setattr("esmgn_cli.reproduce_command.run_command", command_with_archive(served, md5))
    expect(2.0, monkeypatch)
    failed = here("reproduce", "ec", *SETS)
    assert failed.status == 1, failed.err
    [results] = (tmp_path / "studies" / "reproduce" / "runs").glob("*/results.json")
    score = json.loads(results.read_text())["sets"]["test"]["scores"]["f_max"]["value"]
    assert (
        f"fail: f_max {score:.3f}; published 2.000 for ESM-GearNet serial: {2 - score:.3f} below it"
        in failed.out
    )
    assert "not comparable: train.epochs = 1, published 50" in failed.out
    assert list((tmp_path / "cache").rglob("nrPDB-EC_annot.tsv"))
    expect(score + 0.004, monkeypatch)
    passed = here("reproduce", "ec", *SETS)
    assert passed.status == 0, passed.err
    assert f"pass: f_max {score:.3f}; published {score + 0.004:.3f}" in passed.out
    assert "within 0.01" in passed.out


def test_another_archive_ends_with_the_reason(
    here: Esmgn, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmgn_cli.reproduce_command.run_command", command_with_archive(served, "0" * 32))
    done = here("reproduce", "ec", *SETS)
    assert done.status == 2
    assert "error: the run has not finished: failed" in done.err
    assert "is not the published file: md5 is" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("go_mp",), "no published results of the task 'go_mp'\n  did you mean: go_"),
        (
            ("ec", "--row", "GearNet serial"),
            "no published result of 'GearNet serial' on the task 'ec' (--row)",
        ),
        (("msp", "--row", "ESM-2-650M"), "rows: GVP, "),
    ],
)
def test_unknown_rows_and_tasks_are_named(here: Esmgn, arguments: tuple[str, ...], message: str) -> None:
    done = here("reproduce", *arguments)
    assert done.status == 2
    assert message in done.err
