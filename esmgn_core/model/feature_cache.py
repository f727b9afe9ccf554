"""Outputs of a frozen sequence encoder, computed once and kept on disk. Table ``[cache]``.

What is kept is keyed by the encoder (its class, settings and every bit of its weights, the precision it
computes in, the windows it reads in) and by the sequence, so that nothing is ever read that the encoder
would not have computed. Only sequences of whole proteins are kept: a crop or a masked sequence hardly comes
a second time and is computed as it comes.

A cache is an LMDB file, mapped into memory: many processes of one machine read and write it at once, and a
record is there completely or not at all, whenever a process is killed. Each record ends with a checksum of
its key and values; a damaged one is computed and written again. A cache that cannot be read or written costs
time only: the run warns once and computes features as they come.
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
    """Kept outputs of one frozen encoder.

    Args:
        folder: holds the cache; made if there is none.
        dtype: what values are kept in; float32 gives back what the encoder gave, bit for bit.
        max_bytes: largest size of the file; what has no room is computed each time.
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
            settings: the table ``[cache]``; its ``features`` is not ``off``.
            computed_in: autocast dtype the encoder runs under, ``None`` for none.
            reading: how long sequences are read, where that changes the outputs.
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
        """The encoder of the views of ``batch``, which keeps those proteins that the views leave whole."""
        return CachedEncoder(self, encoder, batch)

    def bytes_for(self, lengths: Iterable[int], output_dim: int) -> int:
        """Bytes that proteins of these lengths take, to a few per cent."""
        return sum((length + 1) * output_dim * self.dtype.itemsize for length in lengths)

    @property
    def num_kept(self) -> int:
        """Proteins at hand."""
        environment = self._environment()
        return environment.stat()["entries"] if environment else 0

    def read(self, keys: Sequence[bytes], output_dim: int) -> list[Tensor | None]:
        """The kept rows of each key, [n + 1, output_dim] with the protein's own at the end, or ``None``."""
        environment = self._environment()
        if not environment:
            return [None] * len(keys)
        try:
            with environment.begin(buffers=True) as transaction:
                found = [(key, transaction.get(key)) for key in keys]
                return [value and self._tensor(key, value, output_dim) for key, value in found]
        except lmdb.Error as error:
            _warn_unusable(self.folder, str(error))
            return [None] * len(keys)

    def write(self, records: Sequence[tuple[bytes, Tensor]]) -> None:
        """Keep rows [n + 1, output_dim] under their keys, all or none; nothing if there is no room."""
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
                f"no room for more features in {self.folder}: cache.max_gb is {self.max_bytes / 1e9:g}; "
                "the rest is computed each time"
            )
        except lmdb.Error as error:  # LMDB reports a full disk as an input/output error
            _warn_unusable(self.folder, f"cannot write to it: {write_failure(self.folder, error)}")

    def rounded(self, rows: Tensor) -> Tensor:
        """Values as they will be read again: float32, rounded to what the cache keeps."""
        return rows.to(self.dtype).float()

    def _tensor(self, key: bytes, value: Any, output_dim: int) -> Tensor | None:
        if not _is_whole(key, value):
            _warn_once(f"the cache of features in {self.folder} has damaged records; they are computed again")
            return None
        # bytearray copies out of the map, which must not be written to.
        values = torch.frombuffer(bytearray(value[:-_CHECKSUM_BYTES]), dtype=self.dtype)
        return values.view(-1, output_dim).float()

    def _bytes(self, key: bytes, rows: Tensor) -> bytes:
        kept = rows.detach().to(self.dtype).cpu().contiguous()
        content = kept.view(torch.uint8).numpy().tobytes()
        return content + _checksum(key, content)

    def _environment(self) -> Any:
        # The same file must not be opened twice by one process, nor be carried into a forked one.
        return _opened(self.folder, self.max_bytes, os.getpid())


def _checksum(key: bytes, content: Any) -> bytes:
    return zlib.crc32(content, zlib.crc32(key)).to_bytes(_CHECKSUM_BYTES, "little")


def _is_whole(key: bytes, value: Any) -> bool:
    """True if a record holds the values that were written under its key."""
    if value is None or len(value) <= _CHECKSUM_BYTES:
        return False
    return _checksum(key, value[:-_CHECKSUM_BYTES]) == bytes(value[-_CHECKSUM_BYTES:])


