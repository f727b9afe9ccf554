"""Charts and the page of a study."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from esmgn_core.host.registry import discover
from esmgn_core.pages.chart import standalone
from esmgn_core.pages.study import study_charts, study_page
from esmgn_core.study.folder import StudyFolder
from esmgn_core.study.plan import Study
from esmgn_core.study.results import Results, read_results
from esmgn_core.study.table import Table, make_table

from .test_table import finish

REGISTRY = discover()
FUSERS = ["serial", "parallel"]
STUDY = Study.of(
    {
        "name": "grid",
        "summary": "a <b>study</b>",
        "run": {"seq": "onehot", "pretext": "residue_type"},
        "axes": {"seed": [0, 1, 2]},
        "rows": [
            {"label": "{struct} & {fuse}", "struct": ["gearnet", "gvp"], "fuse": ["serial", "parallel"]}
        ],
    },
    origin="a.toml",
    name="grid",
)


@pytest.fixture
def found(tmp_path: Path) -> tuple[Results, Table]:
    folder = StudyFolder(tmp_path / "study")
    cells = STUDY.cells(REGISTRY)
    for number, cell in enumerate(cells[:-1]):
        lines = [{"step": step, "valid_loss": 3 - step / 10 + number / 100} for step in (1, 2)]
        path = finish(cell, folder, lines)
        log = "2026-01-01 10:00:00  started, from step 0 of 2\n2026-01-01 10:0{}:00  finished at step 2\n"
        (path / "log.txt").write_text(log.format(number // 3 + 1))
    results = read_results(cells, folder)
    return results, make_table(results, REGISTRY)


def test_every_kind_of_chart_is_drawn_and_is_a_valid_file(found: tuple[Results, Table]) -> None:
    sections = study_charts(*found)
    assert [*sections] == [
        "Rows with 95 % intervals",
        "Encoder by fusion",
        "Learning curves",
        "Score against compute",
    ]
    for [chart] in sections.values():
        drawn = ET.fromstring(standalone(chart.svg))  # noqa: S314 - our own text
        assert drawn.tag.endswith("svg")
        assert re.fullmatch(r"[\w.-]+", chart.name)


def test_the_heat_map_has_a_cell_for_each_pair(found: tuple[Results, Table]) -> None:
    [chart] = study_charts(*found)["Encoder by fusion"]
    shown = re.findall(r">([\d.]+)</text>", chart.svg)
    means = [entry.mean for entry in found[1].entries.values()]
    assert sorted(map(float, shown)) == pytest.approx(sorted(means), rel=0.01)


def test_compute_is_the_time_in_the_log(found: tuple[Results, Table]) -> None:
    results, _ = found
    assert [result.seconds for result in results.cells][:4] == [60, 60, 60, 120]


def test_the_page_has_all_numbers_and_escapes_names(found: tuple[Results, Table]) -> None:
    page = study_page(STUDY, *found)
    assert "a &lt;b&gt;study&lt;/b&gt;" in page
    assert page.count("gearnet &amp; serial") >= 3
    assert "1 cell not done" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["']?http""", page)


def test_a_study_of_one_cell_has_a_page_too(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    cells = Study.of({"run": {"seq": "onehot"}}, origin="a.toml", name="a").cells(REGISTRY)
    finish(cells[0], folder, [{"step": 1, "valid_loss": 2.0}])
    results = read_results(cells, folder)
    page = study_page(STUDY, results, make_table(results, REGISTRY))
    assert "2.000" in page
