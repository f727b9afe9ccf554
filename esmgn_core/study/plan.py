"""The file of a study, and the cells it asks for.

A study varies components, presets, settings and seeds. Every combination is a cell: an ordinary run whose
folder is named by the hash of its resolved configuration. Cells of a later stage start from the encoder of
a cell of an earlier one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esmgn_core.errors import SettingsError, did_you_mean, shown
from esmgn_core.host.configure import ENGINE_TABLES, Tables, check_tables, configure
from esmgn_core.host.presets import RECIPE
from esmgn_core.host.registry import Registry
from esmgn_core.machine.parse import parse_toml
from esmgn_core.model.compose import resolve
from esmgn_core.model.encoder_folder import ENCODER_KINDS
from esmgn_core.settings import RunConfig
from esmgn_core.spec import PARTS, Kind
from esmgn_core.text import read_text

SCHEMA = 1
SEED = "seed"
"""Short name of the axis ``train.seed``."""
ROW = "row"
"""Label of the composition of a cell."""
NONE = "none"
"""In ``init`` of a stage: also start from no encoder."""
_KEYS = ("schema", "name", "summary", "run", "axes", "rows", "stages")
_STAGE_KEYS = ("name", "init", "recipe", "run", "axes")
_WITHOUT_EFFECT = (
    "trackers",
    "time_limit",
    "workers",
    "log_every",
    "checkpoint_every",
    "keep_every",
    "device",
)
"""Settings of ``[train]`` that do not change the result of a run."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One kind of run of a study.

    Attributes:
        name: name of the stage.
        init: stages whose encoders its runs start from; ``none`` for no encoder.
        recipe: recipe below its settings; empty for none.
        run: tables of a run file.
        axes: values of each axis that only this stage varies.
    """

    name: str
    init: tuple[str, ...]
    recipe: str
    run: Tables
    axes: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Composition:
    """Values of some keys, and their labels.

    Attributes:
        values: value of each key.
        labels: text of each value.
        stages: the only stages that have it; empty for all.
    """

    values: Mapping[str, Any]
    labels: Mapping[str, str]
    stages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One run of a study.

    Attributes:
        id: hash of the resolved configuration and of the cell it starts from.
        stage: name of the stage.
        labels: value of each axis, as text.
        config: the resolved configuration.
        parent: the cell whose encoder it starts from; ``None`` without one.
    """

    id: str
    stage: str
    labels: Mapping[str, str]
    config: RunConfig
    parent: Cell | None = None

    def __str__(self) -> str:
        return f"{self.stage} {self.id}: {', '.join(self.labels.values())}"

    def tables(self) -> dict[str, Any]:
        """The tables of its run file."""
        return self.config.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True, slots=True)
