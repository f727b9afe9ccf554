"""``esmgn weights`` and ``esmgn run --init``."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.host.presets import read_registry, shipped_registry
from esmgn_core.run_folder import RunFolder
from esmgn_core.weights import RemoteFile
from esmgn_esm2.encoder import ESM2

from .conftest import Esmgn

FUSION = Path(__file__).parents[1] / "fixtures" / "fusion"
SERIES = FUSION / "fusion_series.state.safetensors"
TINY = FUSION / "esm2_t2_tiny.pt"
CONTENT = TINY.read_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    """Address of a file that is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/tiny.pt?download=1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and working directory; nothing else on this machine is looked at."""
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("ESMGN_WEIGHTS_DIR", raising=False)
    monkeypatch.delenv("ESMGN_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)


def register(tmp_path: Path, text: str) -> None:
    """Write the user's registry."""
    file = tmp_path / "config" / "esmgn" / "registry.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f"schema = 1\n{text}")


def tiny_entries(url: str = "https://example.org/tiny.pt") -> str:
    size = "num_layers = 2, embed_dim = 16, attention_heads = 4"
    return (
        f'[seq.mine]\ncomponent = "esm2"\nsummary = "s"\nsettings = {{ {size} }}\n'
        f'checkpoint = {{ url = "{url}", sha256 = "{SHA256}", license = "MIT" }}\n'
        f'[weights.unsigned]\nlayout = "fair_esm"\nsummary = "s"\nurl = "{url}"\nlicense = "none stated"\n'
    )


def ok(finished: tuple[int, str, str]) -> str:
    status, out, err = finished
    assert (status, err) == (0, "")
    return out


def error(finished: tuple[int, str, str]) -> str:
    status, _, err = finished
    assert status == 2
    assert err.startswith("error: ")
    return err.removeprefix("error: ")


# list and fetch


def test_shipped_files_to_import_have_a_known_layout_and_an_address() -> None:
    """The six files of ESM-GearNet and the five of GearNet-Edge."""
    shipped = read_registry(shipped_registry())
    weights = shipped.weights
    assert [entry.layout for entry in weights.values()] == ["esm_gearnet"] * 6 + ["gearnet_edge"] * 5
    for name, entry in weights.items():
        file = RemoteFile(**entry.file)
        assert entry.layout in shipped.layouts
        assert file.filename == f"{name}.pth"
        assert file.license == "none stated"


def test_weights_are_listed_with_licence_and_place(esmgn: Esmgn, tmp_path: Path) -> None:
    register(tmp_path, tiny_entries())
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    (tmp_path / "cache" / "weights" / "tiny.pt").write_bytes(CONTENT)
    lines = [line.split("  ") for line in ok(esmgn("weights", "list")).splitlines()]
    rows = [[cell.strip() for cell in line if cell] for line in lines]
    assert ["esm2_8m", "MIT", "not here", "esm2_t6_8M_UR50D.pt"] in rows
    assert ["mc_esm_gearnet", "none stated", "not here", "mc_esm_gearnet.pth"] in rows
    assert ["mine", "MIT", "in the cache", "tiny.pt"] in rows


@pytest.mark.parametrize(
    ("variable", "folder", "words"),
    [
        ("ESMGN_WEIGHTS_DIR", "given", "in ESMGN_WEIGHTS_DIR"),
        ("TORCH_HOME", "torch/hub/checkpoints", "in torch hub's cache"),
    ],
)
def test_other_places_are_named(
    esmgn: Esmgn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, folder: str, words: str
) -> None:
    register(tmp_path, tiny_entries())
    monkeypatch.setenv(variable, str(tmp_path / folder.partition("/")[0]))
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "tiny.pt").write_bytes(CONTENT)
    [line] = [line for line in ok(esmgn("weights", "list")).splitlines() if line.startswith("mine ")]
    assert words in line


def test_weights_are_fetched_by_name(esmgn: Esmgn, tmp_path: Path, url: str) -> None:
    register(tmp_path, tiny_entries(url))
    lines = ok(esmgn("weights", "fetch", "mine")).splitlines()
    path = tmp_path / "cache" / "weights" / "tiny.pt"
    assert lines == [str(path), "licence: MIT", f"sha256: {SHA256}"]
    assert path.read_bytes() == CONTENT


def test_a_file_without_a_published_checksum_is_fetched_and_its_checksum_printed(
    esmgn: Esmgn, tmp_path: Path, url: str
) -> None:
    register(tmp_path, tiny_entries(url))
    text = ok(esmgn("weights", "fetch", "unsigned"))
    assert f"licence: none stated\nsha256: {SHA256}\n" in text
    assert "no checksum is published for this file; compare it with one you trust: --sha256\n" in text
    assert text.endswith("import it: esmgn weights import unsigned --out DIR\n")
    again = ok(esmgn("weights", "fetch", "unsigned", "--sha256", SHA256))
    assert "it has the one given by --sha256" in again


