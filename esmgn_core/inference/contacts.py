"""Contacts of residues predicted by a language model, compared with those of a structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_core.errors import SettingsError
from esmgn_core.host.registry import discover
from esmgn_core.inference.model import ModelName, plan_model
from esmgn_core.inference.outputs import check_writable
from esmgn_core.machine.files import written_atomically
from esmgn_core.printable import printable
from esmgn_core.protocols import PredictsContacts, weights_sha256
from esmgn_core.settings import settings_class
from esmgn_core.spec import Kind

DISTANCE = 8.0
"""Upper bound on the distance of CA atoms in contact, in angstrom."""
RANGES = {"short": (6, 12), "medium": (12, 24), "long": (24, 1 << 30)}
"""Ranges of separation in the sequence: lower bound, and upper bound that does not belong to it."""
_HEAD = "contact_head"
_PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, slots=True, eq=False)
class Contacts:
    """Predicted and true contacts of a protein of L residues.

    Attributes:
        protein: the protein.
        probability: float32 [L, L], NaN where nothing is predicted.
        distance: CA-CA distance, float32 [L, L] in angstrom.
        random: True if the weights are random.
    """

    protein: Protein
    probability: NDArray[np.float32]
    distance: NDArray[np.float32]
    random: bool

    def pairs(self, low: int, high: int = 1 << 30) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs i < j with predictions and ``low <= j - i < high``, the most probable first."""
        first, second = np.triu_indices(len(self.protein), low)
        keep = np.isfinite(self.probability[first, second]) & (second - first < high)
        first, second = first[keep], second[keep]
        order = np.argsort(-self.probability[first, second], kind="stable")
        return first[order], second[order]

    def precision(self, low: int, high: int, top: int) -> float:
        """Share of true contacts among the ``top`` most probable pairs; NaN without pairs."""
        first, second = self.pairs(low, high)
        chosen = self.distance[first[:top], second[:top]]
        return float(np.mean(chosen < DISTANCE)) if len(chosen) else float("nan")


def predict_contacts(name: ModelName, protein: Protein, *, device: str = "auto") -> Contacts:
    """Predict contacts with the contact head of a sequence encoder.

    Raises:
        SettingsError: the encoder has no contact head.
        EsmgnError: as :func:`esmgn_core.inference.model.load_model`.
    """
    if name.folder is not None:
        raise SettingsError(
            "contacts are predicted by a language model, not by a run (--model)",
            "name its sequence encoder: --seq NAME",
        )
    registry = discover()
    spec = registry.find(Kind.SEQ, name.names[Kind.SEQ]).spec
    if _HEAD not in settings_class(spec, registry.load(spec)).model_fields:
        raise SettingsError(
            f"the sequence encoder {spec.name} has no contact head",
            "those of ESM-2 have one; see: esmgn list seq",
        )
    changed = ModelName(None, name.names, (*name.changes, f"seq.{_HEAD}=true"))
    model = plan_model(changed, registry=registry).load(device=device)
    sequence = model.sequence
    assert isinstance(sequence, PredictsContacts)  # noqa: S101 - it has the setting
    batch = ProteinBatch.from_proteins([protein]).to(model.device)
    [found] = sequence.contacts(batch)
    ca = protein.backbone[:, CA]
    return Contacts(
        protein,
        found.float().cpu().numpy(),
        torch.cdist(ca, ca).numpy(),
        weights_sha256(sequence) is None,
    )


def precisions(contacts: Contacts) -> Mapping[str, tuple[float, float, float]]:
    """Precision of the L/5, L/2 and L most probable pairs, for each range of separation."""
    length = len(contacts.protein)
    tops = max(1, length // 5), max(1, length // 2), length
    values = {}
    for name, (low, high) in RANGES.items():
        one, two, three = (contacts.precision(low, high, top) for top in tops)
        values[name] = one, two, three
    return values


def check_picture_path(path: Path) -> None:
    """Refuse a picture of an unknown format or in an unwritable folder.

    Raises:
        SettingsError: the suffix is unknown.
        RunError: the folder is not writable.
    """
    if path.suffix.lower() not in _PICTURES:
        raise SettingsError(f"{path} has an unknown suffix (--picture)", f"suffixes: {' '.join(_PICTURES)}")
    check_writable(path, flag="--picture")


def draw_contacts(contacts: Contacts, path: Path) -> None:
    """Draw predicted contacts above the diagonal, and those of the structure below.

    Raises:
        WriteError: the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    upper = np.triu(np.nan_to_num(contacts.probability), 1)
    lower = np.tril((contacts.distance < DISTANCE).astype(np.float32), -1)
    with rc_context({"text.parse_math": False}), written_atomically(path) as temporary:
        figure = Figure(figsize=(6.0, 5.4), layout="constrained")
        axis = figure.subplots()
        image = axis.imshow(upper + lower, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        name = printable(contacts.protein.name) + (", random weights" if contacts.random else "")
        axis.set_title(f"{name}: predicted above, CA within {DISTANCE:g} angstrom below", fontsize=9)
        axis.set_xlabel("residue")
        axis.set_ylabel("residue")
        figure.colorbar(image, ax=axis, shrink=0.8).set_label("probability", fontsize=8)
        figure.savefig(temporary, dpi=150, format=path.suffix.lower().removeprefix("."))
