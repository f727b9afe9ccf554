"""From a fold to one chain of residues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

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


class Chain(NamedTuple):
    """A backbone of n residues.

    Attributes:
        fold: name of its architecture.
        secondary_structure: n letters, H in helices, E in strands, L elsewhere.
        torsions: float64 [n, 2], phi and psi in radians.
        backbone: float64 [n, 4, 3], N, CA, C, O in angstrom, the CA centred on the origin.
    """

    fold: str
    secondary_structure: str
    torsions: Array
    backbone: Array


class _Piece(NamedTuple):
    """Consecutive residues: their letters, torsions [n, 2] and atoms [n, 4, 3]."""

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
    piece = _Piece(letters, torsions, backbone_atoms(chain_frames(torsions), torsions[:, 1]))
    missing = min(max(wanted - len(letters), 0), 2 * LONGEST_LOOP)
    before = min(max(missing - LONGEST_LOOP, int(rng.random() * (missing + 1))), LONGEST_LOOP)
    piece = _with_tail(piece, missing - before, elements[-1].kind, rng, joint=-1)
    piece = _with_tail(piece, before, elements[0].kind, rng, joint=0)
    return None if clashes(piece.atoms).any() else piece


def _collide(elements: Sequence[Element]) -> bool:
    atoms = np.concatenate([element.atoms for element in elements])
    owner = np.repeat(np.arange(len(elements)), [len(element.atoms) for element in elements])
    return bool(too_close(atoms, atoms, owner[:, None] != owner).any())


def _thread(
    elements: Sequence[Element], joins: Sequence[Join], rng: np.random.Generator
) -> tuple[str, Array]:
    """Secondary structure and torsions [n, 2] of the elements and loops in one chain."""
    letters, torsions = [], []
    first = int(rng.random() * (SPARE[elements[0].kind] + 1))
    for i, element in enumerate(elements):
        lost = int(rng.random() * (SPARE[element.kind] + 1))
        last = joins[i].leave if i < len(joins) else len(element.torsions) - 1 - lost
        part = element.torsions[first : last + 1].copy()
        if i > 0:
            part[0, 0] = joins[i - 1].torsions[-1, 0]
        letters.append(element.kind * len(part))
        torsions.append(part)
        if i < len(joins):
            part[-1, 1] = joins[i].torsions[0, 1]
            torsions.append(joins[i].torsions[1:-1])
            letters.append("L" * len(torsions[-1]))
            first = joins[i].enter
    return "".join(letters), np.concatenate(torsions)


def _with_tail(
    piece: _Piece, number: int, kind: ElementKind, rng: np.random.Generator, *, joint: int
) -> _Piece:
    """The piece with the most compact of random tails, or without if all of them clash.

    Args:
        piece: residues that start in the identity frame.
        number: residues of the tail.
        kind: the element next to the tail.
        rng: source of random numbers.
        joint: residue of the piece that the tail is bonded to: 0, or -1 for a tail at the end.
    """
    if number == 0:
        return piece
    before = joint == 0
    # A stretch is the tail and the joint, which is the last residue of a tail before the piece.
    drawn = draw_loops(kind, _TAILS_TRIED, rng).torsions[:, int(before) :][:, : number + 1]
    drawn[:, -1 - joint, 0] = piece.torsions[joint, 0]
    if before:
        drawn[:, -1, 1] = piece.torsions[0, 1]
    frames = chain_frames(drawn)
    frames = chain_frames(piece.torsions)[joint] @ np.linalg.inv(frames[:, [-1 - joint]]) @ frames
    stretches = backbone_atoms(frames, drawn[..., 1])
    tails, rest = (stretches[:, :-1], slice(1, None)) if before else (stretches[:, 1:], slice(-1))
    others = piece.atoms[rest]
    touching = too_close(tails, others).any(axis=(1, 2)) | clashes(stretches).any(axis=(1, 2))
    if touching.all():
        return piece
    # Over all atoms: tails of one residue can agree in CA, and rounding errors would choose among them.
    distance = ((tails - others[:, CA].mean(axis=0)) ** 2).sum(axis=(1, 2, 3))
    best = np.argmin(np.where(touching, np.inf, distance))
    tail = _Piece("L" * number, drawn[best], stretches[best])
    kept = _Piece(piece.letters, piece.torsions[rest], others)
    return _joined(tail, kept) if before else _joined(kept, tail)


def _joined(first: _Piece, last: _Piece) -> _Piece:
    atoms = np.concatenate([first.atoms, last.atoms])
    return _Piece(first.letters + last.letters, np.concatenate([first.torsions, last.torsions]), atoms)
