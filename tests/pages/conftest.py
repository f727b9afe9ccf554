"""A headless browser that records the network requests of a page."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_ITS_OWN = ("google.com", "googleapis.com", "gvt1.com", "gstatic.com")
"""Requests of the browser itself, without any page."""


class Page(HTMLParser):
    """Elements, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.text = "\n".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class Visit(NamedTuple):
    """The page after its scripts ran, and the requests it made."""

    dom: Page
    requests: list[str]
    screenshot: Path


Browse = Callable[[Path], Visit]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Open a page in a headless Chromium behind a proxy that records and refuses all requests."""
    if CHROMIUM is None:
        pytest.skip("needs chromium")

    def visit(page: Path) -> Visit:
        picture = tmp_path / "page.png"
        with socket.create_server(("127.0.0.1", 0)) as server:
            seen: list[str] = []
            threading.Thread(target=_refuse_all, args=(server, seen), daemon=True).start()
            command = [
                str(CHROMIUM),
                *("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update"),
                *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
                *("--virtual-time-budget=15000", "--window-size=1300,900"),
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--proxy-server=http://127.0.0.1:{server.getsockname()[1]}",
                *(f"--screenshot={picture}", "--dump-dom", page.as_uri()),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
            server.shutdown(socket.SHUT_RDWR)  # ends the thread that waits for connections
        # Chromium opens connections ahead for its own services, and closes them without a request.
        requests = [line for line in seen if line and not any(name in line for name in _ITS_OWN)]
        return Visit(Page(done.stdout), requests, picture)

    return visit


def _refuse_all(server: socket.socket, seen: list[str]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(5)
            try:
                seen.append(connection.recv(4096).decode("latin-1").partition("\r\n")[0])
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                continue
