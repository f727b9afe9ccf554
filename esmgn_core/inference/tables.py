"""Tables of plain values as CSV, TSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esmgn_core.errors import RunError
from esmgn_core.inference.outputs import check_writable
from esmgn_core.machine.files import write_atomically

Row = Mapping[str, Any]
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


def check_table_path(path: Path) -> None:
    """Refuse a table file of an unknown format or an unwritable folder, before anything is computed.

    Raises:
        RunError: the suffix is not ``.csv``, ``.tsv``, ``.txt`` or ``.json``, or the folder is not writable.
    """
    if path.suffix.lower() not in (*_SEPARATORS, ".json"):
        raise RunError(f"{path} has an unknown suffix (--out)", "suffixes: .csv .tsv .json")
    check_writable(path, flag="--out")


def write_table(rows: Sequence[Row], path: Path, *, about: Mapping[str, Any]) -> None:
    """Write rows; JSON also contains ``about``, which describes how they were computed.

    Raises:
        RunError: the suffix is unknown.
        WriteError: the file cannot be written.
    """
    check_table_path(path)
    suffix = path.suffix.lower()
    text = as_json(rows, about) if suffix == ".json" else as_text(rows, _SEPARATORS[suffix])
    write_atomically(path, text)


def as_text(rows: Sequence[Row], separator: str) -> str:
    """Rows with a header line, quoted where needed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_json(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """A JSON object with the items of ``about`` and the list ``rows``."""
    return json.dumps({**about, "rows": list(rows)}, indent=1) + "\n"
