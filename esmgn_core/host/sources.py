"""The packages that provide the components of a run, recorded and compared when its folder is used again."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from esmgn_core.errors import EsmgnWarning, UnknownComponentError
from esmgn_core.host.names import SEPARATOR
from esmgn_core.host.registry import COMBINE, Registry
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import ComponentSpec, Kind, pip_install


class Source(NamedTuple):
    """The package that provides a component.

    Attributes:
        package: name of the distribution.
        version: its version.
        sha256: digest of the Python files of the component's top-level package; empty if there are none.
    """

    package: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"

    def differs_from(self, other: Source) -> bool:
        """True if package, version or digest differ; an empty digest is unknown."""
        known = bool(self.sha256 and other.sha256)
        return self[:2] != other[:2] or (known and self.sha256 != other.sha256)


def record_sources(registry: Registry, specs: Iterable[ComponentSpec]) -> dict[str, dict[str, Any]]:
    """The table ``[provided_by]`` of a run folder: the source of each component by kind and name."""
    record: dict[str, dict[str, Any]] = {}
    for spec in specs:
        for name in spec.name.split(COMBINE) if spec.kind is Kind.PRETEXT else [spec.name]:
            if source := _installed(registry, spec.kind, name):
                record.setdefault(spec.kind.value, {})[name] = source._asdict()
    return record


def source_changes(registry: Registry, run: RunFolder, kinds: Iterable[Kind]) -> list[str]:
    """Describe the components of a run folder that another version or other source code provides now.

    Empty for a folder without a record, as of esmgn 0.1.0.

    Raises:
        UnknownComponentError: no plugin in use provides a component; names the package to install.
    """
    changed: dict[tuple[Source, Source], list[str]] = defaultdict(list)
    for kind, name, then in _recorded(run.provided_by(), kinds):
        now = _installed(registry, kind, name, then.package)
        if now is None:
            raise _missing(registry, kind, name, then, run.path)
        if now.differs_from(then):
            # One text per package: its components can be in several source trees.
            versions = then._replace(sha256=""), now._replace(sha256="")
            changed[versions].append(f"{kind.long_name} '{name}'")
    return [_described(*versions, parts, run.path) for versions, parts in changed.items()]


def warn_of_changes(registry: Registry, run: RunFolder, kinds: Iterable[Kind]) -> None:
    """Emit an :class:`EsmgnWarning` for each text of :func:`source_changes`, with the same errors."""
    for text in source_changes(registry, run, kinds):
        warnings.warn(text, EsmgnWarning, stacklevel=2)


def _installed(registry: Registry, kind: Kind, name: str, package: str = "") -> Source | None:
    """The source of a component, of ``package`` if several have one of this name; ``None`` without one.

    The name can be an address now and not when it was recorded, or the reverse, because other packages were
    installed or removed.
    """
    found = [
        (plugin.distribution == package, spec.name == name, plugin, spec)
        for spec, plugin in registry.components(kind)
        if _local(spec.name) == _local(name)
    ]
    if not found:
        return None
    *_, plugin, spec = max(found, key=lambda candidate: candidate[:2])
    return Source(plugin.distribution, plugin.version, source_sha256(spec))


def _local(name: str) -> str:
    return name.rpartition(SEPARATOR)[2]


def _recorded(record: Mapping[str, Any], kinds: Iterable[Kind]) -> Iterator[tuple[Kind, str, Source]]:
    """The intact entries of a record, which the user may have edited."""
    for kind in kinds:
        table = record.get(kind.value)
        for name, values in table.items() if isinstance(table, Mapping) else ():
            texts = [values.get(key) if isinstance(values, Mapping) else None for key in Source._fields]
            if all(isinstance(text, str) for text in texts):
                yield kind, name, Source(*map(str, texts))


def _described(then: Source, now: Source, parts: list[str], used_by: Path) -> str:
    """The change of some components; the sources have no digests."""
    what = ", ".join(parts)
    if now == then:
        return (
            f"the source code of {now}, which provides {what}, has changed since {used_by} was made: "
            "results may differ"
        )
    return (
        f"{used_by} was made with {what} of {then}, and {now} is installed: results may differ; "
        f"the version of the run: {pip_install([f'{then.package}=={then.version}'])}"
    )


def _missing(registry: Registry, kind: Kind, name: str, then: Source, used_by: Path) -> UnknownComponentError:
    problems = [
        f"its plugin '{plugin.name}' is installed and not in use: {plugin.problem}"
        for plugin in registry.plugins
        if plugin.distribution == then.package and plugin.problem
    ]
    return UnknownComponentError(
        f"{used_by} needs the {kind.long_name} '{name}' of package {then}",
        *(problems or [f"install it: {pip_install([f'{then.package}=={then.version}'])}"]),
        "see: esmgn plugins",
    )


def source_sha256(spec: ComponentSpec) -> str:
    """Digest of names and contents of the Python files in the top-level package of a component.

    Empty if the package has no files.
    """
    package = spec.target.partition(":")[0].partition(".")[0]
    try:
        found = importlib.util.find_spec(package)
    except ValueError:  # a module without a specification, such as __main__
        return ""
    if found is None:
        return ""
    if folders := [Path(place) for place in found.submodule_search_locations or ()]:
        files = [(path.relative_to(top), path) for top in folders for path in top.rglob("*.py")]
    else:
        files = [(Path(path.name), path) for path in [Path(found.origin or "")] if path.is_file()]
    digest = hashlib.sha256()
    for name, path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{name.as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest() if files else ""