class Study:
    """The content of a study file.

    Attributes:
        name: name of the study.
        summary: one line about it.
        run: tables of a run file for all cells.
        axes: values of each axis that all stages vary.
        rows: compositions that are compared, with the label ``row``.
        stages: the kinds of run, in order.
        origin: path of the file, for messages.
    """

    name: str
    summary: str
    run: Tables
    axes: Mapping[str, Sequence[Any]]
    rows: Sequence[Composition]
    stages: Sequence[Stage]
    origin: str = ""

    @classmethod
    def read(cls, path: Path) -> Study:
        """Read a study file.

        Raises:
            SettingsError: the file is missing, is not TOML, or has a wrong entry; the message names it.
        """
        try:
            content = parse_toml(read_text(path))
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"cannot read study {path}: {error}", "write one: esmgn study new NAME -o STUDY.toml"
            ) from error
        return cls.of(content, origin=str(path), name=path.stem)

    @classmethod
    def of(cls, content: Mapping[str, Any], *, origin: str, name: str) -> Study:
        """The study with the content of a file.

        Raises:
            SettingsError: an entry is wrong.
        """
        _check_keys(content, _KEYS, origin)
        if content.get("schema", SCHEMA) != SCHEMA:
            raise SettingsError(f"{origin}: schema {shown(content['schema'])} is unknown, expected {SCHEMA}")
        stages = [
            _stage(item, f"{origin}, [[stages]] number {number}")
            for number, item in enumerate(_list(content, "stages", origin), 1)
        ]
        study = cls(
            str(content.get("name", name)),
            str(content.get("summary", "")),
            check_tables(_table(content, "run", origin), origin=f"{origin}, [run]"),
            _axes(_table(content, "axes", origin), f"{origin}, [axes]"),
            [row for item in _list(content, "rows", origin) for row in _rows(item, f"{origin}, [[rows]]")],
            stages or [Stage("run", (NONE,), "", {}, {})],
            origin,
        )
        study._check()
        return study

    def cells(self, registry: Registry) -> list[Cell]:
        """All cells, those of a stage after the cells they start from.

        Raises:
            EsmgnError: a name or setting is wrong; the message has the cell.
        """
        made: dict[str, list[tuple[Cell, Composition]]] = {}
        compositions = [*self._compositions()]
        for stage in self.stages:
            made[stage.name] = []
            for init in stage.init:
                starts: Sequence[tuple[Cell | None, Composition]] = made.get(init, [])
                if init == NONE:
                    starts = [(None, item) for item in compositions]
                starts = [
                    (parent, item) for parent, item in starts if stage.name in (item.stages or [stage.name])
                ]
                without = dict.fromkeys(self._axes_before(stage), NONE)
                for (parent, item), varied in itertools.product(starts, _products(stage.axes)):
                    labels = {**item.labels, **without, **(parent.labels if parent else {}), **varied.labels}
                    whole = Composition({**item.values, **varied.values}, labels)
                    made[stage.name].append((self._cell(registry, stage, whole, parent), item))
        cells = {cell.id: cell for pairs in made.values() for cell, _ in pairs}
        return list(cells.values())

    def _axes_before(self, stage: Stage) -> Iterator[str]:
        """Axes of the stages that a stage can start from, and of those before them."""
        for earlier in self.stages:
            if earlier.name in stage.init:
                yield from self._axes_before(earlier)
                yield from earlier.axes

    def _compositions(self) -> Iterator[Composition]:
        for row, varied in itertools.product(self.rows or [Composition({}, {})], _products(self.axes)):
            yield Composition({**row.values, **varied.values}, {**row.labels, **varied.labels}, row.stages)

    def _cell(
        self,
        registry: Registry,
        stage: Stage,
        chosen: Composition,
        parent: Cell | None,
    ) -> Cell:
        layers: dict[str, Tables] = {}
        if parent:
            whole = parent.tables()
            layers["the encoder it starts from"] = {
                name: whole[name] for name in (*ENCODER_KINDS, "inputs", "length") if name in whole
            }
        if name := chosen.values.get(RECIPE, stage.recipe):
            recipe = registry.recipe(name)
            layers[f"recipe '{name}'"] = check_tables(recipe.run, origin=recipe.origin)
        layers[f"{self.origin}, [run]"] = self.run
        layers[f"{self.origin}, run of stage '{stage.name}'"] = stage.run
        # The fuser first: encoders that it does not read are then dropped from lower layers.
        for key in sorted(chosen.values.keys() - {RECIPE}, key=lambda key: (key != Kind.FUSE, key)):
            layers[f"{self.origin}, {key}"] = tables_of(key, chosen.values[key], self.origin)
        where = f"stage '{stage.name}', {', '.join(chosen.labels.values())}"
        try:
            config = resolve(registry, configure(registry, [*layers.values()], [*layers])).resolved()
        except SettingsError as error:
            raise SettingsError(error.message, *error.hints, f"in the cell: {where}") from error
        return Cell(_digest(config, parent), stage.name, chosen.labels, config, parent)

    def _check(self) -> None:
        """Refuse stages that do not fit together."""
        names = [stage.name for stage in self.stages]
        for row in self.rows:
            for name in row.stages:
                if name not in names:
                    raise SettingsError(
                        f"{self.origin}: row '{row.labels[ROW]}' has an unknown stage '{name}'",
                        *did_you_mean(name, names),
                    )
        rows = [(row.labels[ROW], name) for row in self.rows for name in row.stages or names]
        if twice := [label for label, name in rows if rows.count((label, name)) > 1]:
            raise SettingsError(
                f"{self.origin}: two rows are called '{twice[0]}'", "give them labels: label = ..."
            )
        for number, stage in enumerate(self.stages):
            if names.index(stage.name) != number:
                raise SettingsError(f"{self.origin}: two stages are called '{stage.name}'")
            for init in stage.init:
                if init != NONE and init not in names[:number]:
                    raise SettingsError(
                        f"{self.origin}: stage '{stage.name}' starts from '{init}', not an earlier stage",
                        *did_you_mean(init, [*names[:number], NONE]),
                    )


def tables_of(key: str, value: Any, origin: str) -> Tables:
    """The tables of a run file that give ``key`` a value.

    Args:
        key: kind of component, ``TABLE.KEY``, ``seed``, or ``recipe``.
        value: name of a component or preset, table with ``name`` and settings, or value of the setting.
        origin: file, for messages.

    Raises:
        SettingsError: the key or the value does not have this form.

    >>> tables_of("seq", "esm2_8m", "")
    {'seq': {'name': 'esm2_8m'}}
    >>> tables_of("struct.hidden_dim", 64, "")
    {'struct': {'hidden_dim': 64}}
    """
    if key == RECIPE:
        return {}  # a layer below all others
    if key == SEED:
        key = "train.seed"
    table, *path = key.split(".")
    if table not in (*PARTS, *ENGINE_TABLES):
        known = [*PARTS, *ENGINE_TABLES, SEED, RECIPE]
        raise SettingsError(f"{origin}: unknown key '{key}'", *did_you_mean(key, known))
    if not path:
        return check_tables({table: value}, origin=f"{origin}, {key}")
    nested = value
    for part in reversed(path):
        nested = {part: nested}
    return check_tables({table: nested}, origin=f"{origin}, {key}")


