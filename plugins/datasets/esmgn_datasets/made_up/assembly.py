"""From a fold to one chain of residues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from esmgn_core.batch import CA
from esmgn_datasets.made_up.backbone import Array, backbone_atoms, chain_frames
from esmgn_datasets.made_up.contacts import clashes, too_close
from esmgn_datasets.made_up.elements import SPARE, Element, ElementKind, place_elements
from esmgn_datasets.made_up.folds import FOLDS, Fold
from esmgn_datasets.made_up.joining import Join, join_elements
from esmgn_datasets.made_up.library import LoopLibrary
from esmgn_datasets.made_up.loops import LONGEST_LOOP, draw_loops

_TAILS_TRIED = 48


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A backbone of n residues.

    Attributes:
        fold: name of its architecture.
        secondary_structure: n letters, H in helices, E in strands, L elsewhere.
        torsions: float64 [2, n], phi and psi in radians.
        backbone: float64 [n, 4, 3], N, CA, C, O in angstrom, the CA centred on the origin.
    """

    fold: str
    secondary_structure: str
    torsions: Array
    backbone: Array


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Consecutive residues: their letters, torsions [2, n] and atoms [n, 4, 3]."""

    letters: str
    torsions: Array
    atoms: Array


def make_chain(
    shortest: int, longest: int, libraries: Mapping[ElementKind, LoopLibrary], rng: np.random.Generator
) -> Chain:
    """A chain of ``shortest`` to ``longest`` residues, short ones more often, in a fold that suits it."""
    wanted = int(shortest * ((longest + 1) / shortest) ** rng.random())
    names = [name for name, fold in FOLDS.items() if fold.shortest <= wanted <= fold.longest]
    attempt = 0
    while True:
        # Now and then another fold, in case one suits the length badly.
        if attempt % 10 == 0:
            name = names[int(rng.random() * len(names))]
        piece = _fold_chain(FOLDS[name], wanted, libraries, rng)
        if piece is not None and shortest <= len(piece.letters) <= longest:
            centred = piece.atoms - piece.atoms[:, CA].mean(axis=0)
            return Chain(name, piece.letters, piece.torsions, centred)
        attempt += 1


def _fold_chain(
    fold: Fold, wanted: int, libraries: Mapping[ElementKind, LoopLibrary], rng: np.random.Generator
) -> _Piece | None:
    elements = place_elements(fold.design(wanted, rng), rng)
    joins = None if _collide(elements) else join_elements(elements, libraries, rng)
    if joins is None:
        return None
    letters, torsions = _thread(elements, joins, rng)
    piece = _Piece(letters, torsions, backbone_atoms(chain_frames(*torsions), torsions[1]))
    missing = min(max(wanted - len(letters), 0), 2 * LONGEST_LOOP)
    before = min(max(missing - LONGEST_LOOP, int(rng.random() * (missing + 1))), LONGEST_LOOP)
    piece = _with_last_residues(piece, missing - before, elements[-1].kind, rng)
    piece = _with_first_residues(piece, before, elements[0].kind, rng)
    return None if clashes(piece.atoms).any() else piece


def _collide(elements: Sequence[Element]) -> bool:
    atoms = np.concatenate([element.atoms for element in elements])
    owner = np.repeat(np.arange(len(elements)), [len(element) for element in elements])
    return bool(too_close(atoms, atoms, owner[:, None] != owner).any())


def _thread(
    elements: Sequence[Element], joins: Sequence[Join], rng: np.random.Generator
) -> tuple[str, Array]:
    """Secondary structure and torsions [2, n] of the elements and loops in one chain."""
    letters, torsions = [], []
    first = int(rng.random() * (SPARE[elements[0].kind] + 1))
    for i, element in enumerate(elements):
        lost = int(rng.random() * (SPARE[element.kind] + 1))
        last = joins[i].leave if i < len(joins) else len(element) - 1 - lost
        part = np.stack([element.phi, element.psi])[:, first : last + 1]
        if i > 0:
            part[0, 0] = joins[i - 1].torsions[0, -1]
        letters.append(element.kind * part.shape[1])
        torsions.append(part)
        if i < len(joins):
            part[1, -1] = joins[i].torsions[1, 0]
            torsions.append(joins[i].torsions[:, 1:-1])
            letters.append("L" * torsions[-1].shape[1])
            first = joins[i].enter
    return "".join(letters), np.concatenate(torsions, axis=1)


def _with_last_residues(piece: _Piece, number: int, kind: ElementKind, rng: np.random.Generator) -> _Piece:
    """The piece with a random tail at its end, or without when every tail tried clashes."""
    if number == 0:
        return piece
    drawn = draw_loops(kind, _TAILS_TRIED, rng).torsions[:, : number + 1].transpose(2, 0, 1)
    drawn[:, 0, 0] = piece.torsions[0, -1]
    last = chain_frames(*piece.torsions).at(slice(-1, None))
    atoms = backbone_atoms(last.then(chain_frames(drawn[:, 0], drawn[:, 1])), drawn[:, 1])
    best = _most_compact(atoms, slice(1, None), piece.atoms[:-1])
    if best is None:
        return piece
    torsions = np.concatenate([piece.torsions[:, :-1], drawn[best]], axis=1)
    atoms = np.concatenate([piece.atoms[:-1], atoms[best]])
    return _Piece(piece.letters + "L" * number, torsions, atoms)


def _with_first_residues(piece: _Piece, number: int, kind: ElementKind, rng: np.random.Generator) -> _Piece:
    """The piece with a random tail before its start, or without when every tail tried clashes."""
    if number == 0:
        return piece
    drawn = draw_loops(kind, _TAILS_TRIED, rng).torsions[:, 1 : number + 2].transpose(2, 0, 1)
    drawn[:, :, -1] = piece.torsions[:, 0]
    frames = chain_frames(drawn[:, 0], drawn[:, 1])
    # The piece starts in the identity frame, and that is where the tail has to end.
    frames = frames.at(slice(None), slice(-1, None)).inverse().then(frames)
    atoms = backbone_atoms(frames, drawn[:, 1])
    best = _most_compact(atoms, slice(None, -1), piece.atoms[1:])
    if best is None:
        return piece
    torsions = np.concatenate([drawn[best], piece.torsions[:, 1:]], axis=1)
    atoms = np.concatenate([atoms[best, :-1], piece.atoms])
    return _Piece("L" * number + piece.letters, torsions, atoms)


def _most_compact(stretches: Array, tail: slice, rest: Array) -> int | None:
    """Which stretch [C, m, 4, 3] has its tail nearest to the rest's centre, if any touches nothing."""
    tails = stretches[:, tail]
    touching = too_close(tails, rest).any(axis=(1, 2)) | clashes(stretches).any(axis=(1, 2))
    if touching.all():
        return None
    # Over all atoms: tails of one residue can agree in CA, and rounding errors would choose among them.
    distance = ((tails - rest[:, CA].mean(axis=0)) ** 2).sum(axis=(1, 2, 3))
    return int(np.argmin(np.where(touching, np.inf, distance)))
