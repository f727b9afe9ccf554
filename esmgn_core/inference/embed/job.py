"""An embedding job: many inputs, one or more devices, one file. An interrupted job can be resumed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import signal
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from esmgn_core.batch import Protein
from esmgn_core.errors import EsmgnWarning, RunError, StructureError, check_choice, without_exits
from esmgn_core.inference.batching import Progress, embed_all
from esmgn_core.inference.embed.files import read_metadata, write_embeddings
from esmgn_core.inference.embed.parts import LEVELS, EmbeddingColumns, InputResult, Part, PartFolder
from esmgn_core.inference.fasta import is_fasta
from esmgn_core.inference.inputs import Input, find_inputs
from esmgn_core.inference.model import Model, ModelName, load_model, plan_model
from esmgn_core.inference.outputs import check_writable
from esmgn_core.io import Refusal
from esmgn_core.io.files import as_utf8
from esmgn_core.io.folders import passed_over_text
from esmgn_core.io.notes import group_notes
from esmgn_core.machine.files import locked, write_atomically, write_errors
from esmgn_core.printable import printable
from esmgn_core.version import __version__

_INPUTS_PER_TASK = 32
_BATCHES_PER_PART = 2

Keyed = tuple[Input, str]
"""An input and its key."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a job. Only ``level`` and ``precision`` change its results.

    Attributes:
        level: one of :data:`esmgn_core.inference.embed.parts.LEVELS`.
        file_format: one of :data:`esmgn_core.inference.embed.files.FORMATS`.
        max_residues: maximum number of residues in a forward pass; a longer protein is a batch by itself.
        devices: devices to use, with one process each.
        precision: ``fp32`` or ``bf16``.
        overwrite: replace the file, and discard the parts of an earlier job.
    """

    level: str = "both"
    file_format: str = "parquet"
    max_residues: int = 4096
    devices: tuple[str, ...] = ("auto",)
    precision: str = "fp32"
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_choice("level", self.level, LEVELS, "--level")
        check_choice("precision", self.precision, ("fp32", "bf16"), "--precision")


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a job.

    Attributes:
        num_embedded: number of proteins in the file.
        num_residues: number of residues of these proteins.
        width: width of the embeddings.
        num_refused: number of refused inputs; ``OUT.refused.tsv`` has the reasons.
        num_reused: number of inputs whose results an earlier job had computed.
        random_parts: see :class:`esmgn_core.inference.model.Model`.
        notes: what readers dropped, divided or guessed in the files, a line for each kind of note.
        passed_over: a line about the skipped files of other kinds, empty if there are none.
    """

    num_embedded: int
    num_residues: int
    width: int
    num_refused: int
    num_reused: int
    random_parts: tuple[str, ...]
    notes: tuple[str, ...] = ()
    passed_over: str = ""


def all_devices() -> tuple[str, ...]:
    """All GPUs of this machine, else the CPU."""
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) or ("cpu",)


def refused_file(out: Path) -> Path:
    """The table of refused inputs, beside the file ``out``."""
    return out.with_name(f"{out.name}.refused.tsv")


def parts_folder(out: Path) -> Path:
    """The folder of intermediate results, beside the file ``out``."""
    return out.with_name(f"{out.name}.parts")


@without_exits()
def embed_files(
    name: ModelName, paths: Sequence[Path], out: Path, options: Options, progress: Progress | None = None
) -> Summary:
    """Embed all proteins in ``paths`` and write the file ``out``.

    Intermediate results are in ``OUT.parts/``. An interrupted job continues with them: inputs are identified
    by name and content, the model by weights and settings.

    Raises:
        EsmgnError: there is no input, no such model or no protein, ``out`` is another file, or another
            process writes it.
    """
    check_out(out, overwrite=options.overwrite)
    plan = plan_model(name)
    passed_over = Counter[str]()
    inputs = find_inputs(
        paths,
        sequence_only=plan.sequence_only,
        features=plan.features,
        formats=plan.formats,
        passed_over=passed_over,
    )
    model = plan.load(device=options.devices[0], precision=options.precision)
    # Nothing is created before the inputs and the model are known to be usable.
    with write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    busy = f"another process writes {out}"
    with locked(out.with_name(f".{out.name}.lock"), busy, "wait until it ends, or name another file (--out)"):
        return _embed_inputs(model, inputs, out, options, passed_over_text(passed_over), progress)


