"""``esmgn runs``, ``esmgn report`` and ``esmgn check``."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from esmgn_core.pages.chart import Line, line_chart
from esmgn_core.run_folder import RunFolder

from .conftest import Esmgn

CONFIG = {
    "seq": {"name": "esm2_tiny", "component": "esm2"},
    "struct": {"name": "gearnet", "component": "gearnet"},
    "fuse": {"name": "serial", "component": "serial"},
    "pretext": {"name": "residue_type", "component": "residue_type"},
    "data": {"name": "sample"},
    "optim": {"lr": 0.001},
}


def recorded(path: Path, losses: list[float], lr: float = 0.001) -> RunFolder:
    """A run folder with records of a run."""
    path.mkdir(parents=True)
    run = RunFolder(path)
    run.config.write_text(tomli_w.dumps({**CONFIG, "optim": {"lr": lr}}))
    for step, loss in enumerate(losses, start=1):
        run.append_metrics(step, {"loss": loss, "residues_per_second": 100.0 + step})
    run.append_metrics(len(losses) + 1, {"loss": losses[-1], "valid_loss": losses[-1] + 0.1})
    run.log("3 training proteins, 1 validation protein, 2 files refused")
    run.log(f"finished at step {len(losses) + 1}")
    return run


def test_runs_are_listed_with_their_best_loss(esmgn: Esmgn, tmp_path: Path) -> None:
    recorded(tmp_path / "one", [3.0, 2.0])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.toml").write_text("[seq")
    (tmp_path / "broken" / "log.txt").write_text("")
    finished = esmgn("runs", "--in", tmp_path)
    assert finished.status == 0
    assert [line.split()[:4] for line in finished.out.splitlines()][1:2] == [
        ["one", "3", "valid_loss", "2.1000"]
    ]
    assert "finished at step 3" in finished.out
    assert "esm2_tiny + gearnet + serial + residue_type" in finished.out
    assert "broken" not in finished.out


def test_no_runs_name_the_next_command(esmgn: Esmgn, tmp_path: Path) -> None:
    assert esmgn("runs", "--in", tmp_path).out.splitlines() == [
        f"no runs in the folder {tmp_path}; list another folder: esmgn runs --in FOLDER",
        "start one: esmgn run --recipe quickstart",
    ]


def test_a_comparison_shows_only_settings_that_differ_and_both_curves(esmgn: Esmgn, tmp_path: Path) -> None:
    first = recorded(tmp_path / "one", [3.0, 2.0])
    second = recorded(tmp_path / "two", [3.0, 1.0], lr=0.01)
    out = esmgn("runs", "compare", first.path, second.path).out
    assert re.search(r"^optim\.lr +0\.001 +0\.01$", out, re.MULTILINE)
    assert "struct" not in out
    assert "loss, 1.0000 to 3.0000\n  A █▅▅  last 2.0000\n  B █▁▁  last 1.0000" in out


class Page(HTMLParser):
    """What a page would load, and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attributes if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_a_report_has_curves_and_records_and_loads_nothing(esmgn: Esmgn, tmp_path: Path) -> None:
    run = recorded(tmp_path / "a <run>", [3.0, 2.5, 2.0])
    run.add_refused("x<y>.pdb", "no CA atoms")
    finished = esmgn("report", run.path)
    assert finished.out.strip() == str(run.path / "report.html")
    text = (run.path / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.loads == []
    assert "script" not in page.tags
    assert "://" not in text
    assert page.tags.count("svg") == 2
    assert {"a <run>", "x<y>.pdb", "no CA atoms", "validation", "best validation loss"} <= set(page.texts)


def test_the_report_of_a_downstream_run_has_a_table_of_scores_and_draws_what_changes(
    esmgn: Esmgn, tmp_path: Path
) -> None:
    """No curve of test scores, which are logged once, nor of a learning rate that stays the same."""
    run = recorded(tmp_path / "down", [3.0, 2.5, 2.0])
    for step, (f_max, loss) in enumerate(((0.4, 2.0), (0.7, 1.5), (0.6, 1.0)), start=1):
        run.append_metrics(step, {"lr": 0.1, "loss": loss, "valid_f_max": f_max})
    run.append_metrics(3, {"test_f_max": 0.5})
    scores = {"f_max": {"value": 0.7, "low": 0.61, "high": 0.79}, "rank": {"value": None}}
    found: dict[str, Any] = {"valid": {"num_predictions": 1200, "scores": scores}}
    found["test_30"] = {"num_predictions": 7, "scores": {"f_max": {"value": 0.5}}}
    run.results.write_text(json.dumps({"step": 2, "metric": "f_max", "sets": found}))
    esmgn("report", run.path)
    page = Page()
    page.feed((run.path / "report.html").read_text())
    texts = " ".join(filter(None, page.texts))
    assert "validation 1,200 predictions test 30 7 predictions" in texts
    assert "Fmax 0.7000 0.610 to 0.790 0.5000" in texts
    assert "rank not defined" in texts
    assert "best validation Fmax 0.7000 at step 2" in texts
    assert "learning rate" not in texts.partition("Machine and software")[0]
    assert "test f max" not in texts


def test_a_curve_runs_from_left_to_right_and_small_values_are_low() -> None:
    [path] = re.findall(
        r'<polyline class="line"[^>]* points="([^"]+)"',
        line_chart([Line("validation", [(0, 3.0), (9, 1.0)], "red")]),
    )
    (x1, y1), (x2, y2) = (tuple(map(float, point.split(","))) for point in path.split())
    assert x1 < x2
    assert y1 < y2  # the page counts from the top


def test_a_report_goes_to_the_file_that_is_named(esmgn: Esmgn, tmp_path: Path) -> None:
    run, page = recorded(tmp_path / "run", [3.0, 2.5]), tmp_path / "elsewhere.html"
    assert esmgn("report", run.path, "--out", page).out.strip() == str(page)
    assert "<svg" in page.read_text()
    assert not (run.path / "report.html").exists()


def test_the_time_limit_of_the_command_is_a_setting_of_the_run(esmgn: Esmgn) -> None:
    assert "time_limit = 7.5" in esmgn("run", "--recipe", "quickstart", "--time-limit", 7.5, "--dry-run").out


def test_a_report_of_no_run(esmgn: Esmgn, tmp_path: Path) -> None:
    finished = esmgn("report", tmp_path)
    assert (finished.status, finished.err) == (
        2,
        f"error: no run in {tmp_path}: config.toml cannot be read\n  see: esmgn runs\n",
    )


SMALL = ["--set", "seq.name=esm2_tiny", "--set", "struct.hidden_dim=16", "--set", "data.num_proteins=6"]


def test_a_sound_run_passes_every_check(esmgn: Esmgn, tmp_path: Path) -> None:
    finished = esmgn("check", *SMALL, "--out", tmp_path / "runs")
    assert finished.status == 0, finished.out
    heads = [line.split()[1] for line in finished.out.splitlines()]
    assert heads == [
        f"{name}:"
        for name in (
            "settings",
            "device",
            "trackers",
            "weights",
            "model",
            "data",
            "batches",
            "memory",
            "disk",
        )
    ]
    assert not (tmp_path / "runs").exists()


def test_all_problems_are_reported_at_once(
    esmgn: Esmgn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESMGN_OFFLINE", "1")
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    problems = ["seq.name=esm2_8m", "train.device=cuda:7", "struct.hidden_dim=16", "data.num_proteins=6"]
    sets = [argument for text in problems for argument in ("--set", text)]
    finished = esmgn("check", *sets, "--processes", 64, "--out", tmp_path)
    assert finished.status == 2
    found = [line for line in finished.out.splitlines() if line.startswith("problem")]
    assert [re.sub(r" +", " ", line)[:42] for line in found] == [
        "problem device cuda:7 (train.device) is no",
        "problem weights are not on this machine, a",
        f"problem {finished.out.split('data: ')[1].split()[0]} training proteins cannot be shar"[:42],
        "problem checkpoints need 0.3 GB, 0.0 GB ar",
    ]
    assert "esmgn weights fetch esm2_8m" in finished.out