def test_the_users_checksum_counts(esmgn: Esmgn, tmp_path: Path, url: str) -> None:
    register(tmp_path, tiny_entries(url))
    text = error(esmgn("weights", "fetch", "unsigned", "--sha256", "0" * 64))
    assert f"is not the published file: sha256 is {SHA256}, expected {'0' * 64}" in text
    text = error(esmgn("weights", "fetch", "unsigned", "--sha256", "abc"))
    assert text.startswith("invalid settings for --sha256\n")


def test_a_failed_fetch_names_the_folder_for_the_file(
    esmgn: Esmgn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESMGN_OFFLINE", "1")
    lines = error(esmgn("weights", "fetch", "mc_esm_gearnet")).splitlines()
    assert lines == [
        "cannot download mc_esm_gearnet.pth: ESMGN_OFFLINE is set",
        "  fetch: https://zenodo.org/records/10034578/files/mc_esm_gearnet.pth?download=1",
        f"  save it as: {tmp_path / 'cache' / 'weights' / 'mc_esm_gearnet.pth'}",
        "  or save it in a folder named by ESMGN_WEIGHTS_DIR",
    ]


def test_an_unknown_name_has_its_nearest(esmgn: Esmgn) -> None:
    text = error(esmgn("weights", "fetch", "mc_esm_gearnets"))
    first = "unknown weights 'mc_esm_gearnets'\n  did you mean: mc_esm_gearnet?\n  available: esm2_8m, "
    assert text.startswith(first)
    assert text.endswith("\n  see: esmgn weights list\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('layout = "fair"\nsummary = "s"\nlicense = "MIT"\nurl = "https://a.b/c"', "unknown layout 'fair'"),
        (
            'layout = "fair_esm"\nsummary = "s"\nlicense = "MIT"\nurl = "ftp://a.b/c"',
            "  url  expected text that",
        ),
        ('layout = "fair_esm"\nsummary = "s"\nlicense = "MIT"', '[weights.x] needs url = "..."'),
        (
            'layout = "fair_esm"\nsumary = "s"',
            "unknown key 'sumary' in [weights.x]\n  did you mean: summary?",
        ),
    ],
)
def test_a_wrong_entry_is_named(esmgn: Esmgn, tmp_path: Path, text: str, message: str) -> None:
    register(tmp_path, f"[weights.x]\n{text}\n")
    assert message in error(esmgn("weights", "list"))


# import, export and --init


def test_an_official_file_becomes_a_run_and_goes_back(esmgn: Esmgn, tmp_path: Path) -> None:
    """Import, train from it, export: each command names the next one."""
    text = ok(esmgn("weights", "import", SERIES, "-o", "official"))
    assert text.splitlines() == [
        "esm_gearnet: 74 tensors, 11,754 parameters",
        "written: official",
        "start from it: esmgn run --init official --data FOLDER_OF_PDB_FILES",
    ]
    small = ("--set", "data.num_proteins=6", "--set", "data.max_length=40", "--set", "train.max_steps=1")
    status, out, _ = esmgn("run", "--init", "official", *small, "--out", "R")
    assert status == 0
    assert f"repeat it: esmgn run R/config.toml --init {tmp_path / 'official'}\n" in out
    assert load_file(RunFolder(Path("R")).model).keys() == load_file("official/model.safetensors").keys()
    assert ok(esmgn("weights", "export", "R", "-o", "trained.pth")).splitlines() == [
        "esm_gearnet: 74 tensors, 11,754 parameters",
        f"heads, which the encoder does not use: {tmp_path / 'official' / 'extras.safetensors'}",
        "written: trained.pth",
    ]
    trained, official = torch.load("trained.pth", weights_only=True), load_file(SERIES)
    assert {name: value.shape for name, value in trained.items()} == {
        name: value.shape for name, value in official.items()
    }


def test_weights_of_esm2_alone_are_started_by_their_run_file(esmgn: Esmgn) -> None:
    text = ok(esmgn("weights", "import", TINY, "-o", "imported"))
    assert text.splitlines()[2] == "start from it: esmgn run imported/config.toml --data FOLDER_OF_PDB_FILES"
    checked = ok(esmgn("run", "imported/config.toml", "--struct", "gearnet", "--dry-run"))
    assert "embed_dim = 16" in checked


