"""Cache the outputs of a frozen sequence encoder on disk. Table ``[cache]``.

The key is the sequence together with the encoder: its class, settings, every bit of its weights, the
precision of its computation and its windows. A cached output is therefore always one that the encoder would
compute. Only outputs for whole proteins are cached, because a crop or a masked sequence rarely occurs twice.

The cache is a memory-mapped LMDB file. Many processes of one machine can read and write it at the same time,
and its transactions keep records complete when a process is killed. Each record ends with a checksum of its
key and values; a damaged record is computed and written again. If the cache cannot be read or written, the
run warns once and computes the outputs each time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lmdb
import torch
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.errors import WriteError
from esmgn_core.machine.files import cache_dir, write_atomically, write_errors, write_failure
from esmgn_core.model.wrapper import EncoderWrapper
from esmgn_core.protocols import HasSettings, SequenceEncoder
from esmgn_core.settings import CacheTable, ComponentSettings

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SEQUENCE = ("residue_type", "chain_index")
_FORMAT = 2
"""Version of the records, part of the folder's name."""
_CHECKSUM_BYTES = 4


class FeatureCache:
    """Cached outputs of one frozen encoder.

    Args:
        folder: folder of the cache; created if missing.
        dtype: dtype of the stored values; float32 is exact.
        max_bytes: maximum size of the file; outputs that do not fit are computed each time.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype, max_bytes: int) -> None:
        self.folder = folder
        self.dtype = dtype
        self.max_bytes = max_bytes

    @classmethod
    def of(
        cls, encoder: nn.Module, settings: CacheTable, *, computed_in: torch.dtype | None, reading: str = ""
    ) -> FeatureCache:
        """The cache of a frozen sequence encoder.

        Args:
            encoder: the encoder, with its final weights.
            settings: the table ``[cache]``; ``features`` is not ``off``.
            computed_in: autocast dtype of the encoder, ``None`` for none.
            reading: description of the windows of long sequences, if they change the outputs.
        """
        dtype = DTYPES[settings.features]
        own = encoder.settings if isinstance(encoder, HasSettings) else None
        about = {
            "encoder": f"{type(encoder).__module__}.{type(encoder).__qualname__}",
            "settings": own.model_dump(mode="json") if isinstance(own, ComponentSettings) else None,
            "weights_sha256": state_sha256(encoder),
            "computed_in": str(computed_in),
            "kept_in": str(dtype),
            "format": _FORMAT,
            "reading": reading,
        }
        text = json.dumps(about, indent=2, sort_keys=True)
        root = settings.path or cache_dir() / "features"
        folder = root / f"{type(encoder).__name__.lower()}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        try:
            with write_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "about.json").exists():
                write_atomically(folder / "about.json", text + "\n")
        except WriteError as error:
            _warn_unusable(folder, error.message)
        return cls(folder, dtype=dtype, max_bytes=int(settings.max_gb * 1e9))

    def on(self, encoder: SequenceEncoder, batch: ProteinBatch) -> CachedEncoder:
        """Wrap the encoder for the views of ``batch``; proteins that a view leaves whole are cached."""
        return CachedEncoder(self, encoder, batch)

    def bytes_for(self, lengths: Iterable[int], output_dim: int) -> int:
        """Approximate size of the records of proteins with these lengths, in bytes."""
        return sum((length + 1) * output_dim * self.dtype.itemsize for length in lengths)

    @property
    def num_kept(self) -> int:
        """Number of cached proteins."""
        environment = self._environment()
        return environment.stat()["entries"] if environment else 0

    def read(self, keys: Sequence[bytes], output_dim: int) -> list[Tensor | None]:
        """The cached rows of each key: n residues, then the protein, [n + 1, output_dim]; or ``None``."""
        environment = self._environment()
        if not environment:
            return [None] * len(keys)
        try:
            with environment.begin(buffers=True) as transaction:
                records = [(key, transaction.get(key)) for key in keys]
                return [value and self._tensor(key, value, output_dim) for key, value in records]
        except lmdb.Error as error:
            _warn_unusable(self.folder, str(error))
            return [None] * len(keys)

    def write(self, records: Sequence[tuple[bytes, Tensor]]) -> None:
        """Store rows [n + 1, output_dim] under their keys; none of them if they do not fit."""
        environment = self._environment()
        if not environment:
            return
        values = [(key, self._bytes(key, rows)) for key, rows in records]
        try:
            with environment.begin(write=True) as transaction:
                for key, value in values:
                    transaction.put(key, value, overwrite=not _is_whole(key, transaction.get(key)))
        except lmdb.MapFullError:
            _warn_once(
                f"the cache of features in {self.folder} is full (cache.max_gb = {self.max_bytes / 1e9:g}); "
                "other features are computed each time"
            )
        except lmdb.Error as error:  # LMDB reports a full disk as an input/output error
            _warn_unusable(self.folder, f"cannot write to it: {write_failure(self.folder, error)}")

    def rounded(self, rows: Tensor) -> Tensor:
        """Values as the cache would return them: float32, rounded to the stored dtype."""
        return rows.to(self.dtype).float()

    def _tensor(self, key: bytes, value: Any, output_dim: int) -> Tensor | None:
        if not _is_whole(key, value):
            _warn_once(f"the cache of features in {self.folder} has damaged records; they are computed again")
            return None
        # bytearray copies the record: the map is read-only, and the record ends with the transaction.
        values = torch.frombuffer(bytearray(value[:-_CHECKSUM_BYTES]), dtype=self.dtype)
        return values.view(-1, output_dim).float()

    def _bytes(self, key: bytes, rows: Tensor) -> bytes:
        kept = rows.detach().to(self.dtype).cpu().contiguous()
        content = kept.view(torch.uint8).numpy().tobytes()
        return content + _checksum(key, content)

    def _environment(self) -> Any:
        # LMDB forbids opening a file twice in one process and using it after a fork, hence one per process.
        return _opened(self.folder, self.max_bytes, os.getpid())


def _checksum(key: bytes, content: Any) -> bytes:
    return zlib.crc32(content, zlib.crc32(key)).to_bytes(_CHECKSUM_BYTES, "little")


def _is_whole(key: bytes, value: Any) -> bool:
    """True if the checksum of a record matches its key and values."""
    if value is None or len(value) <= _CHECKSUM_BYTES:
        return False
    return _checksum(key, value[:-_CHECKSUM_BYTES]) == bytes(value[-_CHECKSUM_BYTES:])


@functools.cache
def _opened(folder: Path, max_bytes: int, process: int) -> Any:  # noqa: ARG001 - part of the key
    """Open the LMDB environment in a folder; ``None``, after a warning, if it cannot be used."""
    page = 4096
    map_size = max(max_bytes // page, 16) * page
    try:
        opened = lmdb.open(str(folder), map_size=map_size, max_readers=1024, readahead=False, meminit=False)
        # Reading a page after the end of a truncated file would kill the process with SIGBUS.
        expected = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
        size = (folder / "data.mdb").stat().st_size
    except (lmdb.Error, OSError) as error:
        _warn_unusable(folder, str(error))
        return None
    if size < expected:
        opened.close()
        reason = (
            f"data.mdb is truncated, {size:,} of {expected:,} bytes; delete the folder to start a new cache"
        )
        _warn_unusable(folder, reason)
        return None
    return opened


@functools.cache
def _warn_once(text: str) -> None:
    logger.warning("%s", text)


def _warn_unusable(folder: Path, reason: str) -> None:
    _warn_once(f"features are not cached in {folder}: {reason}; they are computed each time")


class CachedEncoder(EncoderWrapper):
    """A frozen sequence encoder with a cache for whole proteins.

    Values are float32. Proteins that are not in the cache are encoded together in one smaller batch.

    Args:
        cache: the cache.
        encoder: computes missing outputs.
        whole: the batch before any view; only proteins with the same sequence as here are cached.
    """

    def __init__(self, cache: FeatureCache, encoder: SequenceEncoder, whole: ProteinBatch) -> None:
        super().__init__(encoder)
        self._cache = cache
        self._whole = whole

    @torch.no_grad()
    def __call__(self, batch: ProteinBatch) -> Encoding:
        """Residue representations float32 [N, output_dim], protein ones float32 [B, output_dim]."""
        viewed, whole = _sequences(batch), _sequences(self._whole)
        keys = {
            number: hashlib.sha256(sequence).digest()
            for number, (sequence, original) in enumerate(zip(viewed, whole, strict=True))
            if sequence == original
        }
        cached = self._cache.read(list(keys.values()), self.output_dim)
        rows = {number: value for number, value in zip(keys, cached, strict=True) if value is not None}
        missing = [number for number in range(len(batch)) if number not in rows]
        if missing:
            computed = self._computed(batch, missing)
            for number in keys.keys() & computed.keys():  # so that a first pass equals later ones
                computed[number] = self._cache.rounded(computed[number])
            self._cache.write([(keys[number], value) for number, value in computed.items() if number in keys])
            rows |= computed
        device = batch.ptr.device
        ordered = [rows[number].to(device) for number in range(len(batch))]
        return Encoding(torch.cat([value[:-1] for value in ordered]), torch.stack([v[-1] for v in ordered]))

    def _computed(self, batch: ProteinBatch, proteins: list[int]) -> dict[int, Tensor]:
        part = batch if len(proteins) == len(batch) else _taken(batch, proteins)
        encoding: Encoding = self._encoder(part)
        residues = torch.split(encoding.residue.float(), part.lengths.tolist())
        pairs = zip(residues, encoding.protein.float(), strict=True)
        joined = [torch.cat([residue, protein.unsqueeze(0)]) for residue, protein in pairs]
        return dict(zip(proteins, joined, strict=True))


def _sequences(batch: ProteinBatch) -> list[bytes]:
    """The inputs of a sequence encoder for each protein, as bytes."""
    columns = torch.stack([getattr(batch, name) for name in _SEQUENCE], dim=1).cpu()
    return [part.numpy().tobytes() for part in torch.split(columns, batch.lengths.tolist())]


def _taken(batch: ProteinBatch, proteins: list[int]) -> ProteinBatch:
    """The batch of some of the proteins."""
    chosen = torch.tensor(proteins, device=batch.ptr.device)
    ptr = torch.cat([batch.ptr[:1], batch.lengths[chosen].cumsum(0)])
    names = tuple(batch.names[number] for number in proteins)
    return batch.take(torch.isin(batch.protein_index, chosen), ptr).replace(names=names, labels=None)


def state_sha256(module: nn.Module) -> str:
    """SHA-256 of the names, dtypes, shapes and values of all tensors of a module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
