"""Declarations of plugins: kinds of components, and the components themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
        requires: package to install besides the plugin, such as ``esmgn[wandb]``. It is named in the error if
            the class cannot be imported.

    Raises:
        TypeError: ``kind`` is not a :class:`Kind`.
        ValueError: ``target`` does not have this form.
    """

    kind: Kind
    name: str
    target: str
    summary: str
    graph: str = ""
    encoders: tuple[Kind, ...] = (Kind.SEQ, Kind.STRUCT)
    requires: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, Kind):
            raise TypeError(f"kind of component '{self.name}' must be a Kind, got {self.kind!r}")
        module, _, attribute = self.target.partition(":")
        if not (module and attribute):
            raise ValueError(
                f"target of component '{self.name}' must be 'package.module:Class', got {self.target!r}"
            )

    def __str__(self) -> str:
        """Kind, name and target, for messages."""
        return f"{self.kind.long_name} '{self.name}' ({self.target})"
