"""Presets, recipes and published weights from the layers of ``registry.toml``.

The layers are the shipped file, each plugin's own file, and the user's. Only the user's file replaces
entries, and whole ones. Other entries of one name are a conflict, see :mod:`esmgn_core.host.names`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from esmgn_core.errors import SettingsError, did_you_mean, shown
from esmgn_core.machine.parse import parse_toml
from esmgn_core.spec import PARTS, Kind
from esmgn_core.text import read_text

SCHEMA = 1
RECIPE = "recipe"
WEIGHTS = "weights"
LAYOUT = "layout"
DEFAULT = "default"
DISABLED = "disabled"
WITHOUT_GPU = "seq_without_gpu"
"""Key of ``[default]``: the sequence encoder that commands suggest on a machine without a GPU."""
WITHOUT_STRUCT = "fuse_without_struct"
"""Key of ``[default]``: the fuser of a sequence encoder that is named alone."""
_PRESET_KEYS = ("component", "summary", "settings", "checkpoint")
_RECIPE_KEYS = ("summary", "run")
_FILE_KEYS = ("url", "md5", "sha256", "license", "layout", "summary")
_LAYOUT_PARTS = (Kind.SEQ, Kind.STRUCT, Kind.FUSE)
DEFAULT_KINDS: Mapping[str, Kind] = {
    **{kind.value: kind for kind in PARTS if kind is not Kind.DOWNSTREAM},
    WITHOUT_GPU: Kind.SEQ,
    WITHOUT_STRUCT: Kind.FUSE,
}
"""Kind of the component that each key of ``[default]`` names."""
_LAYOUT_KEYS = ("summary", "parts", "run", "optional", "constants")


@dataclass(frozen=True, slots=True)
class Preset:
    """A component with settings and, optionally, the location of published weights.

    ``overrides`` is the file whose entry this one of the user's file replaces; empty for none.
    """

    kind: Kind
    name: str
    component: str
    summary: str
    settings: Mapping[str, Any]
    origin: str
    overrides: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named, complete run; ``run`` has the tables of a run file."""

    name: str
    summary: str
    run: Mapping[str, Any]
    origin: str
    overrides: str = ""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file of weights, which must be imported before use.

    ``layout`` is the name of a :class:`PublishedLayout`. ``file`` has ``url``, ``license`` and, if
    published, checksums.
    """

    name: str
    layout: str
    summary: str
    file: Mapping[str, str]
    origin: str
    overrides: str = ""


@dataclass(frozen=True, slots=True)
class PublishedLayout:
    """The tensors in a kind of published file.

    Attributes:
        name: name of the layout.
        summary: description on one line.
        parts: prefix of the tensor names of each component.
        run: tables of a run file that give the published model, without its sizes. In a list of alternative
            tables, the one that fits the file is used.
        optional: prefixes of tensor names that may be missing; they are not exported.
        constants: integer tensors with fixed values, by name.
        origin: the registry file.
        overrides: as for :class:`Preset`.
    """

    name: str
    summary: str
    parts: Mapping[Kind, str]
    run: Mapping[str, Any]
    optional: tuple[str, ...]
    constants: Mapping[str, list[int]]
    origin: str
    overrides: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Entries of one or several registry layers, and the plugins that the user disabled.

    ``defaults`` has the component names that a run uses for kinds it does not name.
    """

    presets: dict[tuple[Kind, str], Preset] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    weights: dict[str, PublishedFile] = field(default_factory=dict)
    layouts: dict[str, PublishedLayout] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    disabled: tuple[str, ...] = ()

    def under(self, upper: Catalogue) -> Catalogue:
        """Merge two layers; entries of ``upper`` replace those of the same name, and record it."""
        lower = {section: getattr(self, section) for section in SECTIONS}
        merged = {
            section: {**entries, **_overriding(entries, getattr(upper, section))}
            for section, entries in lower.items()
        }
        return Catalogue(**merged, defaults=self.defaults | upper.defaults, disabled=upper.disabled)


