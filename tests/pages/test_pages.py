"""Names of users, files and runs are inert in pages, and pages make no network requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import gemmi
import matplotlib.image
import pytest
import tomli_w
import torch

from esmgn_core.engine.runs import RunSummary
from esmgn_core.inference.mutate.heatmap import draw_heatmap
from esmgn_core.inference.mutate.variants import Addresses
from esmgn_core.inference.predict.page import PageEntry, plain_chains, viewer_text, write_page
from esmgn_core.inference.predict.predictor import Prediction
from esmgn_core.io.write import pdb_text
from esmgn_core.pages import Markup, render
from esmgn_core.pages.run import run_page as run_report
from esmgn_core.pages.store import store_page as store_report
from esmgn_core.run_folder import RunFolder
from esmgn_core.store import BuildOptions, Store
from esmgn_core.store import build as build_store
from esmgn_core.testing import example_proteins

from .conftest import Browse, Page

MARKUP = "x</title><script>document.title='bad'</script><img src=x onerror=alert(1)>\"'&amp;"
CONTROLS = "\x1b[31m\n\x07\u202egnp"
NAME = f"{MARKUP}@DATA@{{{{title}}}}<!--<script>$x^${CONTROLS}"
SPELLED = NAME.replace(CONTROLS, r"\x1b[31m\n\x07\u202egnp")
IN_A_FILE_NAME = "x<img src=x onerror=alert(1)>\"'&amp;$x^${y}\x1b[31m\n\u202egnp"
FILE_SPELLED = IN_A_FILE_NAME.replace("\x1b[31m\n\u202egnp", r"\x1b[31m\n\u202egnp")


def run_page(folder: Path) -> Path:
    run = RunFolder(folder / IN_A_FILE_NAME)
    run.path.mkdir()
    tables = {kind: {"name": NAME, "component": "x"} for kind in ("seq", "struct", "fuse", "downstream")}
    config = {**tables, "data": {"name": "csv", "table": NAME, NAME: [NAME]}, NAME: {"a": NAME}}
    run.config.write_text(tomli_w.dumps(config))
    run.environment.write_text(json.dumps({"command": ["esmgn", NAME], NAME: NAME, "packages": {NAME: NAME}}))
    for step, value in enumerate((0.4, 0.7, 0.6), start=1):
        values = {"loss": 3.0 - value, "valid_loss": 2.0 - step, "valid_f_max": value, NAME: value}
        run.append_metrics(step, values)
    scores = {"f_max": {"value": 1.0, "without_interval": 5}, NAME: {"value": 0.5, "low": 0.4, "high": 0.6}}
    sets = {name: {"num_predictions": 5, "scores": scores} for name in ("valid", NAME)}
    run.results.write_text(json.dumps({"step": 2, "metric": "f_max", "sets": sets}))
    run.refused.write_text(f"path\treason\n{MARKUP}\t{MARKUP}\x1b[2J\n")
    # The format of earlier versions, in which the state of a run is in its log.
    run.log_file.write_text(f"2026-01-01 00:00:00  failed: {MARKUP}\x1b[31m\n")
    page = folder / "report.html"
    page.write_text(run_report(RunSummary.of(run.path)), encoding="utf-8")
    return page


def store_page(folder: Path) -> Path:
    source = folder / "structures"
    source.mkdir()
    (source / "good.pdb").write_text(pdb_text(example_proteins()[0]))
    store = folder / IN_A_FILE_NAME
    build_store([str(source)], store, BuildOptions(workers=1))
    opened = Store(store)
    page = folder / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("esmgn_core.pages.store.reasons", lambda _: [(NAME, 3)])
        page.write_text(store_report(opened), encoding="utf-8")
    return page


def predictions_page(folder: Path, *, viewer: bool = False) -> Path:
    protein = example_proteins()[0]
    named = replace(protein, name=NAME, plddt=torch.full((len(protein),), 95.0))
    found = [Prediction(NAME, NAME, 0.9, True, NAME), Prediction(NAME, "other", 0.1, False, NAME)]
    shown = [PageEntry(named, found, torch.linspace(-1, 1, len(protein)), NAME)]
    page = folder / "predictions.html"
    with pytest.MonkeyPatch.context() as patch:
        if not viewer:
            files = folder / "viewer.js", folder / "viewer.css"
            files[0].write_text("export default { render: () => {} };")
            files[1].write_text("")
            patch.setattr("esmgn_core.inference.predict.page.viewer_files", lambda: files)
        write_page(shown, page, title=NAME, notes=[NAME], warnings=[NAME])
    return page


PAGES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "run": (run_page, SPELLED),
    "store": (store_page, SPELLED),
    "predictions": (predictions_page, SPELLED),
}


def holds_nothing_foreign(page: Page, num_scripts: int) -> None:
    assert "img" not in page.tags
    assert page.tags.count("script") == num_scripts
    assert not [item for item in page.attributes if item[1].startswith("on")]
    assert not [item for item in page.attributes if item[1] in ("src", "href") and item[2][:1] != "#"]
    assert page.tags.count("title") - page.tags.count("circle") <= 1
    assert not set(page.text) & {"\x1b", "\x07", "\u202e"}


@pytest.mark.parametrize("name", PAGES)
def test_names_are_text_in_every_page(name: str, tmp_path: Path) -> None:
    make, spelled = PAGES[name]
    page = Page(make(tmp_path).read_text(encoding="utf-8"))
    holds_nothing_foreign(page, 3 if name == "predictions" else 0)
    assert spelled in page.text
    [policy] = [value for tag, _, value in page.attributes if tag == "meta" and "default-src" in value]
    assert policy.startswith("default-src 'none';")


def test_every_field_of_a_run_is_escaped(tmp_path: Path) -> None:
    page = Page(run_page(tmp_path).read_text(encoding="utf-8"))
    texts = [text.strip() for text in page.texts]
    assert FILE_SPELLED in texts
    assert rf"failed: {MARKUP}\x1b[31m" in texts, "the tile of the state"
    assert rf"2026-01-01 00:00:00  failed: {MARKUP}\x1b[31m" in texts, "the log"
    assert rf"{MARKUP}\x1b[2J" in texts, "a reason of refusal"
    assert " + ".join([SPELLED] * 4) in texts, "the composition"
    spoken = SPELLED.replace("_", " ")
    assert {SPELLED, spoken} <= set(texts), "names of settings and scores"
    assert "best validation Fmax" in texts
    assert "0.7000" in texts
    assert "no interval: n = 5" in texts
    assert "lowest validation loss" not in page.text


@pytest.mark.parametrize("name", PAGES)
def test_pages_run_no_injected_code_and_load_nothing(name: str, tmp_path: Path, browse: Browse) -> None:
    make, spelled = PAGES[name]
    visit = browse(make(tmp_path))
    assert visit.requests == []
    holds_nothing_foreign(visit.dom, 3 if name == "predictions" else 0)
    assert spelled in visit.dom.text
    if name == "predictions":
        assert visit.dom.texts.count(SPELLED) >= 5, "title, warning, note, choice, label, caveat"


@pytest.mark.slow
def test_the_viewer_draws_without_requests(tmp_path: Path, browse: Browse) -> None:
    """Mol* with all its extensions requests a list from a volume server at start."""
    if find_spec("ipymolstar") is None:
        pytest.skip("needs the extra 'viewer' (ipymolstar)")
    visit = browse(predictions_page(tmp_path, viewer=True))
    assert visit.requests == []
    assert "canvas" in visit.dom.tags
    assert ("button", "aria-pressed", "true") in visit.dom.attributes
    assert visit.dom.text.index("\npLDDT\n") < visit.dom.text.index(f"importance for {SPELLED}")
    pixels = (255 * matplotlib.image.imread(visit.screenshot)).astype(int)[200:800, 480:]
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    assert int(((blue > 2 * red + 40) & (blue > green + 40)).sum()) > 1000, "no blue cartoon is drawn"


@pytest.mark.parametrize(
    "chain", ["", "_", "$", ";", "#", "?", "data_", "a'b\"c d", "a\n;b", "\x1b", "\u00e9", "chain-2", "A-1"]
)
def test_a_chain_is_drawn_whatever_its_name(chain: str) -> None:
    """Some names are syntax in mmCIF, and the viewer would draw nothing."""
    protein = example_proteins()[0]
    assert len(protein.chains) == 2
    names = plain_chains((chain, "chain-1"))
    assert len(set(names)) == 2
    assert names[1] == "chain-1"
    read = gemmi.cif.read_string(viewer_text(replace(protein, chains=names)))
    structure = gemmi.make_structure_from_block(read.sole_block())
    assert [each.name for each in structure[0]] == list(names)


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_heat_map_shows_names_literally(tmp_path: Path, ending: str) -> None:
    """Dollar signs start no formula, the SVG has no markup, and control characters are visible."""
    protein = example_proteins()[0]
    named = replace(protein, name=NAME, chains=(f"$x^$<b>{CONTROLS}",) * len(protein.chains))
    variants = Addresses(named).all_substitutions(None)[:60]
    path = tmp_path / f"map.{ending}"
    scores = [(variant, -1.0) for variant in variants]
    draw_heatmap(scores, path, title=NAME, subtitle=NAME, label=NAME)
    if ending == "svg":
        page = Page(path.read_text(encoding="utf-8"))
        assert not {"img", "script", "b"} & set(page.tags)
        assert "\x1b" not in path.read_text(encoding="utf-8")


def test_templates_escape_all_but_our_own_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.html").write_text("{{ a }} {{ b }} {{ c | tojson }}")
    monkeypatch.setattr("esmgn_core.pages._FOLDER", tmp_path)
    from esmgn_core import pages

    pages._environment.cache_clear()
    try:
        text = render("t.html", a="<i>\x1b", b=Markup("<i>"), c={"b": "</script>", "a": 1})
    finally:
        pages._environment.cache_clear()
    assert text == r'&lt;i&gt;\x1b <i> {"b": "\u003c/script\u003e", "a": 1}'
