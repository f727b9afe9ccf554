"""Check a whole plugin: its declaration, its components, and a short run with each."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from esmgn_core.engine.session import resume_run, start_run
from esmgn_core.errors import EsmgnError, PluginError, SettingsError, UnknownComponentError, did_you_mean
from esmgn_core.host.configure import Tables, check_tables, configure, merge_tables
from esmgn_core.host.names import SEPARATOR
from esmgn_core.host.plugins import ENTRY_POINT_GROUP, Plugin
from esmgn_core.host.registry import Registry, discover
from esmgn_core.host.registry_file import problems_of
from esmgn_core.model.compose import resolve
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.model.sizes import size_of
from esmgn_core.spec import ComponentSpec, Kind
from esmgn_core.testing.check import outcomes_of
from esmgn_core.testing.claims import Outcome, Status, failure_text
from esmgn_core.testing.examples import example_batch

RECIPE = "quickstart"
"""The recipe that a component is put into for its short run."""
_LARGEST = 200e6
"""Parameters of a component, above which it is not tested with its defaults."""
_IN_RUNS = (Kind.SEQ, Kind.STRUCT, Kind.FUSE, Kind.GRAPH, Kind.PRETEXT, Kind.DATA, Kind.TRACKER)
_EMBEDS = (Kind.SEQ, Kind.STRUCT, Kind.FUSE, Kind.GRAPH)


def check_plugin(name: str, /, **settings: Any) -> None:
    """Test a plugin: its declaration, every component, and a short run with each.

    Args:
        name: name of the plugin or of its package, or one component as ``kind:name``.
        **settings: settings of its components, instead of the defaults.

    Raises:
        AssertionError: listing everything that failed.
        UnknownComponentError: no such plugin is installed.
    """
    __tracebackhide__ = True
    if lines := failure_lines(plugin_outcomes(name, settings)):
        raise AssertionError(lines)


def failure_lines(outcomes: Iterable[Outcome]) -> str:
    """Two lines for each claim that failed: the message and the claim."""
    failed = [item for item in outcomes if item.status == "fail"]
    return "\n".join(f"{item.about}: {item.message}\n  claim: {item.claim}" for item in failed)


def plugin_outcomes(name: str, settings: Mapping[str, Any] | None = None) -> Iterator[Outcome]:
    """Outcomes of all claims about a plugin, as they are found; none ends the check.

    Args:
        name: as for :func:`check_plugin`.
        settings: as for :func:`check_plugin`.

    Raises:
        UnknownComponentError: no such plugin is installed.
    """
    registry = discover()
    plugin, specs = _named(registry, name)
    yield from _declaration(registry, plugin)
    for spec in specs:
        yield from _component(registry, spec, dict(settings or {}))


def plugin_of(folder: Path) -> str:
    """The name of the plugin that a project folder declares.

    Raises:
        PluginError: the folder has no ``pyproject.toml`` with an entry point in the group ``esmgn``.
    """
    file = folder / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        [name] = project["entry-points"][ENTRY_POINT_GROUP]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PluginError(
            f"{file} has no entry point in the group '{ENTRY_POINT_GROUP}'",
            'such as: entry-points.esmgn.rings = "esmgn_rings"',
        ) from error
    if name not in [plugin.name for plugin in discover().plugins]:
        raise PluginError(f"the plugin '{name}' is not installed", f'install it: pip install -e "{folder}"')
    return str(name)


def _named(registry: Registry, name: str) -> tuple[Plugin, list[ComponentSpec]]:
    """The plugin, and the components to check."""
    kind, _, rest = name.partition(SEPARATOR)
    if kind in [*Kind] and rest:
        spec = registry.component(Kind(kind), rest, where="plugin check")
        return next(plugin for found, plugin in registry.components(spec.kind) if found == spec), [spec]
    for plugin in registry.plugins:
        if name in (plugin.name, plugin.distribution):
            return plugin, list(plugin.components)
    known = [text for plugin in registry.plugins for text in (plugin.name, plugin.distribution)]
    raise UnknownComponentError(
        f"no plugin or package is called '{name}'", *did_you_mean(name, known), "see: esmgn plugins"
    )


def _declaration(registry: Registry, plugin: Plugin) -> Iterator[Outcome]:
    """Claims about the entry point, the hooks and the registry of a plugin."""

    def outcome(claim: str, problem: str = "", status: Status = "fail") -> Outcome:
        return Outcome(f"plugin '{plugin.name}'", claim, status if problem else "pass", problem)

    yield outcome("It is in use.", plugin.problem)
    if plugin.problem:
        return
    yield outcome("Functions named like hooks are marked.", "; ".join(plugin.notes))
    yield outcome("Its module is imported without torch.", _import_problem(plugin.module))
    stated = plugin.owner.is_shipped or plugin.made_for
    hint = "state it in pyproject.toml, such as dependencies = ['esmgn>=0.1,<0.3']"
    yield outcome("It states the versions of esmgn it was made for.", "" if stated else hint, "not judged")
    shared = [text.partition("\n")[0] for text in registry.warnings if str(plugin.owner) in text]
    yield outcome("Its names are its own.", "; ".join(shared))
    silent = [spec.name for spec in plugin.components if not spec.summary.strip()]
    yield outcome("Every component has a summary.", f"without a summary: {', '.join(silent)}" * bool(silent))
    yield outcome("Its registry is valid.", "; ".join(problems_of(plugin.own_catalogue, registry)))


def _import_problem(module: str) -> str:
    script = (
        f"import sys, time; start = time.perf_counter(); import {module}; "
        "print('torch' in sys.modules, round(1000 * (time.perf_counter() - start)))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    imports_torch, milliseconds = done.stdout.split()[-2:]
    return f"{module} imports torch: {milliseconds} ms in every command" if imports_torch == "True" else ""


def _component(registry: Registry, spec: ComponentSpec, values: dict[str, Any]) -> Iterator[Outcome]:
    about = f"{spec.kind.long_name} '{spec.name}'"
    if spec.install_command:
        yield Outcome(about, "Its requirements are installed.", "not judged", spec.install_command)
        return
    try:
        component = registry.load(spec)
    except EsmgnError as error:
        yield Outcome(about, "Its class can be loaded.", "fail", str(error))
        return
    size = _parameters(spec, component, values)
    if size > _LARGEST:
        reason = f"{size / 1e6:,.0f} million parameters: choose smaller settings, --set KEY=VALUE"
        yield Outcome(about, "It keeps the contract of its kind.", "not judged", reason)
        return
    yield from outcomes_of(spec, component, values)
    if spec.kind in _IN_RUNS:
        yield from _short_run(registry, spec, values)


def _parameters(spec: ComponentSpec, component: Any, values: dict[str, Any]) -> int:
    """Number of parameters; 0 if it cannot be built on the meta device."""
    if spec.kind not in (Kind.SEQ, Kind.STRUCT, Kind.FUSE):
        return 0
    try:
        return size_of(spec, component, values).parameters
    except (Exception, SystemExit):  # noqa: BLE001 - a component may raise anything; the claims report it
        return 0


def _short_run(registry: Registry, spec: ComponentSpec, values: dict[str, Any]) -> Iterator[Outcome]:
    """Two steps of training, a resume, and an embedding, with the component in the recipe."""
    about = f"{spec.kind.long_name} '{spec.name}'"

    def outcome(claim: str, call: Callable[[], object]) -> Outcome:
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                call()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a component may raise anything
            return Outcome(about, claim, "fail", failure_text(error, about))
        return Outcome(about, claim, "pass")

    with tempfile.TemporaryDirectory(prefix="esmgn-") as temporary:
        run = Path(temporary) / "run"

        def train() -> None:
            start_run(registry, configure(registry, [_tables(registry, spec, values)]), out=run)

        def embed() -> None:
            folder = EncoderFolder(run)
            blueprint = resolve(registry, folder.run_config(registry))
            encoder, batch = blueprint.encoder(), example_batch()
            folder.fill(encoder, registry)
            with torch.inference_mode():
                encoding = encoder.eval()(batch, blueprint.graph()(batch))
            if not bool(encoding.residue.isfinite().all()):
                raise SettingsError("the embedding of a run has values that are not finite")

        first = outcome("A run takes two steps.", train)
        yield first
        if first.status == "fail":
            return
        steps: Tables = {"train": {"max_steps": 3}}
        yield outcome("The run can be resumed.", lambda: resume_run(registry, run, changes=steps))
        if spec.kind in _EMBEDS:
            yield outcome("The run embeds a protein.", embed)


def _tables(registry: Registry, spec: ComponentSpec, values: dict[str, Any]) -> dict[str, Any]:
    """The recipe with the component, for two steps on the CPU."""
    recipe = registry.recipe(RECIPE)
    tables = dict(check_tables(recipe.run, origin=recipe.origin))
    train: dict[str, Any] = {"max_steps": 2, "proteins_per_batch": 4, "device": "cpu", "trackers": []}
    if spec.kind is Kind.TRACKER:
        train["trackers"] = [spec.name]
        tables["tracker"] = {spec.name: values}
    else:
        tables[spec.kind.value] = {"name": spec.name, **values}
    if spec.kind is Kind.FUSE:
        for kind in {Kind.SEQ, Kind.STRUCT} - {*spec.encoders}:
            tables.pop(kind.value, None)
    return merge_tables(tables, {"train": train})
