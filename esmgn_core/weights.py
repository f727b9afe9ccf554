"""Files of weights: found on disk or downloaded, verified, and read without running code from them.

A file is looked for in ``ESMGN_WEIGHTS_DIR`` (read only), the cache, and torch hub's cache. The
cache is ``ESMGN_CACHE``, else ``$XDG_CACHE_HOME/esmgn``, else ``~/.cache/esmgn``; weights lie in
``weights/`` below it. ``ESMGN_OFFLINE=1`` forbids every connection.
"""

import argparse
import contextlib
import json
import logging
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import torch
from filelock import FileLock
from pydantic import Field, model_validator
from safetensors.torch import load_file as load_safetensors
from torch import Tensor

from esmgn_core.errors import WeightsError, WriteError
from esmgn_core.machine.download import DownloadError, download
from esmgn_core.machine.download import offline as offline  # public from here
from esmgn_core.machine.files import cache_dir as cache_dir
from esmgn_core.machine.files import file_digest, write_atomically, write_failure
from esmgn_core.machine.files import file_sha256 as file_sha256
from esmgn_core.machine.parse import parse_json
from esmgn_core.settings import ComponentSettings

_logger = logging.getLogger(__name__)

_ZIP_MAGIC = b"PK\x03\x04"


class Digests(NamedTuple):
    """Checksums of a file, in lower-case hexadecimal digits."""

    md5: str
    sha256: str


class RemoteFile(ComponentSettings):
    """A published file of weights. Without a checksum, any file of its name is taken for it."""

    url: str = Field(pattern=r"^https?://[^/\s]+/\S*[^/\s]$")
    """Where to download it, http or https."""
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    """MD5 of the file, 32 hexadecimal digits."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the file, 64 hexadecimal digits."""
    license: str
    """Licence of the weights, as an SPDX identifier."""

    @model_validator(mode="after")
    def _names_one_file(self) -> Self:
        if self.filename in ("", "..") or not self.filename.isprintable():
            raise ValueError("url must end in the name of a file")
        return self

    @property
    def filename(self) -> str:
        """The file's official name: the last part of the address, without any query."""
        return Path(unquote(urlsplit(self.url).path)).name

    def mismatch(self, digests: Digests) -> str | None:
        """How ``digests`` differ from the published checksums; ``None`` when they agree."""
        for name, expected in (("sha256", self.sha256), ("md5", self.md5)):
            found = getattr(digests, name)
            if expected is not None and found != expected:
                return f"{name} is {found}, expected {expected}"
        return None


class Checkpoint(RemoteFile):
    """Weights that a preset loads. At least one checksum is needed: it is what tells the file."""

    @model_validator(mode="after")
    def _has_checksum(self) -> Self:
        if self.md5 is None and self.sha256 is None:
            raise ValueError("a checkpoint needs md5 or sha256")
        return self


def fetch(
    checkpoint: RemoteFile,
    *,
    setting: str | None = "seq.weights",
    timeout: float = 30.0,
    attempts: int = 4,
    backoff: float = 1.0,
) -> Path:
    """Path of a verified copy of the checkpoint, downloaded if there is none.

    Several processes may ask for the same file at once: one downloads, the others wait.

    Args:
        checkpoint: what to fetch.
        setting: the setting that chooses these weights, named in the error message; ``None`` where
            random ones are no way out.
        timeout: longest silence of the server, in seconds.
        attempts: failed connections in a row until giving up.
        backoff: pause after the first failed connection, in seconds; then doubled.

    Raises:
        WeightsError: no copy can be had, or a copy is not the published file.
    """
    found, refused = _search(checkpoint)
    if found is not None:
        return found
    target = _weights_dir() / checkpoint.filename
    if forbidden := offline():
        raise _unavailable(checkpoint, f"{forbidden} is set", setting, refused)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_beside(target, ".lock")):
            found, refused = _search(checkpoint)
            if found is None:
                _download(checkpoint, target, timeout=timeout, attempts=attempts, backoff=backoff)
    except DownloadError as error:
        raise _unavailable(checkpoint, str(error), setting, refused) from error
    except OSError as error:
        hint = "choose another folder for the cache: ESMGN_CACHE=DIR"
        raise WeightsError(f"cannot write {target}: {write_failure(target, error)}", hint) from error
    return found or target


def locate(checkpoint: RemoteFile) -> Path | None:
    """Path of a verified copy on this machine, or ``None``; never connects."""
    return _search(checkpoint)[0]


def _search(checkpoint: RemoteFile) -> tuple[Path | None, list[str]]:
    """The first verified copy, and what was wrong with the files passed over."""
    refused: list[str] = []
    for path in _places(checkpoint):
        if not path.is_file():
            continue
        try:
            known = checkpoint.md5 or checkpoint.sha256
            difference = checkpoint.mismatch(remembered_digests(path)) if known else None
        except OSError as error:
            difference = error.strerror or str(error)
        if difference is None:
            return path, refused
        refused.append(f"passed over {path}: {difference}")
        _logger.warning(refused[-1])
    return None, refused


def _places(checkpoint: RemoteFile) -> Iterator[Path]:
    if offline := os.environ.get("ESMGN_WEIGHTS_DIR"):
        yield Path(offline).expanduser() / checkpoint.filename
    yield _weights_dir() / checkpoint.filename
    yield Path(torch.hub.get_dir()) / "checkpoints" / checkpoint.filename