def labels_of(values: Sequence[Any]) -> list[str]:
    """Texts for the values of an axis; settings of a component only if its name is not unique.

    >>> labels_of([{"name": "gearnet", "hidden_dim": 64}, "gvp"])
    ['gearnet', 'gvp']
    >>> labels_of([{"name": "gearnet", "hidden_dim": 64}, "gearnet"])
    ['gearnet hidden_dim=64', 'gearnet']
    """
    names = [str(value["name"]) if isinstance(value, Mapping) else _text(value) for value in values]
    return [
        " ".join([name, *_settings(value)]) if names.count(name) > 1 else name
        for name, value in zip(names, values, strict=True)
    ]


def _settings(value: Any) -> list[str]:
    if not isinstance(value, Mapping):
        return []
    return [f"{key}={_text(item)}" for key, item in value.items() if key != "name"]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _digest(config: RunConfig, parent: Cell | None) -> str:
    tables = config.model_dump(mode="json", exclude_none=True)
    tables.pop("tracker", None)
    tables["train"] = {key: value for key, value in tables["train"].items() if key not in _WITHOUT_EFFECT}
    text = json.dumps([SCHEMA, tables, parent.id if parent else None], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _products(axes: Mapping[str, Sequence[Any]]) -> Iterator[Composition]:
    """Every combination of one value of each axis."""
    pairs = [[*zip(values, labels_of(values), strict=True)] for values in axes.values()]
    for combination in itertools.product(*pairs):
        values, labels = ([pair[place] for pair in combination] for place in (0, 1))
        yield Composition(dict(zip(axes, values, strict=True)), dict(zip(axes, labels, strict=True)))


def _stage(item: Any, where: str) -> Stage:
    if not isinstance(item, Mapping):
        raise SettingsError(f"{where}: expected a table, got {shown(item)}")
    _check_keys(item, _STAGE_KEYS, where)
    if not isinstance(item.get("name"), str) or not item["name"]:
        raise SettingsError(f"{where}: a stage needs a name")
    init = item.get("init", NONE)
    return Stage(
        item["name"],
        tuple(init) if isinstance(init, list) else (str(init),),
        str(item.get("recipe", "")),
        check_tables(_table(item, "run", where), origin=f"{where}, run"),
        _axes(_table(item, "axes", where), f"{where}, axes"),
    )


def _rows(item: Any, where: str) -> Iterator[Composition]:
    """The compositions of one entry of ``[[rows]]``: the product of its lists."""
    if not isinstance(item, Mapping):
        raise SettingsError(f"{where}: expected a table, got {shown(item)}")
    values = _flattened({key: value for key, value in item.items() if key not in ("label", "stages")})
    for found in _products(
        _axes({key: v if isinstance(v, list) else [v] for key, v in values.items()}, where)
    ):
        label = _filled(str(item.get("label", " ".join(found.labels.values()))), found.labels, where)
        yield Composition(found.values, {ROW: label}, tuple(item.get("stages", ())))


def _filled(label: str, labels: Mapping[str, str], where: str) -> str:
    """The label with the text of each ``{key}``."""

    def text(match: re.Match[str]) -> str:
        if match[1] not in labels:
            raise SettingsError(f"{where}: label {shown(label)} has {match[0]}", f"keys: {', '.join(labels)}")
        return labels[match[1]]

    return re.sub(r"\{([^{}]*)\}", text, label)


def _axes(table: Mapping[str, Any], where: str) -> dict[str, list[Any]]:
    axes = _flattened(table)
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise SettingsError(f"{where}: {key} must be a list of values, got {shown(values)}")
        for value in values:
            tables_of(key, value, where)
    return axes


def _flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Entries by dotted key; a component with a ``name`` and settings stays a table."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and "name" not in value:
            found |= _flattened(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _table(content: Mapping[str, Any], key: str, origin: str) -> Mapping[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, Mapping):
        raise SettingsError(f"{origin}: [{key}] must be a table, got {shown(value)}")
    return value


def _list(content: Mapping[str, Any], key: str, origin: str) -> list[Any]:
    value = content.get(key, [])
    if not isinstance(value, list):
        raise SettingsError(f"{origin}: [[{key}]] must be a list of tables, got {shown(value)}")
    return value


def _check_keys(content: Mapping[str, Any], known: Sequence[str], origin: str) -> None:
    for key in content:
        if key not in known:
            raise SettingsError(
                f"{origin}: unknown entry '{key}'", *did_you_mean(key, known), f"entries: {', '.join(known)}"
            )
