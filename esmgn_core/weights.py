"""Find, download, verify and read files of weights; no code from a file is run.

Files are searched in ``ESMGN_WEIGHTS_DIR`` (read only), in ``weights/`` of the cache, and in torch hub's
cache. The cache is ``ESMGN_CACHE``, else ``$XDG_CACHE_HOME/esmgn``, else ``~/.cache/esmgn``.
``ESMGN_OFFLINE=1`` forbids every connection.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    """A published file of weights. Without a checksum, every file of its name is accepted."""

    url: str = Field(pattern=r"^https?://[^/\s]+/\S*[^/\s]$")
    """Address of the download, http or https."""
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
        """Name of the file: the last part of the address, without the query."""
        return Path(unquote(urlsplit(self.url).path)).name

    def mismatch(self, digests: Digests) -> str | None:
        """How checksums differ from the published ones; ``None`` if they agree."""
        for name, expected in (("sha256", self.sha256), ("md5", self.md5)):
            found = getattr(digests, name)
            if expected is not None and found != expected:
                return f"{name} is {found}, expected {expected}"
        return None


class Checkpoint(RemoteFile):
    """Weights that a preset loads. At least one checksum is needed to identify the file."""

    @model_validator(mode="after")
    def _has_checksum(self) -> Self:
        if self.md5 is None and self.sha256 is None:
            raise ValueError("a checkpoint needs md5 or sha256")
        return self


def fetch(checkpoint: RemoteFile, *, setting: str | None = "seq.weights") -> Path:
    """Find a verified copy of a file of weights on this machine, or download it; return its path.

    If several processes need the same file, one downloads it and the others wait.

    Args:
        checkpoint: the file.
        setting: the setting that selects these weights. The error message advises ``SETTING=random``, unless
            this is ``None``.

    Raises:
        WeightsError: the file cannot be downloaded or written, or is not the published file.
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
                _download(checkpoint, target)
    except DownloadError as error:
        raise _unavailable(checkpoint, str(error), setting, refused) from error
    except OSError as error:
        hint = "choose another folder for the cache: ESMGN_CACHE=DIR"
        raise WeightsError(f"cannot write {target}: {write_failure(target, error)}", hint) from error
    return found or target


def locate(checkpoint: RemoteFile) -> Path | None:
    """Path of a verified copy on this machine, or ``None``. Never connects."""
    return _search(checkpoint)[0]


def _search(checkpoint: RemoteFile) -> tuple[Path | None, list[str]]:
    """The first verified copy, and what is wrong with the files before it."""
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
        refused.append(f"ignored {path}: {difference}")
        _logger.warning(refused[-1])
    return None, refused


def _places(checkpoint: RemoteFile) -> Iterator[Path]:
    if offline := os.environ.get("ESMGN_WEIGHTS_DIR"):
        yield Path(offline).expanduser() / checkpoint.filename
    yield _weights_dir() / checkpoint.filename
    yield Path(torch.hub.get_dir()) / "checkpoints" / checkpoint.filename


def _download(checkpoint: RemoteFile, target: Path) -> None:
    """Download to ``target``. Only a verified file ever gets that name."""
    part = _beside(target, ".part")
    resumed = part.exists()
    download(checkpoint.url, part)
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
        # The part on disk may be of another file: download once more from the beginning.
        _download(checkpoint, target)
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
        f"save it as: {_weights_dir() / checkpoint.filename}",
        "or save it in a folder named by ESMGN_WEIGHTS_DIR",
        *([f"or start from random weights: --set {setting}=random"] if setting else []),
    )


def sha256_of_files(files: Sequence[Path]) -> str:
    """SHA-256 of a file; of the SHA-256 values of all files, in this order, if there are several."""
    digests = [remembered_digests(file).sha256 for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def remembered_digests(path: Path) -> Digests:
    """Checksums of a file, computed once and then cached by path, size and time of change.

    They are cached in ``<name>.verified`` in the cache of weights, also for files in other folders.
    """
    try:
        known = parse_json(_record(path).read_text())
        if {name: known[name] for name in ("path", "size", "mtime_ns")} == _identity(path):
            return Digests(known["md5"], known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no record, or another file of this name: read the file
    identity = _identity(path)
    digests = _digests(path)
    if identity == _identity(path):
        _remember(path, digests)
    return digests


def _remember(path: Path, digests: Digests) -> None:
    record = _record(path)
    with contextlib.suppress(OSError, WriteError):  # a cache that cannot be written only costs time
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

    No code from the file is run. Only tensors, plain containers and ``argparse.Namespace`` are loaded
    (fair-esm stores its model arguments in one).

    Raises:
        WeightsError: the file is missing or damaged, or contains other objects.
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
            raise EOFError  # the table of contents, at the end of a zip archive, is missing
    # Files written before torch 1.6 are not zip archives, and cannot be mapped.
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(path, "cpu", weights_only=True, mmap=mappable)
    if not isinstance(content, dict):
        raise TypeError(f"it contains a {type(content).__name__}, expected a dict")
    return content


def state_dict(content: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict in the content of a file.

    Training checkpoints store it under ``model`` or ``state_dict``. The prefixes that DDP and
    ``torch.compile`` add to all names are removed.
    """
    nested = [content[key] for key in ("model", "state_dict") if isinstance(content.get(key), Mapping)]
    state = {str(name): value for name, value in (nested[0] if nested else content).items()}
    for wrapper in ("module.", "_orig_mod.", "module."):  # either may be around the other
        if all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def count_blocks(tensors: Mapping[str, Tensor], group: str) -> int:
    """Count the blocks of a module list, by the numbers in names such as ``layers.0.weight``.

    >>> count_blocks({"layers.0.weight": torch.ones(2), "layers.1.weight": torch.ones(2)}, "layers")
    2
    """
    return len({match[1] for name in tensors if (match := re.match(rf"{group}\.(\d+)\.", name))})


def common_length(tensors: Mapping[str, Tensor], pattern: str) -> int | None:
    """Most frequent length of the vectors whose names match a pattern; ``None`` if there are none."""
    matching = [tensor for name, tensor in tensors.items() if re.fullmatch(pattern, name)]
    lengths = Counter(len(tensor) for tensor in matching if tensor.ndim == 1)
    return lengths.most_common(1)[0][0] if lengths else None


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "the file is cut short"
    text = str(error) or type(error).__name__
    # torch's message advises to run the code of the file: do not show it.
    if refused := re.search(r"GLOBAL (\S+)", text):
        return f"refused, because it would call {refused[1]}"
    text = text.partition("WeightsUnpickler error: ")[2] or text
    return text.strip().splitlines()[0]
