from __future__ import annotations

import io
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from esmgn_core.machine.download import DownloadError, download

CONTENT = bytes(range(256)) * 4096


class Server(ThreadingHTTPServer):
    """Serves CONTENT under every path, with the faults that a test sets."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/models/file.pt"
        self.content = CONTENT
        self.honours_ranges = True
        self.tells_length = True
        self.shifts_ranges_by = 0
        self.breaks = []
        """Bytes sent before the connection is cut, one entry for each of the next requests."""
        self.statuses = []
        """Error statuses for the next requests."""
        self.ranges = []
        """The Range header of each request so far."""

    def handle_error(self, *_):
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server: Any = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        start, total = 0, len(server.content)
        if wanted and server.honours_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start += server.shifts_ranges_by
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        body = server.content[start:]
        if server.tells_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def part(tmp_path):
    return tmp_path / "file.pt.part"


def test_file_arrives_whole(server, part):
    download(server.url, part)
    assert part.read_bytes() == CONTENT
    assert server.ranges == [None]


def test_broken_connection_is_resumed_where_it_broke(server, part):
    server.breaks = [300_000, 100_000]
    download(server.url, part, backoff=0)
    assert part.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=400000-"]


def test_rest_of_an_earlier_run_is_continued(server, part):
    part.write_bytes(CONTENT[:1000])
    download(server.url, part)
    assert part.read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_server_that_ignores_ranges_replaces_what_was_there(server, part):
    server.honours_ranges = False
    server.breaks = [300_000]
    download(server.url, part, backoff=0)
    assert part.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


def test_server_that_tells_no_length_is_read_to_its_end(server, part):
    server.tells_length = False
    download(server.url, part)
    assert part.read_bytes() == CONTENT


def test_complete_file_is_recognised(server, part):
    """A run that was killed between download and renaming costs no second download."""
    part.write_bytes(CONTENT)
    download(server.url, part)
    assert part.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_file_longer_than_the_servers_is_fetched_afresh(server, part):
    part.write_bytes(CONTENT + b"more")
    download(server.url, part)
    assert part.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_wrong_range_is_never_appended(server, part):
    part.write_bytes(CONTENT[:1000])
    server.shifts_ranges_by = 5
    download(server.url, part, backoff=0)
    assert part.read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_overloaded_server_is_asked_again(server, part):
    server.statuses = [503, 429]
    download(server.url, part, backoff=0)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404])
def test_refusal_is_final(server, part, status):
    server.statuses = [status] * 9
    with pytest.raises(DownloadError, match=f"HTTP {status}"):
        download(server.url, part, backoff=0)
    assert len(server.ranges) == 1


def test_gives_up_after_failures_without_progress(server, part):
    """Failures that got further do not count: a long file over a bad line still arrives."""
    server.breaks = [10] * 7 + [0] * 99
    with pytest.raises(DownloadError, match=f"connection closed after 70 of {len(CONTENT)} bytes"):
        download(server.url, part, attempts=3, backoff=0)
    assert len(server.ranges) == 7 + 3 - 1


def test_pauses_grow(server, part, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("esmgn_core.machine.download.time.sleep", pauses.append)
    server.statuses = [500] * 9
    with pytest.raises(DownloadError, match="HTTP 500"):
        download(server.url, part, attempts=4, backoff=1.5)
    assert pauses == [1.5, 3.0, 6.0]


def test_progress_is_drawn_on_a_terminal_only(server, part, monkeypatch, capsys):
    download(server.url, part)
    assert capsys.readouterr().err == ""
    part.unlink()

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    download(server.url, part)
    assert "file.pt" in terminal.getvalue()


@pytest.mark.parametrize("start", [0, 1000])
def test_a_web_page_is_no_file_and_replaces_none(server, part, start):
    """What was downloaded before stays, to go on with outside of the captive portal."""
    part.write_bytes(CONTENT[:start])
    server.content, server.honours_ranges = b"\n<html><head><title>Login</title></head></html>", False
    with pytest.raises(
        DownloadError, match="answered with a web page, not with the file: log in to the network"
    ):
        download(server.url, part)
    assert part.read_bytes() == CONTENT[:start]
