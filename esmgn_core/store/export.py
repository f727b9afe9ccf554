"""Proteins of a store -> structure files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esmgn_core.errors import DataError
from esmgn_core.io.write import mmcif_text, pdb_text
from esmgn_core.store.reader import Store


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
        DataError: a name is unknown, a protein does not fit the format, or a file cannot be written.
    """
    rows = range(len(store)) if names is None else [store.find(name) for name in names]
    for row in rows:
        protein = store[row]
        text = mmcif_text(protein) if form == "cif" else pdb_text(protein)
        path = folder / f"{protein.name.lstrip('/')}.{form}"
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"the name '{protein.name}' points outside of {folder}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}") from error
    return len(rows)
