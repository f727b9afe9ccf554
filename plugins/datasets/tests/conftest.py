"""Made-up archives in the layout of the published ones, and a server that has them."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from esmgn_core.testing import example_proteins
from esmgn_core.testing.files import write_pdb

CHAINS = {
    "train": ("1AAA-A", "1BBB-A", "1CCC-B"),
    "valid": ("2AAA-A",),
    "test": ("3AAA-A", "3BBB-A", "3CCC-A"),
}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder and the address under which its files are served."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def chain_files(tmp_path):
    """Folders ``train``, ``valid``, ``test`` with one file for each of CHAINS."""
    root = tmp_path / "chains"
    shapes = [protein for protein in example_proteins() if len(protein) > 2]
    for number, (split, chain) in enumerate((s, c) for s, chains in CHAINS.items() for c in chains):
        protein = replace(shapes[number % len(shapes)], name=chain)
        write_pdb(protein, root / split / f"{chain}_updated.pdb")
    return root