def _embed_inputs(
    model: Model,
    inputs: Sequence[Input],
    out: Path,
    options: Options,
    passed_over: str,
    progress: Progress | None,
) -> Summary:
    keyed = [(item, item.key()) for item in inputs]
    about = {"fingerprint": model.fingerprint, "level": options.level}
    digest = hashlib.sha256(json.dumps([about, [key for _, key in keyed]]).encode()).hexdigest()
    folder = parts_folder(out)
    if options.overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    elif out.exists():
        return _finished_before(out, digest, len(inputs))
    parts = PartFolder(folder, about)
    finished = {record.key for part in parts.parts() for record in part.records}
    todo = [(item, key) for item, key in keyed if key not in finished]
    num_reused = len(inputs) - len(todo)
    for done in _compute(model, todo, parts, options):
        if progress:
            progress(num_reused + done, len(inputs))
    results = parts.parts()
    content = EmbeddingColumns(results, [key for _, key in keyed], options.level)
    num_refused = _write_refused(results, keyed, out)
    if not content.records:
        shutil.rmtree(folder)
        raise StructureError(
            f"none of {len(inputs)} inputs could be embedded", f"the reasons are in {refused_file(out)}"
        )
    summary = Summary(
        num_embedded=len(content.records),
        num_residues=int(content.proteins["num_residues"].sum()),
        width=content.width,
        num_refused=num_refused,
        num_reused=num_reused,
        random_parts=model.random_parts,
        notes=tuple(group_notes((_noted_name(record), record.notes) for record in content.records)),
        passed_over=passed_over,
    )
    metadata = {**about, "esmgn": __version__, "model": model.name.record(), "job": digest}
    metadata |= {"precision": options.precision, "summary": asdict(summary)}
    write_embeddings(content, out, options.file_format, metadata)
    shutil.rmtree(folder)
    return summary


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written, before weights are downloaded.

    Raises:
        RunError: its folder is not writable, or it is another existing file, without ``overwrite``.
    """
    check_writable(out, flag="--out", parents=True)
    if out.exists() and not overwrite and read_metadata(out) is None:
        raise _exists_already(out)


def _exists_already(out: Path) -> RunError:
    return RunError(
        f"{out} exists and is not the result of this job (--out)",
        "it is not an embedding file, or it was made with another model, level or other inputs",
        "name another file, or replace it: --overwrite",
    )


def _finished_before(out: Path, digest: str, num_inputs: int) -> Summary:
    metadata = read_metadata(out) or {}
    if metadata.get("job") != digest:
        raise _exists_already(out)
    summary = {**metadata["summary"], "num_reused": num_inputs}
    lists = {name: tuple(summary.get(name, ())) for name in ("random_parts", "notes")}
    return Summary(**{**summary, **lists})


def _noted_name(record: InputResult) -> str:
    """The name of an input in notes: its file name, or the record in a FASTA file."""
    path = Path(record.path)
    return record.name if is_fasta(path) else path.name


def _write_refused(parts: Sequence[Part], keyed: Sequence[Keyed], out: Path) -> int:
    """Write the table of refused inputs, if there are any."""
    reasons = {record.key: record.refused for part in parts for record in part.records if record.refused}
    refused = [(item, reasons[key]) for item, key in keyed if key in reasons]
    table = refused_file(out)
    table.unlink(missing_ok=True)
    if refused:
        rows = [
            "\t".join(map(printable, (item.path, item.name, " ".join(reason.split())))) + "\n"
            for item, reason in refused
        ]
        write_atomically(table, "path\tname\treason\n" + "".join(rows))
    return len(refused)


def _compute(model: Model, todo: Sequence[Keyed], parts: PartFolder, options: Options) -> Iterator[int]:
    """Write parts for all inputs. Yield the number of finished inputs after each group."""
    groups = [todo[first : first + _INPUTS_PER_TASK] for first in range(0, len(todo), _INPUTS_PER_TASK)]
    done = 0
    if len(options.devices) == 1:
        for group in groups:
            done += embed_group(model, group, parts, options)
            yield done
        return
    with _workers(model.name, options) as pool:
        tasks = [pool.submit(_embed_in_worker, group, parts, options) for group in groups]
        try:
            for task in as_completed(tasks):
                done += task.result()
                yield done
        except BaseException:  # also Ctrl-C: do not wait for tasks that nobody needs
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def embed_group(model: Model, group: Sequence[Keyed], parts: PartFolder, options: Options) -> int:
    """Read and embed inputs, and write a part for every few batches of residues."""
    waiting: list[tuple[Keyed, Protein | Refusal]] = []
    num_residues = 0
    for item, key in group:
        read = item.read()
        waiting.append(((item, key), read))
        num_residues += 0 if isinstance(read, Refusal) else len(read)
        if num_residues >= _BATCHES_PER_PART * options.max_residues:
            _write_part(model, waiting, parts, options)
            waiting, num_residues = [], 0
    if waiting:
        _write_part(model, waiting, parts, options)
    return len(group)


def _write_part(
    model: Model, read: Sequence[tuple[Keyed, Protein | Refusal]], parts: PartFolder, options: Options
) -> None:
    proteins = [content for _, content in read if not isinstance(content, Refusal)]
    results = iter(embed_all(model, proteins, options.max_residues))
    embeddings, records = [], []
    for (item, key), content in read:
        result = content.reason if isinstance(content, Refusal) else next(results)
        record = InputResult(key, item.name, as_utf8(str(item.path)))
        if isinstance(result, str):
            records.append(replace(record, refused=result))
            continue
        embeddings.append(result)
        protein = result.protein_read
        records.append(replace(record, chains=protein.chains, length=len(result), notes=protein.notes))
    parts.write(embeddings, records, options.level)


_worker_model: Model | None = None
"""The model of a worker process, loaded once for all its tasks."""


def _workers(name: ModelName, options: Options) -> ProcessPoolExecutor:
    """A pool with one process and one model for each device."""
    context = multiprocessing.get_context("spawn")
    devices = context.SimpleQueue()
    for device in options.devices:
        devices.put(device)
    num_threads = max(1, torch.get_num_threads() // len(options.devices))
    return ProcessPoolExecutor(
        len(options.devices), context, _start_worker, (name, devices, options.precision, num_threads)
    )


def _start_worker(name: ModelName, devices: Any, precision: str, num_threads: int) -> None:
    global _worker_model
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process: exit without a traceback
    torch.set_num_threads(num_threads)
    warnings.simplefilter("ignore", EsmgnWarning)  # the main process emitted them
    _worker_model = load_model(name, device=devices.get(), precision=precision)


def _embed_in_worker(group: Sequence[Keyed], parts: PartFolder, options: Options) -> int:
    if _worker_model is None:
        raise RuntimeError("the worker has not loaded its model")
    return embed_group(_worker_model, group, parts, options)
