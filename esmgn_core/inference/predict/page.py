"""A self-contained HTML page with predictions and structures.

Mol*, from the package ``ipymolstar``, is embedded into the page and draws the residues that were read. A
MolViewSpec tree for each view defines their colours.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from torch import Tensor

from esmgn_core.batch import Protein
from esmgn_core.errors import RunError
from esmgn_core.inference.embedding import residues_of
from esmgn_core.inference.predict.predictor import Prediction
from esmgn_core.io.write import structure
from esmgn_core.machine.files import write_atomically
from esmgn_core.pages import Markup, render
from esmgn_core.pages.chart import plddt_color
from esmgn_core.printable import printable

_NO_PLDDT = "#b8b8b8"
_AGAINST, _NEUTRAL, _FOR = (33, 102, 172), (235, 235, 235), (178, 24, 43)
_SHADES = 12
_PLAIN_CHAIN = re.compile("[A-Za-z0-9][A-Za-z0-9-]*")


@dataclass(frozen=True, slots=True, eq=False)
class PageEntry:
    """A protein on the page.

    Attributes:
        protein: the structure.
        predictions: the rows of its table.
        importance: float [n], contribution of each residue to ``explained``; ``None`` for no such view.
        explained: name of a label.
    """

    protein: Protein
    predictions: Sequence[Prediction]
    importance: Tensor | None = None
    explained: str = ""


def write_page(
    shown: Sequence[PageEntry], path: Path, *, title: str, notes: Sequence[str], warnings: Sequence[str] = ()
) -> None:
    """Write a self-contained HTML file.

    Raises:
        RunError: the viewer is not installed.
        WriteError: the file cannot be written.
    """
    script, style = viewer_files()
    proteins = [_entry(item) for item in shown]
    page = render(
        "predictions.html",
        title=title,
        notes=notes,
        warnings=warnings,
        proteins=proteins,
        viewer_style=Markup(style.read_text(encoding="utf-8")),
        module=base64.b64encode(script.read_bytes()).decode(),
    )
    write_atomically(path, page)


def viewer_files() -> tuple[Path, Path]:
    """Script and style sheet of Mol*.

    Raises:
        RunError: the extra ``viewer`` is not installed.
    """
    found = importlib.util.find_spec("ipymolstar")
    if found is None or found.origin is None:
        raise RunError("the 3D viewer is not installed (--html)", "pip install 'esmgn[viewer]'")
    static = Path(found.origin).parent / "static"
    script, style = static / "molviewspec.js", static / "molviewspec.css"
    if not script.is_file() or not style.is_file():
        raise RunError(f"{static} has no molviewspec.js (--html)", "pip install 'esmgn[viewer]'")
    return script, style


def _entry(item: PageEntry) -> dict[str, Any]:
    colors = {"pLDDT": plddt_colors(item.protein)} if item.protein.plddt is not None else {}
    if item.importance is not None:
        colors[f"importance for {printable(item.explained)}"] = importance_colors(item.importance)
    colors = colors or {"structure": [_NO_PLDDT] * len(item.protein)}
    drawn = replace(item.protein, name="protein", chains=plain_chains(item.protein.chains))
    text = viewer_text(drawn)
    return {
        "name": printable(item.protein.name),
        "predictions": [
            {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}
            for row in (prediction.row() for prediction in item.predictions)
        ],
        "views": {name: json.dumps(_scene(drawn, text, each)) for name, each in colors.items()},
    }


def plain_chains(names: Sequence[str]) -> tuple[str, ...]:
    """Names of chains that need no quotes in mmCIF; other names, such as a blank, are numbered.

    >>> plain_chains(["A", "", "_", "A-2"])
    ('A', 'chain-2', 'chain-3', 'A-2')
    """
    taken, plain = set(names), []
    for number, name in enumerate(names, 1):
        if not _PLAIN_CHAIN.fullmatch(name):
            name = f"chain-{number}"
            while name in taken:
                name += "x"
        plain.append(name)
    return tuple(plain)


def plddt_colors(protein: Protein) -> list[str]:
    """The colour of each residue by its pLDDT; grey without pLDDT."""
    if protein.plddt is None:
        return [_NO_PLDDT] * len(protein)
    return [plddt_color(value) or _NO_PLDDT for value in protein.plddt.tolist()]


def importance_colors(importance: Tensor) -> list[str]:
    """The colour of each residue: red if it raises the logit, blue if it lowers it, pale near zero."""
    values = importance.numpy()
    limit = float(np.percentile(np.abs(values), 98)) or 1.0  # a few outliers would make all others pale
    shades = np.rint(np.clip(values / limit, -1, 1) * _SHADES) / _SHADES
    return [_mixed(_FOR if shade > 0 else _AGAINST, abs(float(shade))) for shade in shades]


def _mixed(color: tuple[int, int, int], share: float) -> str:
    mixed = (round(n + (c - n) * share) for n, c in zip(_NEUTRAL, color, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def viewer_text(protein: Protein) -> str:
    """MmCIF text of the residues of a protein, for a cartoon in Mol*."""
    plddt = None if protein.plddt is None else protein.plddt.nan_to_num(0)
    drawn = structure(replace(protein, plddt=plddt))
    for subchain in drawn[0].subchains():
        # Without positions in a polymer sequence viewers draw sticks, not a cartoon.
        drawn.get_entity_of(subchain).full_sequence = [residue.name for residue in subchain]
    drawn.assign_label_seq_id(force=True)
    # Without the table of component types: gemmi does not know the types, but viewers rely on the table.
    groups = gemmi.MmcifOutputGroups(False)
    groups.atoms = groups.entity = groups.entity_poly = groups.entity_poly_seq = groups.struct_asym = True
    return str(drawn.make_mmcif_document(groups).as_string())


def _scene(protein: Protein, text: str, colors: Sequence[str]) -> dict[str, Any]:
    """A MolViewSpec tree: a cartoon with a colour for each residue."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for residue, color in zip(residues_of(protein), colors, strict=True):
        selector: dict[str, Any] = {"auth_asym_id": residue.chain, "auth_seq_id": residue.number}
        if residue.insertion_code:
            selector["pdbx_PDB_ins_code"] = residue.insertion_code
        groups[color].append(selector)
    coloring = [_node("color", color=color, selector=selector) for color, selector in groups.items()]
    url = "data:text/plain;base64," + base64.b64encode(text.encode()).decode()
    cartoon = _node("representation", coloring, type="cartoon")
    model = _node("structure", [_node("component", [cartoon], selector="all")], type="model")
    root = _node("root", [_node("download", [_node("parse", [model], format="mmcif")], url=url)])
    return {"root": root, "metadata": {"version": "1", "timestamp": "2026-01-01T00:00:00Z"}}


def _node(kind: str, children: Sequence[Any] = (), **params: Any) -> dict[str, Any]:
    node = {"kind": kind, "params": params, "children": list(children)}
    return {name: value for name, value in node.items() if value}