def test_differences_are_printed_one_by_one(esmgn: Esmgn) -> None:
    state = load_file(SERIES)
    del state["structure_model.layers.1.linear.bias"]
    torch.save({**state, "extra": torch.zeros(2)}, "bad.pth")
    assert error(esmgn("weights", "import", "bad.pth", "-o", "imported")) == (
        "bad.pth does not have the layout esm_gearnet: 2 differences\n"
        "  missing: structure_model.layers.1.linear.bias [16]\n"
        "  unexpected: extra [2]\n"
    )
    assert not Path("imported").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "none.pth", "-o", "x"], "file not found: none.pth\n"),
        (
            ["import", "esm2_8m", "-o", "x"],
            "esm2_t6_8M_UR50D.pt is not on this machine\n  download it: esmgn ",
        ),
        (["import", "esm2_8mm", "-o", "x"], "unknown weights 'esm2_8mm'\n  did you mean: esm2_8m?\n"),
        (
            ["import", SERIES, "-o", "x", "--layout", "esmgearnet"],
            "unknown layout 'esmgearnet' (--layout)\n  did you mean: esm_gearnet?\n",
        ),
        (
            ["import", SERIES, "-o", "x", "--layout", "gearnet"],
            f"{SERIES} does not have the layout gearnet: ",
        ),
        (["export", "none", "-o", "x"], "no encoder in none: config.toml is missing\n"),
        (["verify", "none.pt"], "file not found: none.pt\n"),
    ],
)
def test_mistakes_are_named(esmgn: Esmgn, arguments: list[str], message: str) -> None:
    assert error(esmgn("weights", *arguments)).startswith(message)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "no encoder in R: config.toml is missing\n  expected a run folder, or a folder written by"),
        (
            ["config.toml", "last/"],
            "model.safetensors is missing\n  the run has not written its best encoder yet; resume it",
        ),
    ],
)
def test_a_folder_without_an_encoder_is_no_start(esmgn: Esmgn, made: list[str], message: str) -> None:
    for name in ["R/", *(f"R/{name}" for name in made)]:
        Path(name).mkdir() if name.endswith("/") else Path(name).touch()
    assert message in error(esmgn("run", "--init", "R"))


def test_a_file_is_imported_before_a_run_starts_from_it(esmgn: Esmgn) -> None:
    assert f"esmgn weights import {SERIES} -o DIR" in error(esmgn("run", "--init", SERIES))


def test_a_resumed_run_has_its_start(esmgn: Esmgn) -> None:
    text = error(esmgn("run", "--resume", "R", "--init", "official"))
    assert "--resume continues a run unchanged; it cannot be combined with --init" in text


# verify


def golden(path: Path, *, noise: float = 0.0) -> Path:
    """A recording of the 20 amino acids, made with the tiny weights."""
    settings = ESM2.Settings(num_layers=2, embed_dim=16, attention_heads=4, weights=TINY)
    encoder = ESM2(settings)
    length = len(AMINO_ACIDS)
    protein = Protein(
        name="alphabet",
        residue_type=torch.arange(length),
        backbone=torch.zeros(length, 4, 3),
        atom_mask=torch.ones(length, 4, dtype=torch.bool),
        residue_index=torch.arange(length),
        chain_index=torch.zeros(length, dtype=torch.int64),
    )
    tokens = encoder.token_table[protein.residue_type]
    with torch.no_grad():
        hidden = encoder(ProteinBatch.from_proteins([protein])).residue
    hidden = hidden + noise * torch.randn(hidden.shape)
    recording = {"input__input_ids": tokens, "residue_mask": torch.ones_like(tokens, dtype=torch.bool)}
    recording["output__last_hidden_state"] = hidden
    save_file({name: tensor[None].contiguous() for name, tensor in recording.items()}, path)
    return path


def test_weights_that_give_the_recorded_outputs_are_verified(
    esmgn: Esmgn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(tmp_path, tiny_entries())
    monkeypatch.setenv("ESMGN_WEIGHTS_DIR", str(tmp_path / "given"))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "tiny.pt").write_bytes(CONTENT)
    recording = golden(tmp_path / "given" / "mine.golden.safetensors")
    lines = ok(esmgn("weights", "verify", "mine")).splitlines()
    assert [line.split()[0] for line in lines] == ["file", "checksum", "layout", "outputs"]
    assert lines[1] == "checksum  matches the published sha256"
    assert lines[3].startswith(f"outputs   match {recording}: ")
    assert "relative difference 0.0000, smallest cosine 1.0000" in lines[3]


def test_other_outputs_than_recorded_are_an_error(esmgn: Esmgn, tmp_path: Path) -> None:
    recording = golden(tmp_path / "recorded.safetensors", noise=1.0)
    text = error(esmgn("weights", "verify", TINY, "--golden", recording))
    assert text.startswith(f"{TINY} does not reproduce the outputs recorded in {recording}\n")


def test_missing_inputs_of_verification_are_named(esmgn: Esmgn) -> None:
    assert error(esmgn("weights", "verify", "esm2_8m")) == (
        "esm2_t6_8M_UR50D.pt is not on this machine\n  download it: esmgn weights fetch esm2_8m\n"
    )
    text = error(esmgn("weights", "verify", TINY))
    assert text.startswith(f"no recorded outputs of {TINY} on this machine\n")
    assert f"esmgn weights verify {TINY} --golden FILE.safetensors" in text


def test_files_without_recordings_are_checked_to_the_last_tensor(esmgn: Esmgn) -> None:
    lines = ok(esmgn("weights", "verify", SERIES)).splitlines()
    assert lines[2].startswith("layout    esm_gearnet: 74 tensors, 11,754 parameters, no tensor is missing")
    assert lines[3] == "outputs   not compared: there are no recorded outputs for this layout"
