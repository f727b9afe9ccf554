from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from esmgn_core.errors import WeightsError
from esmgn_core.weights import (
    Checkpoint,
    RemoteFile,
    cache_dir,
    fetch,
    file_sha256,
    load_file,
    locate,
    remembered_digests,
)

CONTENT = b"weights " * 1000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache; nothing else on this machine is looked at."""
    monkeypatch.setenv("ESMGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("ESMGN_WEIGHTS_DIR", raising=False)
    monkeypatch.delenv("ESMGN_OFFLINE", raising=False)
    return tmp_path / "cache"


class Server(ThreadingHTTPServer):
    """Serves ``content``; counts the requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/models/file.pt"
        self.content = CONTENT
        self.delay = 0.0
        self.requests = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server: Any = self.server
        server.requests += 1
        time.sleep(server.delay)
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        total = len(server.content)
        self.send_response(206 if start else 200)
        self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        self.wfile.write(server.content[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def nowhere(monkeypatch):
    """A checkpoint on a port where nobody listens; attempts to connect follow without a pause."""
    monkeypatch.setattr("esmgn_core.machine.download.time.sleep", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return checkpoint(f"http://127.0.0.1:{port}/models/file.pt")


def checkpoint(url="https://example.org/models/file.pt", **changes) -> Checkpoint:
    return Checkpoint(**{"url": url, "md5": MD5, "license": "MIT", **changes})


def placed(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Checkpoint


def test_checkpoint_needs_a_checksum():
    """Without a checksum, a damaged or wrong file cannot be recognised."""
    with pytest.raises(ValidationError, match="needs md5 or sha256"):
        checkpoint(md5=None)
    assert checkpoint(md5=None, sha256=SHA256).sha256 == SHA256


@pytest.mark.parametrize(
    ("url", "filename"),
    [
        ("https://example.org/a/esm2_t6.pt", "esm2_t6.pt"),
        ("https://zenodo.org/records/1/files/mc.pth?download=1", "mc.pth"),
        ("https://example.org/a/with%20space.pt#part", "with space.pt"),
        ("https://example.org/%2e%2e%2fpasswd", "passwd"),
    ],
)
def test_filename_is_the_last_part_of_the_address(url, filename):
    assert checkpoint(url).filename == filename


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "file:///etc/passwd"},
        {"url": "ftp://example.org/a.pt"},
        {"url": "https://example.org"},
        {"url": "https://example.org/a/.."},
        {"md5": "12"},
        {"sha256": "Z" * 64},
        {"sha1": "0"},
    ],
)
def test_malformed_checkpoints_are_refused(changes):
    with pytest.raises(ValidationError):
        checkpoint(**changes)


# Where files are looked for


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ESMGN_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, Path("/c")),
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/esmgn")),
        ({}, Path.home() / ".cache" / "esmgn"),
    ],
)
def test_cache_is_named_or_where_caches_are(monkeypatch, variables, expected):
    for name in ("ESMGN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == expected


def test_download_is_verified_and_kept(server, cache):
    """The file gets its official name only once verified; the second call connects no more."""
    path = fetch(checkpoint(server.url, sha256=SHA256))
    assert path == cache / "weights" / "file.pt"
    assert path.read_bytes() == CONTENT
    assert not path.with_name("file.pt.part").exists()
    assert fetch(checkpoint(server.url)) == path
    assert server.requests == 1


def test_offline_folder_comes_first_and_is_only_read(tmp_path, monkeypatch, cache):
    path = placed(tmp_path / "given" / "file.pt")
    placed(cache / "weights" / "file.pt")
    monkeypatch.setenv("ESMGN_WEIGHTS_DIR", str(path.parent))
    monkeypatch.setenv("ESMGN_OFFLINE", "1")
    assert fetch(checkpoint()) == path
    assert [item.name for item in path.parent.iterdir()] == ["file.pt"]


def test_torch_hubs_copy_is_used(tmp_path):
    path = placed(tmp_path / "torch" / "hub" / "checkpoints" / "file.pt")
    assert locate(checkpoint()) == path


def test_damaged_copy_is_passed_over(server, tmp_path):
    placed(tmp_path / "torch" / "hub" / "checkpoints" / "file.pt", b"half a file")
    assert fetch(checkpoint(server.url)).read_bytes() == CONTENT


def test_damaged_file_in_the_cache_is_replaced(server, cache):
    path = placed(cache / "weights" / "file.pt", b"half a file")
    assert fetch(checkpoint(server.url)) == path
    assert path.read_bytes() == CONTENT


def test_copy_that_cannot_be_read_is_passed_over(server, tmp_path, monkeypatch):
    """Torch hub's folder may belong to somebody else."""
    path = placed(tmp_path / "torch" / "hub" / "checkpoints" / "file.pt")
    opened = Path.open

    def guarded(self, *args, **kwargs):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", guarded)
    assert fetch(checkpoint(server.url)) != path


def test_locate_finds_nothing_without_connecting(nowhere):
    assert locate(nowhere) is None


# What cannot be had


def test_the_error_for_an_unreachable_host_lists_solutions(nowhere, cache):
    """The message names the file, where to put it, and the way without it."""
    with pytest.raises(WeightsError) as caught:
        fetch(nowhere)
    first, *hints = str(caught.value).splitlines()
    assert first.startswith("cannot download file.pt: ")
    assert "refused" in first
    assert hints == [
        f"  fetch: {nowhere.url}",
        f"  save it as: {cache / 'weights' / 'file.pt'}",
        "  or save it in a folder named by ESMGN_WEIGHTS_DIR",
        "  or start from random weights: --set seq.weights=random",
    ]


def test_the_message_names_the_given_setting(nowhere):
    with pytest.raises(WeightsError, match=r"--set struct\.weights=random"):
        fetch(nowhere, setting="struct.weights")


def test_offline_never_connects(server, monkeypatch):
    monkeypatch.setenv("ESMGN_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"cannot download file\.pt: ESMGN_OFFLINE is set"):
        fetch(checkpoint(server.url))
    assert server.requests == 0


def test_damaged_copy_is_named_when_there_is_no_other(monkeypatch, cache):
    """Who copied the file by hand learns that the copy is bad, not only that it is missing."""
    path = placed(cache / "weights" / "file.pt", b"half a file")
    monkeypatch.setenv("ESMGN_OFFLINE", "1")
    with pytest.raises(WeightsError, match=rf"ignored {path}: md5 is \w+, expected {MD5}"):
        fetch(checkpoint())


def test_wrong_checksum_is_refused_and_the_file_deleted(server, cache):
    server.content = b"\0 other weights"
    with pytest.raises(WeightsError, match=rf"file\.pt from .* is not the published file: md5 is .* {MD5}"):
        fetch(checkpoint(server.url))
    assert list((cache / "weights").glob("file.pt*")) in ([], [cache / "weights" / "file.pt.lock"])


def test_rest_of_another_file_does_not_spoil_the_download(server, cache):
    """A ``.part`` that belonged to something else costs one more download, not an error."""
    placed(cache / "weights" / "file.pt.part", b"something else")
    assert fetch(checkpoint(server.url)).read_bytes() == CONTENT
    assert server.requests == 2


def test_cache_that_cannot_be_made_is_named(server, tmp_path, monkeypatch):
    monkeypatch.setenv("ESMGN_CACHE", str(placed(tmp_path / "a_file")))
    with pytest.raises(WeightsError, match=r"cannot write .*a_file.*\n.*ESMGN_CACHE=DIR"):
        fetch(checkpoint(server.url))


@pytest.mark.slow
def test_two_processes_download_once(server, cache):
    """The second process waits and finds the file."""
    server.delay = 1.0
    code = (
        "import sys; from esmgn_core.weights import Checkpoint, fetch; print('ready', flush=True);"
        "sys.stdin.readline(); print(fetch(Checkpoint.model_validate_json(sys.argv[1])))"
    )
    checkpoint_json = checkpoint(server.url).model_dump_json()
    command = [sys.executable, "-c", code, checkpoint_json]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    paths = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert paths == [str(cache / "weights" / "file.pt")] * 2
    assert server.requests == 1


# Checksums


def test_sha256_is_that_of_the_content(tmp_path):
    assert file_sha256(placed(tmp_path / "file.pt")) == SHA256


def test_digests_are_remembered_until_the_file_changes(tmp_path, cache, monkeypatch):
    """Gigabytes are read once; another content, even of the same size, is read again."""
    path = placed(tmp_path / "file.pt")
    assert remembered_digests(path) == (MD5, SHA256)
    record = json.loads((cache / "weights" / "file.pt.verified").read_text())
    assert record["size"] == len(CONTENT)
    assert record["sha256"] == SHA256

    changed = CONTENT.upper()
    placed(path, changed)
    os.utime(path, ns=(0, record["mtime_ns"] + 1))
    assert remembered_digests(path).sha256 == hashlib.sha256(changed).hexdigest()
    monkeypatch.setattr("esmgn_core.weights._digests", lambda _: pytest.fail("read again"))
    assert remembered_digests(path).sha256 == hashlib.sha256(changed).hexdigest()


@pytest.mark.parametrize("record", ["", "[]", "{}", "null", '{"path": 1}', "\x00"])
def test_damaged_memory_is_ignored(tmp_path, cache, record):
    path = placed(tmp_path / "file.pt")
    placed(cache / "weights" / "file.pt.verified", record.encode())
    assert remembered_digests(path) == (MD5, SHA256)


# Reading


class Hostile:
    def __reduce__(self):
        return os.system, ("touch $ESMGN_CACHE-was-here",)


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pickle_does_not_run(tmp_path, cache, zipped):
    path = tmp_path / "hostile.pt"
    torch.save({"a": torch.ones(1), "b": Hostile()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"hostile\.pt: refused, because it would call \w+\.system$"):
        load_file(path)
    assert not cache.with_name(cache.name + "-was-here").exists()


def test_namespace_is_the_only_object_let_in(tmp_path):
    path = tmp_path / "file.pt"
    torch.save({"cfg": argparse.Namespace(layers=3), "w": torch.ones(2)}, path)
    content = load_file(path)
    assert content["cfg"].layers == 3
    assert content["w"].tolist() == [1, 1]
    torch.save({"model": torch.nn.Linear(1, 1)}, path)
    with pytest.raises(
        WeightsError, match=r"refused, because it would call torch\.nn\.modules\.linear\.Linear"
    ):
        load_file(path)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_safetensors_and_old_torch_files_are_read(tmp_path):
    save_file({"w": torch.arange(3)}, tmp_path / "a.safetensors")
    torch.save({"w": torch.arange(3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "a.pt"):
        assert load_file(tmp_path / name)["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["file.pt", "file.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, name, kept):
    path = tmp_path / name
    tensors = {f"w{i}": torch.randn(50) for i in range(50)}
    if path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    reason = "the file is cut short" if path.suffix == ".pt" else ".*header"
    with pytest.raises(WeightsError, match=f"cannot read weights from {path}: {reason}"):
        load_file(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("page.pt", b"<html>"), ("noise.pt", os.urandom(3000)), ("noise.safetensors", os.urandom(3000))],
)
def test_files_of_another_kind_are_refused(tmp_path, name, content):
    with pytest.raises(WeightsError, match=rf"cannot read weights from .*{name}: .+"):
        load_file(placed(tmp_path / name, content))


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"nothing\.pt: No such file or directory"):
        load_file(tmp_path / "nothing.pt")
    with pytest.raises(WeightsError, match=r": Is a directory"):
        load_file(tmp_path)


def test_content_must_be_a_dict(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="it contains a list, expected a dict"):
        load_file(tmp_path / "list.pt")


@pytest.mark.parametrize("content", [b"<html>Log in</html>", b'{"message": "not authorised"}', b""])
def test_text_is_no_weights_where_no_checksum_is_known(server, cache, content):
    server.content = content
    remote = RemoteFile(url=server.url, license="MIT")
    with pytest.raises(WeightsError, match=r"a web page|it is text, such as the message of a server"):
        fetch(remote, setting=None)
    assert not list(cache.rglob("file.pt"))


@pytest.mark.parametrize("name", ["..", "a%0Ab.pt", "a%1b[2J.pt", "%00"])
def test_an_address_that_names_no_usable_file_is_refused(name):
    with pytest.raises(ValueError, match="url must end in the name of a file"):
        RemoteFile(url=f"https://example.org/{name}", license="MIT")
