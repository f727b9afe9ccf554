"""Test a component against the contract of its kind."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tomli_w
import torch
from pydantic import ValidationError

from esmgn_core.errors import PluginError
from esmgn_core.host.components import build_component
from esmgn_core.host.registry import discover
from esmgn_core.io import Format
from esmgn_core.settings import ComponentSettings, settings_class, validated
from esmgn_core.spec import ComponentSpec, Kind
from esmgn_core.testing.claims import Claims, Outcome, failure_text
from esmgn_core.testing.datasets import check_dataset
from esmgn_core.testing.downstream import check_downstream_task
from esmgn_core.testing.formats import check_format
from esmgn_core.testing.fusers import check_fuser, fuser_subject
from esmgn_core.testing.graphs import check_graph_builder, observed_graph
from esmgn_core.testing.names import check_names
from esmgn_core.testing.sequence import check_sequence_encoder, sequence_subject
from esmgn_core.testing.structure import check_structure_encoder, structure_subject
from esmgn_core.testing.tasks import check_pretext_task, observed_task
from esmgn_core.testing.trackers import check_tracker
from esmgn_core.testing.unused import Reads, check_settings_are_used

Build = Callable[..., Any]

_CHECKS: dict[Kind, Callable[[Claims, type, Build], None]] = {
    Kind.SEQ: check_sequence_encoder,
    Kind.STRUCT: check_structure_encoder,
    Kind.GRAPH: check_graph_builder,
    Kind.PRETEXT: check_pretext_task,
    Kind.DOWNSTREAM: check_downstream_task,
    Kind.DATA: check_dataset,
    Kind.TRACKER: check_tracker,
}
_OBSERVED = (Kind.SEQ, Kind.STRUCT, Kind.FUSE, Kind.GRAPH, Kind.PRETEXT)
"""Kinds whose components can be built with other settings than those of the author."""


def check_component(kind: Kind, name: str, /, **settings: Any) -> list[str]:
    """Test a registered component against the contract of its kind, on the CPU.

    Args:
        kind: kind of the component.
        name: name in ``esmgn list``; presets are not tested.
        **settings: settings instead of the defaults, such as a small width; of a format ``example``, the
            path of a file to read.

    Returns:
        One line for each claim that could not be judged, with the reason.

    Raises:
        AssertionError: naming the claim that failed.
        UnknownComponentError: no plugin in use declares the component.
        SettingsError: the component does not have such a setting.
    """
    __tracebackhide__ = True
    registry = discover()
    spec = registry.component(kind, name)
    plugin = next(plugin for candidate, plugin in registry.components(kind) if candidate == spec)
    claims = _claims(spec)
    imported_lazily(claims, plugin.module)
    _check(spec, registry.load(spec), settings, claims)
    return claims.not_judged


def check_class(kind: Kind, component: Any, /, **settings: Any) -> list[str]:
    """Test a class or a structure format that no plugin declares yet.

    Args:
        kind: kind of the component.
        component: the class, or the format.
        **settings: as for :func:`check_component`.

    Returns:
        One line for each claim that could not be judged, with the reason.

    Raises:
        AssertionError: naming the claim that failed.
    """
    __tracebackhide__ = True
    name = component.title if isinstance(component, Format) else component.__name__
    spec = ComponentSpec(kind, name, f"{component.__module__}:{name}", summary="")
    claims = _claims(spec)
    _check(spec, component, settings, claims)
    return claims.not_judged


def outcomes_of(spec: ComponentSpec, component: Any, settings: dict[str, Any]) -> list[Outcome]:
    """Outcomes of all claims about a component; nothing is raised.

    Args:
        spec: declaration of the component.
        component: its class, or the structure format.
        settings: settings instead of the defaults.
    """
    claims = Claims(_claims(spec).about, stop=False)
    try:
        _check(spec, component, settings, claims)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - of code between claims, such as a constructor
        claims.outcomes.append(
            Outcome(claims.about, _CONTRACT_CLAIM, "fail", failure_text(error, claims.about))
        )
    return claims.outcomes


_SETTINGS_CLAIM = "Settings have defaults and descriptions, are frozen, and refuse unknown names."
_TOML_CLAIM = "Settings do not change on the way through a run file."
_USED_CLAIM = "Every setting is used."
_CONTRACT_CLAIM = "It can be built, has the members of its kind and settings with defaults and descriptions."


def _claims(spec: ComponentSpec) -> Claims:
    return Claims(f"{spec.kind.long_name} '{spec.name}'")


def _check(spec: ComponentSpec, component: Any, values: dict[str, Any], claims: Claims) -> None:
    __tracebackhide__ = True
    if spec.kind is Kind.FORMAT:
        check_format(claims, component, **values)
        return
    try:
        model = settings_class(spec, component)
        claims.judge(_SETTINGS_CLAIM, lambda: _check_settings_class(claims, model))
        settings = validated(model, values, what=claims.about, see=f"esmgn show {spec.name}")
        claims.judge(_TOML_CLAIM, lambda: _settings_survive_toml(claims, settings))

        reads = Reads()

        def build(**context: Any) -> Any:
            instance = build_component(spec, component, reads.of(settings), **context)
            check_names(claims, spec.kind, instance)
            return instance

        def observe(other: ComponentSettings) -> dict[str, object]:
            return _observed(
                spec,
                component,
                lambda **context: build_component(spec, component, reads.of(other), **context),
            )

        with torch.random.fork_rng(devices=[]), _one_thread():
            if spec.kind is Kind.FUSE:
                check_fuser(claims, component, build, spec.encoders)
            else:
                _CHECKS[spec.kind](claims, component, build)
            changed = observe if spec.kind in _OBSERVED else None
            claims.judge(_USED_CLAIM, lambda: check_settings_are_used(claims, settings, reads, changed))
    except PluginError as error:
        raise AssertionError(str(error)) from error


def _observed(spec: ComponentSpec, component: type, build: Build) -> dict[str, object]:
    """Parameters and outputs of a component, by name."""
    claims = _claims(spec)
    if spec.kind is Kind.SEQ:
        return sequence_subject(claims, build).observed()
    if spec.kind is Kind.STRUCT:
        return structure_subject(claims, build).observed()
    if spec.kind is Kind.FUSE:
        return fuser_subject(claims, component, build, spec.encoders).observed()
    if spec.kind is Kind.GRAPH:
        return observed_graph(build)
    return observed_task(claims, build)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: for so few residues, threads cost more than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_settings_class(claims: Claims, model: type[ComponentSettings]) -> None:
    for name, field in model.model_fields.items():
        claims.require(not field.is_required(), f"setting '{name}' has no default")
        claims.require(bool(field.description), f"setting '{name}' has no description (a docstring below it)")
    claims.require(bool(model.model_config.get("frozen")), "its Settings are not frozen")
    claims.require(_refuses_unknown(model), "an unknown setting is not refused")


def _refuses_unknown(model: type[ComponentSettings]) -> bool:
    try:
        model.model_validate({"no_such_setting": 1})
    except ValidationError as error:
        return any(item["type"] == "extra_forbidden" for item in error.errors())
    return False


def _settings_survive_toml(claims: Claims, settings: ComponentSettings) -> None:
    """Settings do not change on the way through ``config.toml``, so that it repeats the run."""
    text = tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
    again = type(settings).model_validate(tomllib.loads(text))
    changed = [
        f"{name} from {value!r} to {getattr(again, name)!r}"
        for name, value in settings
        if value != getattr(again, name)
    ]
    claims.require(
        not changed,
        f"its settings change when they are written to a run file and read back: {', '.join(changed)}; "
        "a path has to be absolute",
    )


def imported_lazily(claims: Claims, module: str) -> None:
    """Declaring components does not import torch, which would slow down ``esmgn list``."""
    script = f"import sys, {module}; print('torch' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)  # noqa: S603
    claims.require(
        finished.returncode == 0, f"its plugin's module {module} cannot be imported:\n{finished.stderr}"
    )
    claims.require(not finished.stdout.endswith("True\n"), f"its plugin's module {module} imports torch")