SECTIONS = ("presets", "recipes", "weights", "layouts")
"""Fields of a :class:`Catalogue` with named entries."""


def _overriding(lower: Mapping[Any, Any], upper: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        key: replace(entry, overrides=lower[key].origin) if key in lower else entry
        for key, entry in upper.items()
    }


def shipped_registry() -> Path:
    """Path of the catalogue of esmgn: in the installed package, or at the top of a checkout."""
    core = Path(__file__).parents[1]
    installed = core / "registry.toml"
    return installed if installed.exists() else core.parent / "registry.toml"


def user_registry() -> Path:
    """Path of the user's catalogue; the file is optional unless ``ESMGN_REGISTRY`` names it."""
    if named := os.environ.get("ESMGN_REGISTRY"):
        return Path(named).expanduser()
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "esmgn" / "registry.toml"


def read_user_registry() -> Catalogue:
    """Read the user's layer; empty if the user has none.

    Raises:
        SettingsError: as :func:`read_registry`, or the file of ``ESMGN_REGISTRY`` is missing.
    """
    file = user_registry()
    if not file.exists() and not os.environ.get("ESMGN_REGISTRY"):
        return Catalogue()
    if not file.is_file():
        raise SettingsError(
            f"registry file not found: {file}",
            "the environment variable ESMGN_REGISTRY names it: unset it, or create the file",
        )
    return read_registry(file)


def read_registry(file: Path, problems: list[str] | None = None) -> Catalogue:
    """Read one layer.

    Args:
        file: the file.
        problems: gets the message about each wrong entry, which is left out, instead of an error.

    Raises:
        SettingsError: the file is not TOML, or an entry is wrong; the message names the key.
    """
    try:
        tables = parse_toml(read_text(file))
    except (OSError, ValueError) as error:  # TOMLDecodeError is a ValueError
        raise SettingsError(f"cannot read registry {file}: {error}") from error
    if tables.pop("schema", None) != SCHEMA:
        raise SettingsError(f"registry {file}: expected 'schema = {SCHEMA}' at the top")
    layer = Catalogue()
    disabled: tuple[str, ...] = ()
    with _collected(problems):
        layer.defaults.update(_defaults(tables.pop(DEFAULT, {}), file))
    with _collected(problems):
        disabled = _disabled(tables.pop(DISABLED, []), file)
    for section, entries in tables.items():
        with _collected(problems):
            _check_section(section, file)
            for name, entry in _table(entries, file, section).items():
                with _collected(problems):
                    _add(layer, section, name, entry, file)
    return replace(layer, disabled=disabled)


@contextmanager
def _collected(problems: list[str] | None) -> Iterator[None]:
    """Append the message of an error to ``problems``; without a list, raise it."""
    try:
        yield
    except SettingsError as error:
        if problems is None:
            raise
        problems.append(str(error))


def _check_section(section: str, file: Path) -> None:
    sections = [*Kind, RECIPE, WEIGHTS, LAYOUT, DEFAULT]
    if section not in sections:
        raise SettingsError(
            f"registry {file}: unknown section [{section}]",
            *did_you_mean(section, sections),
            f"sections: {', '.join(sections)}",
        )


def _add(layer: Catalogue, section: str, name: str, entry: object, file: Path) -> None:
    """Read an entry into a layer."""
    where = f"{section}.{name}"
    check_name(f"registry {file}: [{where}]", name)
    values = _table(entry, file, where)
    if section == RECIPE:
        layer.recipes[name] = _recipe(name, values, file, where)
    elif section == WEIGHTS:
        layer.weights[name] = _published_file(name, values, file, where)
    elif section == LAYOUT:
        layer.layouts[name] = _layout(name, values, file, where)
    else:
        layer.presets[Kind(section), name] = _preset(Kind(section), name, values, file, where)