@functools.cache
def _opened(folder: Path, max_bytes: int, process: int) -> Any:  # noqa: ARG001 - part of the key
    """The LMDB environment in a folder; ``None`` if it cannot be used, which is reported."""
    page = 4096
    size = max(max_bytes // page, 16) * page
    try:
        opened = lmdb.open(str(folder), map_size=size, max_readers=1024, readahead=False, meminit=False)
        # Pages that are missing at the end of the file would end the process by a signal when they are read.
        wanted = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
        there = (folder / "data.mdb").stat().st_size
    except (lmdb.Error, OSError) as error:
        _warn_unusable(folder, str(error))
        return None
    if there < wanted:
        opened.close()
        cut = f"data.mdb is cut, {there:,} of {wanted:,} bytes; delete the folder to start it anew"
        _warn_unusable(folder, cut)
        return None
    return opened


@functools.cache
def _warn_once(text: str) -> None:
    logger.warning("%s", text)


def _warn_unusable(folder: Path, reason: str) -> None:
    _warn_once(f"features are not kept in {folder}: {reason}; they are computed each time")


class CachedEncoder(EncoderWrapper):
    """A frozen sequence encoder that reads what it once computed for whole proteins.

    Values are float32. Proteins that are not at hand are encoded together in one smaller batch.

    Args:
        cache: where to look and to keep.
        encoder: computes what is missing.
        whole: the batch whose proteins are worth keeping.
    """

    def __init__(self, cache: FeatureCache, encoder: SequenceEncoder, whole: ProteinBatch) -> None:
        super().__init__(encoder)
        self._cache = cache
        self._whole = whole

    @torch.no_grad()
    def __call__(self, batch: ProteinBatch) -> Encoding:
        """Residue representations float32 [N, output_dim], protein ones float32 [B, output_dim]."""
        ours, theirs = _sequences(batch), _sequences(self._whole)
        keys = {
            number: hashlib.sha256(own).digest()
            for number, (own, other) in enumerate(zip(ours, theirs, strict=True))
            if own == other
        }
        found = self._cache.read(list(keys.values()), self.output_dim)
        rows = {number: value for number, value in zip(keys, found, strict=True) if value is not None}
        missing = [number for number in range(len(batch)) if number not in rows]
        if missing:
            computed = self._computed(batch, missing)
            for number in keys.keys() & computed.keys():  # a hit must not differ from a miss
                computed[number] = self._cache.rounded(computed[number])
            self._cache.write([(keys[number], value) for number, value in computed.items() if number in keys])
            rows |= computed
        device = batch.ptr.device
        every = [rows[number].to(device) for number in range(len(batch))]
        return Encoding(torch.cat([value[:-1] for value in every]), torch.stack([v[-1] for v in every]))

    def _computed(self, batch: ProteinBatch, proteins: list[int]) -> dict[int, Tensor]:
        part = batch if len(proteins) == len(batch) else _taken(batch, proteins)
        encoding: Encoding = self._encoder(part)
        residues = torch.split(encoding.residue.float(), part.lengths.tolist())
        pairs = zip(residues, encoding.protein.float(), strict=True)
        joined = [torch.cat([residue, protein.unsqueeze(0)]) for residue, protein in pairs]
        return dict(zip(proteins, joined, strict=True))


def _sequences(batch: ProteinBatch) -> list[bytes]:
    """What a sequence encoder reads of each protein."""
    columns = torch.stack([getattr(batch, name) for name in _SEQUENCE], dim=1).cpu()
    return [part.numpy().tobytes() for part in torch.split(columns, batch.lengths.tolist())]


def _taken(batch: ProteinBatch, proteins: list[int]) -> ProteinBatch:
    """Some proteins of a batch."""
    chosen = torch.tensor(proteins, device=batch.ptr.device)
    ptr = torch.cat([batch.ptr[:1], batch.lengths[chosen].cumsum(0)])
    names = tuple(batch.names[number] for number in proteins)
    return batch.take(torch.isin(batch.protein_index, chosen), ptr).replace(names=names, labels=None)


def state_sha256(module: nn.Module) -> str:
    """SHA-256 over the names, types and values of all tensors of a module."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
