"""Declarations of plugins: kinds of components, and the components themselves."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, get_args


class Kind(StrEnum):
    """A kind of component. The value is also its TOML table and its flag, see :attr:`chosen_by`."""

    SEQ = "seq"
    STRUCT = "struct"
    FUSE = "fuse"
    GRAPH = "graph"
    PRETEXT = "pretext"
    DOWNSTREAM = "downstream"
    DATA = "data"
    TRACKER = "tracker"
    FORMAT = "format"

    @property
    def long_name(self) -> str:
        """Name of the kind for messages, such as ``structure encoder``."""
        return _LONG_NAMES[self]

    @property
    def chosen_by(self) -> str:
        """The flag or setting that names components of the kind."""
        return {Kind.TRACKER: "train.trackers", Kind.FORMAT: "of plugins, chosen by content"}.get(
            self, f"--{self}"
        )


_LONG_NAMES = {
    Kind.SEQ: "sequence encoder",
    Kind.STRUCT: "structure encoder",
    Kind.FUSE: "fuser",
    Kind.GRAPH: "graph builder",
    Kind.PRETEXT: "pretext task",
    Kind.DOWNSTREAM: "downstream task",
    Kind.DATA: "dataset",
    Kind.TRACKER: "tracker",
    Kind.FORMAT: "structure format",
}

PARTS = tuple(kind for kind in Kind if kind not in (Kind.TRACKER, Kind.FORMAT))
"""Kinds of which a run has at most one component. Trackers can be several; formats belong to files."""


Reads = Literal["sequence", "CA", "backbone", "labels", "pLDDT"]
"""Data of a protein that a component reads."""


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One component of a plugin: its kind, its name and the class that implements it.

    Attributes:
        kind: kind of the component.
        name: name in flags, settings and lists.
        target: ``"package.module:Class"``, imported only when the component is used, so that listing
            components never imports torch. The target of a structure format is an
            :class:`esmgn_core.io.Format`, in a module that does not import torch.
        summary: one line for ``esmgn list``.
        graph: for structure encoders, the default graph builder.
        encoders: for fusers, the encoders that it reads. A run does not build the others.
        requires: packages that must be importable besides those that the plugin always installs: the name of
            the module, and what to install, such as ``{"wandb": "esmgn[wandb]"}``.
        license: SPDX identifier of the licence, with that of the weights or data that it downloads. Default:
            the licence of the plugin's package.
        citation: what to cite, such as ``Jing et al. 2021 (arXiv 2009.01411)``.
        reads: what it reads of a protein itself. Representations and edges that it receives do not count.

    Raises:
        TypeError: ``kind`` is not a :class:`Kind`, or ``requires`` is not a mapping.
        ValueError: ``target`` does not have this form, a key of ``requires`` is not a top-level module, or
            ``reads`` has an unknown value.
    """

    kind: Kind
    name: str
    target: str
    summary: str
    graph: str = ""
    encoders: tuple[Kind, ...] = (Kind.SEQ, Kind.STRUCT)
    requires: Mapping[str, str] = field(default_factory=dict, hash=False)
    license: str = ""
    citation: str = ""
    reads: tuple[Reads, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.kind, Kind):
            raise TypeError(f"kind of component '{self.name}' must be a Kind, got {self.kind!r}")
        self._check_requires()
        if isinstance(self.reads, str) or not set(self.reads) <= set(get_args(Reads)):
            raise ValueError(
                f"reads of component '{self.name}' must be a tuple of {', '.join(get_args(Reads))}, "
                f"got {self.reads!r}"
            )
        module, _, attribute = self.target.partition(":")
        if not (module and attribute):
            raise ValueError(
                f"target of component '{self.name}' must be 'package.module:Class', got {self.target!r}"
            )

    def _check_requires(self) -> None:
        if not isinstance(self.requires, Mapping):
            raise TypeError(
                f"requires of component '{self.name}' must map modules to what to install, "
                f'such as {{"module": "package[extra]"}}, got {self.requires!r}'
            )
        for module in self.requires:
            if not module.isidentifier():  # find_spec would import the parents of a submodule
                raise ValueError(
                    f"requires of component '{self.name}' must name top-level modules, got {module!r}"
                )

    @property
    def install_command(self) -> str:
        """Command that installs missing requirements; empty if none is missing. Imports nothing."""
        missing = [package for module, package in self.requires.items() if not _is_importable(module)]
        return pip_install(missing) if missing else ""

    def __str__(self) -> str:
        """Kind, name and target, for messages."""
        return f"{self.kind.long_name} '{self.name}' ({self.target})"


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # it is imported and has no specification
        return True


def pip_install(packages: Iterable[str]) -> str:
    """Command that installs packages, each once.

    >>> pip_install(["esmgn[wandb]"])
    "pip install 'esmgn[wandb]'"
    """
    return " ".join(["pip install", *(f"'{package}'" for package in dict.fromkeys(packages))])
