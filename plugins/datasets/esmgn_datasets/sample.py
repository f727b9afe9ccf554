"""The dataset ``sample``: made-up proteins for tests and first tries without a download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from pydantic import Field, model_validator

from esmgn_core.batch import BACKBONE_ATOMS, Protein
from esmgn_core.related import split_proteins
from esmgn_core.settings import ComponentSettings
from esmgn_core.splits import Shares, Split
from esmgn_datasets.made_up.assembly import Chain, make_chain
from esmgn_datasets.made_up.library import loop_libraries
from esmgn_datasets.made_up.sequences import draw_types, residue_burials, residue_states

_DECIMALS = 3


class Sample:
    """MADE-UP proteins without any experimental content, computed when the data set is built.

    No coordinate or sequence comes from nature, and no result on this data set applies to real proteins.
    It lets a fresh clone train, test and be timed without a download.

    What holds: full backbones with ideal bond lengths and angles and trans peptide bonds; right-handed
    helices, hydrogen-bonded parallel and antiparallel sheets, and loops, packed into eight simple folds
    about as compact as globular proteins and free of clashes. Residue types are drawn from the secondary
    structure, the sign of phi in loops, and the burial, so that a model can learn to predict them from
    the structure: the best guess given these three is right for three residues in ten, the best guess
    given nothing for one in ten. There is no pLDDT, and there are no labels. Short proteins are more
    frequent than long ones, evenly on a logarithmic scale.

    A protein is named after its number and fold, ``sample-0007-beta_meander``. It depends on the
    seed, the bounds on the length and its number, not on how many others there are.

    Example:
        >>> data = Sample(Sample.Settings(num_proteins=2))
        >>> data[0].name, len(data[0])
        ('sample-0000-beta_sandwich', 100)
        >>> data.secondary_structure(0)[:20]
        'LLLLLEEEEEEELLLLLLEE'
    """

    class Settings(ComponentSettings):
        """Settings of the made-up data set."""

        num_proteins: int = Field(default=300, ge=1, le=100_000)
        """Number of proteins. A hundred take about two seconds on one core."""

        min_length: int = Field(default=30, ge=30, le=200)
        """Fewest residues of a protein."""

        max_length: int = Field(default=200, ge=30, le=200)
        """Most residues of a protein."""

        seed: int = Field(default=0, ge=0)
        """Seed of the proteins."""

        valid_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
        """Share of the proteins used for validation, chosen by a hash of the sequence."""

        @model_validator(mode="after")
        def _lengths_in_order(self) -> Self:
            if self.min_length > self.max_length:
                raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
            return self

    group_size = 1

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._proteins: list[Protein] = []
        self._secondary_structures: list[str] = []
        for number in range(settings.num_proteins):
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([settings.seed, number])))
            chain = make_chain(settings.min_length, settings.max_length, loop_libraries(), rng)
            self._proteins.append(_protein(f"sample-{number:04d}-{chain.fold}", chain, rng))
            self._secondary_structures.append(chain.secondary_structure)
        self.lengths = [len(protein) for protein in self._proteins]
        names = [protein.name for protein in self._proteins]
        self._splits, _ = split_proteins(names, self._proteins, Shares(settings.valid_fraction))

    def __len__(self) -> int:
        return len(self._proteins)

    def __getitem__(self, index: int) -> Protein:
        return self._proteins[index]

    def split(self, name: Split) -> Sequence[int]:
        """Indices of the proteins of one split."""
        return [index for index, split in enumerate(self._splits) if split == name]

    def secondary_structure(self, index: int) -> str:
        """The secondary structure protein ``index`` was built with: H helix, E strand, L the rest."""
        return self._secondary_structures[index]


def _protein(name: str, chain: Chain, rng: np.random.Generator) -> Protein:
    # Rounded as in structure files: what differs between processors in the last bits must not show.
    backbone = chain.backbone.round(_DECIMALS) + 0.0
    state = residue_states(chain.secondary_structure, chain.torsions[:, 0])
    types = draw_types(state, residue_burials(backbone), rng)
    length = len(types)
    return Protein(
        name=name,
        residue_type=torch.from_numpy(types),
        backbone=torch.from_numpy(backbone.astype(np.float32)),
        atom_mask=torch.ones(length, len(BACKBONE_ATOMS), dtype=torch.bool),
        residue_index=torch.arange(1, length + 1),
        chain_index=torch.zeros(length, dtype=torch.int64),
    )
