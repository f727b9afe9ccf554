"""Residue features as additional inputs of the structure encoder.

Datasets provide them in ``ProteinBatch.features``; the table ``[inputs]`` of a run selects them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from esmgn_core.alphabet import EIGHT_TO_THREE, SECONDARY_STATES, THREE_STATES
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.errors import DataError, did_you_mean
from esmgn_core.graph import ResidueGraph
from esmgn_core.io.annotate import EXPOSURE, SECONDARY_STRUCTURE
from esmgn_core.layers import LayerState
from esmgn_core.model.wrapper import EncoderWrapper
from esmgn_core.protocols import StructureEncoder

_THREE = f"{SECONDARY_STRUCTURE}_3"
_COLUMNS = {_THREE: SECONDARY_STRUCTURE}
_STATES = {SECONDARY_STRUCTURE: len(SECONDARY_STATES), _THREE: len(THREE_STATES)}
_UNITS = {EXPOSURE: 100.0}  # square angstrom; a residue that is wholly exposed has 100 to 290
_FLAGS = {SECONDARY_STRUCTURE: "--secondary-structure", EXPOSURE: "--exposure"}


def inputs_dim(names: Iterable[str]) -> int:
    """Number of input columns for the features ``names``.

    >>> inputs_dim(["secondary_structure", "exposure"])
    10
    """
    return sum(_STATES.get(name, 2) for name in names)


def columns_of(names: Iterable[str]) -> tuple[str, ...]:
    """The columns of ``ProteinBatch.features`` that the inputs ``names`` need.

    >>> columns_of(["secondary_structure_3", "exposure"])
    ('secondary_structure', 'exposure')
    """
    return tuple(dict.fromkeys(_COLUMNS.get(name, name) for name in names))


def residue_inputs(batch: ProteinBatch, names: Sequence[str]) -> Tensor:
    """Concatenate the features ``names`` of each residue, float32 [N, :func:`inputs_dim`].

    ``secondary_structure`` is one-hot over the states of DSSP, ``secondary_structure_3`` over helix, strand
    and coil; both are zero where the state is unknown. Every other feature has two columns: the value
    (exposure in 100 square angstrom; zero if unknown), and 1 if it is known, else 0.

    Raises:
        DataError: the batch lacks a feature.
    """
    check_features(names, batch.features)
    columns = [_columns(name, batch.features[_COLUMNS.get(name, name)]) for name in names]
    return torch.cat([torch.zeros(batch.num_residues, 0, device=batch.ptr.device), *columns], dim=1)


def check_features(names: Sequence[str], available: Iterable[str]) -> None:
    """Check that the data provide the features ``names``.

    Raises:
        DataError: a feature is missing; the message names the available ones and how to add it.
    """
    available = list(available)
    missing = [name for name in names if _COLUMNS.get(name, name) not in available]
    if not missing:
        return
    flags = [_FLAGS[column] for column in columns_of(missing) if column in _FLAGS]
    build = f"build a store with it: esmgn data build SOURCE... -o STORE {' '.join(flags)}"
    raise DataError(
        f"the structure encoder needs {' and '.join(map(repr, missing))} of each residue (inputs.residue), "
        f"but the proteins have {' and '.join(map(repr, available)) or 'no residue features'}",
        *((build,) if flags else did_you_mean(missing[0], [*_FLAGS, _THREE])),
    )


def _columns(name: str, values: Tensor) -> Tensor:
    known = values.isfinite()
    if name not in _STATES:
        return torch.stack([values.nan_to_num(0.0) / _UNITS.get(name, 1.0), known.to(values.dtype)], dim=1)
    state = values.nan_to_num(0.0).long()
    if name == _THREE:
        state = torch.tensor(EIGHT_TO_THREE, device=state.device)[state]
    return functional.one_hot(state, _STATES[name]) * known.unsqueeze(1).to(values.dtype)


class WithInputs(EncoderWrapper):
    """A structure encoder with residue features as additional inputs.

    Args:
        encoder: built for the additional columns, see :func:`inputs_dim`.
        names: names of the features.
    """

    def __init__(self, encoder: StructureEncoder, names: Sequence[str]) -> None:
        super().__init__(encoder)
        self._names = names

    def __call__(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, D] together with the features of the batch."""
        encoding: Encoding = self._encoder(batch, graph, self._joined(batch, features))
        return encoding

    def begin(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        features: Tensor,
        tokens: Tensor | None = None,
        relation: int | None = None,
    ) -> LayerState:
        """As :meth:`esmgn_core.protocols.LayeredStructure.begin`; added tokens have zeros as features."""
        if tokens is not None:
            tokens = functional.pad(tokens, (0, inputs_dim(self._names)))
        state: LayerState = self._encoder.begin(batch, graph, self._joined(batch, features), tokens, relation)
        return state

    def _joined(self, batch: ProteinBatch, features: Tensor) -> Tensor:
        return torch.cat([features, residue_inputs(batch, self._names).to(features.dtype)], dim=1)
