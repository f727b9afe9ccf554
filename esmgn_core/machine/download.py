"""Download large files over HTTP, resuming after broken connections."""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from esmgn_core.errors import SettingsError
from esmgn_core.printable import printable

logger = logging.getLogger(__name__)

_OFFLINE, _HUB_OFFLINE = "ESMGN_OFFLINE", "HF_HUB_OFFLINE"
_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # longest time without data from the server, in seconds
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_PAGES = ("text/html", "application/xhtml+xml")
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<(?:\?|!--)[^>]*>\s*)*<(?:!doctype\s+html|html|head|body)", re.IGNORECASE
)
_CONTENT_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+|\*)")


class DownloadError(Exception):
    """A download failed: the server refuses the file or cannot be reached."""


class _BrokenConnectionError(Exception):
    """The transfer stopped early; trying again may help."""


def offline(*, hub: bool = False) -> str:
    """The environment variable that forbids connections; empty if they are allowed.

    ``ESMGN_OFFLINE`` forbids every connection, ``HF_HUB_OFFLINE`` those to the Hugging Face Hub. Values, in
    upper or lower case: 1, true, yes, on; 0, false, no, off.

    Args:
        hub: True for a connection to the Hugging Face Hub.

    Raises:
        SettingsError: a variable has another value.
    """
    if _refused:
        _refused[-1].any = True
        return _refused[-1].reason
    for name in (_OFFLINE, _HUB_OFFLINE) if hub else (_OFFLINE,):
        value = os.environ.get(name, "").strip()
        if value.lower() in _YES:
            return name
        if value.lower() not in _NO:
            raise SettingsError(
                f"the environment variable {name} is '{value}', expected 1 or 0",
                f"never connect: {name}=1; connect where needed: {name}=0",
            )
    return ""


@dataclass(slots=True)
class Refused:
    """Refused connections inside a block; ``any`` is True after the first one."""

    reason: str
    any: bool = False


_refused: list[Refused] = []


@contextmanager
def no_connections(reason: str) -> Iterator[Refused]:
    """Forbid all connections inside the block, in all threads.

    Args:
        reason: text that :func:`offline` returns inside the block instead of the name of a variable.

    Yields:
        A record of the refusals.
    """
    record = Refused(reason)
    _refused.append(record)
    try:
        yield record
    finally:
        _refused.remove(record)


def download(url: str, part: Path, *, attempts: int = 4, backoff: float = 1.0) -> None:
    """Download ``url`` to ``part``, resuming a broken download.

    If the server ignores the requested range and sends the whole file, ``part`` is replaced.

    Args:
        url: an http or https address.
        part: the file to write; its existing content is taken as the beginning of the file.
        attempts: maximum number of successive failures without progress.
        backoff: pause after the first failure, in seconds; doubled after each further one.

    Raises:
        DownloadError: connections are forbidden, the server refuses the file or sends a web page, or all
            attempts failed.
        OSError: ``part`` cannot be written.
    """
    if forbidden := offline():
        raise DownloadError(f"{forbidden} is set")
    failures, furthest = 0, _size(part)
    while True:
        try:
            _transfer(url, part)
        except _BrokenConnectionError as error:
            reached = _size(part)
            failures = 1 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures >= attempts:
                raise DownloadError(str(error)) from error
            pause = backoff * 2 ** (failures - 1)
            logger.warning("%s: %s; trying again in %g s", url, error, pause)
            time.sleep(pause)
        else:
            return


def _transfer(url: str, part: Path) -> None:
    """Request the missing bytes once and append them to ``part``."""
    offset = _size(part)
    response = _open(url, offset)
    if response is None:
        return
    with response:
        start, total = _extent(response)
        if start not in (0, offset):
            part.unlink()
            raise _BrokenConnectionError("the server sent another range than the requested one")
        chunk = _read(response)
        if not start:
            _refuse_page(response.headers.get_content_type(), chunk)  # before it replaces an earlier part
        name = url.rsplit("/", 1)[-1]
        with part.open("ab" if start else "wb") as file, _progress(name, start, total) as advance:
            while chunk:
                file.write(chunk)
                advance(len(chunk))
                chunk = _read(response)
    if total is not None and _size(part) < total:
        raise _BrokenConnectionError(f"connection closed after {_size(part)} of {total} bytes")


def _open(url: str, offset: int) -> HTTPResponse | None:
    """The server's response; ``None`` if the file ends at ``offset``."""
    headers = {"User-Agent": "esmgn", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        request = Request(url, headers=headers)  # noqa: S310 - Checkpoint admits http and https only
        return cast("HTTPResponse", urlopen(request, timeout=_TIMEOUT))  # noqa: S310
    except HTTPError as error:
        with error:
            if error.code == 416 and offset:
                match = _CONTENT_RANGE.match(error.headers.get("Content-Range", ""))
                if match and match["total"] == str(offset):
                    return None
                return _open(url, 0)  # the part is longer than the file: start anew
            reason = f"HTTP {error.code} {error.reason}"
            kind = _BrokenConnectionError if error.code in _TRY_AGAIN else DownloadError
            raise kind(reason) from error
    except URLError as error:
        raise _BrokenConnectionError(str(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise _BrokenConnectionError(str(error) or type(error).__name__) from error


def _refuse_page(content_type: str, beginning: bytes) -> None:
    """Raise an error for a web page, which captive portals and proxies send instead of the file.

    Raises:
        DownloadError: the response is a web page.
    """
    if content_type in _PAGES or _PAGE.match(beginning):
        raise DownloadError(
            "the server answered with a web page, not with the file: "
            "log in to the network, or check the proxy"
        )


def _extent(response: HTTPResponse) -> tuple[int, int | None]:
    """Position of the first byte in the response, and the size of the whole file if known."""
    if response.status == 206:
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        if match is None or match["start"] is None:
            raise _BrokenConnectionError("the server sent a part of the file without its range")
        return int(match["start"]), None if match["total"] == "*" else int(match["total"])
    length = response.headers.get("Content-Length")
    return 0, None if length is None else int(length)


def _read(response: HTTPResponse) -> bytes:
    """The received bytes, at most one chunk; ``read1`` loses none of them if the connection breaks."""
    try:
        return response.read1(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _BrokenConnectionError(str(error) or type(error).__name__) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; otherwise one line in the log."""
    if not sys.stderr.isatty():
        logger.info("downloading %s (%s bytes, from byte %d)", name, total or "unknown", start)
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    named = TextColumn("{task.description}", markup=False)
    columns = (named, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(printable(name), total=total, completed=start)
        yield lambda count: bar.advance(task, count)