def check_name(what: str, name: str) -> None:
    """Refuse a name that cannot be a flag's value, a table and a part of ``plugin:name``.

    Raises:
        SettingsError: it is not of small letters, digits and underscores, after a first letter.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{what}: the name '{name}' is not allowed",
            "names are small letters, digits and underscores, and begin with a letter",
        )


_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _defaults(value: object, file: Path) -> dict[str, str]:
    names = _table(value, file, DEFAULT)
    _check_keys(names, tuple(DEFAULT_KINDS), file, DEFAULT)
    return {key: _text(names, key, file, DEFAULT) for key in names}


def _disabled(names: object, file: Path) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SettingsError(f"registry {file}: 'disabled' must be a list of plugin names, got {shown(names)}")
    return tuple(names)


def _table(value: object, file: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"registry {file}: [{where}] must be a table, got {shown(value)}")
    return value


def _preset(kind: Kind, name: str, values: dict[str, Any], file: Path, where: str) -> Preset:
    _check_keys(values, _PRESET_KEYS, file, where)
    component = _text(values, "component", file, where)
    settings = dict(_table(values.get("settings", {}), file, f"{where}.settings"))
    _check_reserved(settings, file, where)
    if "checkpoint" in values:
        settings["checkpoint"] = _table(values["checkpoint"], file, f"{where}.checkpoint")
    return Preset(kind, name, component, _text(values, "summary", file, where), settings, str(file))


def _recipe(name: str, values: dict[str, Any], file: Path, where: str) -> Recipe:
    _check_keys(values, _RECIPE_KEYS, file, where)
    run = _table(values.get("run", {}), file, f"{where}.run")
    return Recipe(name, _text(values, "summary", file, where), run, str(file))


def _published_file(name: str, values: dict[str, Any], file: Path, where: str) -> PublishedFile:
    _check_keys(values, _FILE_KEYS, file, where)
    texts = {key: _text(values, key, file, where) for key in {*values, "url", "license", "layout", "summary"}}
    layout, summary = texts.pop("layout"), texts.pop("summary")
    return PublishedFile(name, layout, summary, texts, str(file))


def _layout(name: str, values: dict[str, Any], file: Path, where: str) -> PublishedLayout:
    _check_keys(values, _LAYOUT_KEYS, file, where)
    parts = _table(values.get("parts", {}), file, f"{where}.parts")
    _check_keys(parts, _LAYOUT_PARTS, file, f"{where}.parts")
    prefixes = {Kind(kind): _text(parts, kind, file, f"{where}.parts") for kind in parts}
    run = _table(values.get("run", {}), file, f"{where}.run")
    if not parts or not parts.keys() <= run.keys():
        raise SettingsError(
            f"registry {file}: [{where}] needs parts, and a table in run for each part",
            'such as: parts = { struct = "" }, run = { struct = "NAME" }',
        )
    optional = values.get("optional", [])
    if not isinstance(optional, list) or not all(isinstance(beginning, str) for beginning in optional):
        raise SettingsError(f"registry {file}: [{where}] optional must be a list of texts")
    constants = _table(values.get("constants", {}), file, f"{where}.constants")
    summary = _text(values, "summary", file, where)
    return PublishedLayout(name, summary, prefixes, run, tuple(optional), constants, str(file))


def _text(values: dict[str, Any], key: str, file: Path, where: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise SettingsError(f'registry {file}: [{where}] needs {key} = "..."')
    return value


def _check_keys(values: dict[str, Any], known: tuple[str, ...], file: Path, where: str) -> None:
    for key in values:
        if key not in known:
            raise SettingsError(
                f"registry {file}: unknown key '{key}' in [{where}]",
                *did_you_mean(key, known),
                f"keys: {', '.join(known)}",
            )


def _check_reserved(settings: dict[str, Any], file: Path, where: str) -> None:
    for key in ("name", "component"):
        if key in settings:
            raise SettingsError(f"registry {file}: '{key}' cannot be a setting ([{where}.settings])")