def _download(checkpoint: RemoteFile, target: Path, **options: Any) -> None:
    """Download to ``target``; only a verified file ever has that name."""
    part = _beside(target, ".part")
    resumed = part.exists()
    download(checkpoint.url, part, **options)
    digests = _digests(part)
    difference = checkpoint.mismatch(digests)
    if not (checkpoint.md5 or checkpoint.sha256) and _is_text(part):
        difference = "it is text, such as the message of a server"
    if difference is None:
        part.replace(target)
        _remember(target, digests)
        return
    part.unlink()
    if resumed:
        # The old beginning may have belonged to another file.
        _download(checkpoint, target, **options)
        return
    raise WeightsError(
        f"{checkpoint.filename} from {checkpoint.url} is not the published file: {difference}",
        "it was deleted; try again, and check for a proxy that alters downloads",
    )


def _is_text(path: Path) -> bool:
    """True if a file begins with text; files of weights begin with a length, a pickle or a zip archive."""
    with path.open("rb") as file:
        beginning = file.read(512)
    return not beginning or not re.search(rb"[\x00-\x08\x0e-\x1f\x7f-\xff]", beginning)


def _unavailable(
    checkpoint: RemoteFile, reason: str, setting: str | None, refused: list[str]
) -> WeightsError:
    return WeightsError(
        f"cannot download {checkpoint.filename}: {reason}",
        *refused,
        f"fetch: {checkpoint.url}",
        f"put it at: {_weights_dir() / checkpoint.filename}",
        "or into any folder named by ESMGN_WEIGHTS_DIR",
        *([f"or start from random weights: --set {setting}=random"] if setting else []),
    )


def remembered_digests(path: Path) -> Digests:
    """Checksums of a large file: read once, then remembered by path, size and time of change.

    The memory is ``<name>.verified`` in the cache, also for files that lie elsewhere.
    """
    try:
        known = parse_json(_record(path).read_text())
        if {name: known[name] for name in ("path", "size", "mtime_ns")} == _identity(path):
            return Digests(known["md5"], known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no record, or not one of ours: read the file
    identity = _identity(path)
    digests = _digests(path)
    if identity == _identity(path):
        _remember(path, digests)
    return digests


def _remember(path: Path, digests: Digests) -> None:
    record = _record(path)
    with contextlib.suppress(OSError, WriteError):  # a cache that cannot be written costs time only
        record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(record, json.dumps(_identity(path) | digests._asdict()))


def _digests(path: Path) -> Digests:
    return Digests(file_digest(path, "md5"), file_digest(path, "sha256"))


def _identity(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"path": str(path.resolve()), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _weights_dir() -> Path:
    return cache_dir() / "weights"


def _record(path: Path) -> Path:
    return _weights_dir() / f"{path.name}.verified"


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def load_file(path: Path) -> dict[str, Any]:
    """Content of a ``.safetensors`` file or a torch pickle, on the CPU, mapped into memory.

    No code from the file runs: of all Python objects only tensors, plain containers and
    ``argparse.Namespace`` are admitted (fair-esm keeps its model arguments in one).

    Raises:
        WeightsError: the file is missing, damaged, or holds anything else.
    """
    try:
        return _read(path)
    except OSError as error:
        raise WeightsError(f"cannot read weights from {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged file can raise anything
        raise WeightsError(f"cannot read weights from {path}: {_reason(error)}") from error


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return dict(load_safetensors(path))
    mappable = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        if file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC and not mappable:
            raise EOFError  # a zip archive ends with its table of contents
    # Files of the format before torch 1.6 are no zip archives and cannot be mapped.
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(path, "cpu", weights_only=True, mmap=mappable)
    if not isinstance(content, dict):
        raise TypeError(f"it holds a {type(content).__name__}, not a dict")
    return content


def state_dict(content: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict in the content of a file.

    Training checkpoints keep it under ``model`` or ``state_dict``. The prefixes that DDP and
    ``torch.compile`` put before all names are removed.
    """
    nested = [content[key] for key in ("model", "state_dict") if isinstance(content.get(key), Mapping)]
    state = {str(name): value for name, value in (nested[0] if nested else content).items()}
    for wrapper in ("module.", "_orig_mod.", "module."):  # either may be around the other
        if all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def count_blocks(tensors: Mapping[str, Tensor], group: str) -> int:
    """Number of blocks of a module list: distinct numbers in names such as ``layers.0.weight``.

    >>> count_blocks({"layers.0.weight": torch.ones(2), "layers.1.weight": torch.ones(2)}, "layers")
    2
    """
    return len({match[1] for name in tensors if (match := re.match(rf"{group}\.(\d+)\.", name))})


def common_length(tensors: Mapping[str, Tensor], pattern: str) -> int | None:
    """The most frequent length of the vectors whose names match a pattern; ``None`` without such a vector."""
    matching = [tensor for name, tensor in tensors.items() if re.fullmatch(pattern, name)]
    lengths = Counter(len(tensor) for tensor in matching if tensor.ndim == 1)
    return lengths.most_common(1)[0][0] if lengths else None


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "the file is cut short"
    text = str(error) or type(error).__name__
    # torch's own text advises to run the file's code all the same.
    if refused := re.search(r"GLOBAL (\S+)", text):
        return f"refused, for it asks to call {refused[1]}"
    text = text.partition("WeightsUnpickler error: ")[2] or text
    return text.strip().splitlines()[0]
