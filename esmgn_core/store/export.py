"""Export proteins of a store as structure files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esmgn_core.errors import DataError
from esmgn_core.io.write import mmcif_text, pdb_text
from esmgn_core.machine.files import write_atomically, write_errors
from esmgn_core.store.reader import Store

_SHOWN = 10


def export_structures(store: Store, names: Sequence[str] | None, folder: Path, form: str) -> int:
    """Write one file per protein, named after it.

    Args:
        store: the proteins.
        names: proteins to write; all if ``None``.
        folder: output folder, created if missing. Names with slashes go into subfolders.
        form: ``pdb`` or ``cif``.

    Returns:
        Number of files.

    Raises:
        DataError: a name is unknown, a file cannot be written, or some proteins do not fit the format. In the
            last case all others are written.
    """
    rows = range(len(store)) if names is None else [store.find(name) for name in names]
    left_out = []
    for row in rows:
        protein = store[row]
        path = folder / f"{protein.name.lstrip('/')}.{form}"
        if not path.resolve().is_relative_to(folder.resolve()):
            left_out.append(f"'{protein.name}' is a path outside {folder}")
            continue
        try:
            text = mmcif_text(protein) if form == "cif" else pdb_text(protein)
        except DataError as error:
            left_out.append(error.message)
            continue
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    if left_out:
        other = "pdb" if form == "cif" else "cif"
        raise DataError(
            f"{len(left_out)} of {len(rows)} proteins are not written, the others are in {folder}",
            *left_out[:_SHOWN],
            *([f"and {len(left_out) - _SHOWN} more"] if len(left_out) > _SHOWN else []),
            f"write them in the other format: esmgn data export {store.path} NAME... -o DIR --format {other}",
        )
    return len(rows)
