"""Proteins of a store -> structure files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esmgn_core.errors import DataError
from esmgn_core.io.write import mmcif_text, pdb_text
from esmgn_core.machine.files import write_atomically, write_errors
from esmgn_core.store.reader import Store

_SHOWN = 10


def export_structures(store: Store, names: Sequence[str] | None, folder: Path, form: str) -> int:
    """Write proteins as files, one each, named after them.

    Args:
        store: the proteins.
        names: which; all if ``None``.
        folder: where; made if it is not there. A name with a path in it goes into folders inside.
        form: ``pdb`` or ``cif``.

    Returns:
        Number of files.

    Raises:
        DataError: a name is unknown or a file cannot be written; or some proteins do not fit the format: all
            others are written then.
    """
    rows = range(len(store)) if names is None else [store.find(name) for name in names]
    left_out = []
    for row in rows:
        protein = store[row]
        path = folder / f"{protein.name.lstrip('/')}.{form}"
        if not path.resolve().is_relative_to(folder.resolve()):
            left_out.append(f"'{protein.name}' points outside of {folder}")
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
