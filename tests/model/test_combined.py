"""Pretext tasks trained together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from esmgn_core.draws import SeededDraws
from esmgn_core.engine.distributed import World
from esmgn_core.engine.step import MetricAverager
from esmgn_core.errors import EsmgnError, SettingsError, UnknownComponentError
from esmgn_core.graph import View
from esmgn_core.host.configure import Tables, check_tables, configure, parse_assignments
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.settings import RunConfig
from esmgn_core.spec import Kind
from esmgn_core.testing import check_class, example_batch
from esmgn_core.testing.claims import differences, snapshot
from esmgn_core.testing.examples import ExampleGraph
from esmgn_core.testing.tasks import encode, example_encoder

BOTH = "residue_type+distance"
pytestmark = pytest.mark.usefixtures("clean_environment")


def configured(*layers: Tables) -> RunConfig:
    return configure(discover(), [{"data": {"name": "sample"}, "seq": {"name": "onehot"}}, *layers])


def task(name: str, *assignments: str) -> Any:
    """A task with fixed weights of its heads."""
    config = configured({"pretext": {"name": name}}, parse_assignments(assignments))
    torch.manual_seed(0)
    built = resolve(discover(), config).task(example_encoder().output_dim)
    with torch.no_grad():
        for parameter in built.parameters():  # type: ignore[attr-defined]  # a member of the class that the test builds
            parameter.copy_(torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter))
    return built


def views(subject: Any, name: str = "") -> tuple[View, ...]:
    batch = example_batch()
    made: tuple[View, ...] = subject.views(batch, ExampleGraph(), SeededDraws(1, 2, range(len(batch)), name))
    return made


def test_a_combination_keeps_the_contract_of_a_pretext_task() -> None:
    registry = discover()
    check_class(Kind.PRETEXT, registry.load(registry.component(Kind.PRETEXT, BOTH)))


def test_a_parts_views_do_not_depend_on_the_parts_beside_it() -> None:
    """Alone on its stream, first, second: bit-identical views."""
    alone = snapshot(views(task("distance"), "distance"))
    for name in (BOTH, "distance+residue_type"):
        own = tuple(view for view in views(task(name)) if view.part == "distance")
        assert set(differences(alone, snapshot(own))) == {"0.part"}


def test_parts_draw_independently() -> None:
    """Two streams of one protein share no number, nor do they with the step's own."""
    draws = SeededDraws(1, 2, [3])
    count = torch.tensor([4])
    streams = [draws.stream("a"), draws.stream("b"), draws.stream("a").stream("b"), draws]
    first, second, again, own = (stream.uniform(count) for stream in streams)
    assert torch.equal(second, again)
    assert len(torch.cat([first, second, own]).unique()) == 12


def test_the_loss_is_the_weighted_sum_of_the_parts_losses() -> None:
    subject = task(BOTH, "pretext.weights.residue_type=0.5", "pretext.weights.distance=0.01")
    own = views(subject)
    output = subject.loss(own, encode(example_encoder(), own))
    expected = torch.zeros(())
    for name, weight in (("residue_type", 0.5), ("distance", 0.01)):
        part = views(task(name), name)
        single = task(name).loss(part, encode(example_encoder(), part))
        assert torch.equal(output.parts[name].output.loss, single.loss)
        assert output.parts[name].output.num_samples == single.num_samples
        expected = expected + weight * single.loss
    torch.testing.assert_close(output.loss, expected)


def test_means_of_parts_run_over_their_own_predictions() -> None:
    """Two batches whose parts differ in the number of predictions give the means of all predictions."""
    subject = task(BOTH, "pretext.weights.distance=0.1")
    means, sums = MetricAverager(), {"residue_type": [0.0, 0], "distance": [0.0, 0]}
    for step in range(2):
        batch = example_batch() if step else example_batch().select(example_batch().protein_index != 2)
        made = subject.views(batch, ExampleGraph(), SeededDraws(1, step, range(len(batch))))
        output = subject.loss(made, encode(example_encoder(), made))
        means.add(output)
        for name, part in output.parts.items():
            sums[name][0] += float(part.output.loss.detach().double()) * part.output.num_samples
            sums[name][1] += part.output.num_samples
    values, totals = means.over(World(torch.device("cpu")), like=means)
    expected = {name: total / count for name, (total, count) in sums.items()}
    assert values["residue_type.loss"] == pytest.approx(expected["residue_type"])
    assert values["distance.loss"] == pytest.approx(expected["distance"])
    assert values["loss"] == pytest.approx(expected["residue_type"] + 0.1 * expected["distance"])
    assert list(values) == [
        "loss",
        "residue_type.loss",
        "residue_type.accuracy",
        "distance.loss",
        "distance.mean_absolute_error",
    ]
    assert totals["num_samples"] == 10


def test_the_resolved_run_file_gives_the_same_run_again() -> None:
    config = configured(
        {"pretext": {"name": BOTH}},
        parse_assignments(["pretext.distance.num_samples=3", "pretext.weights.distance=2"]),
    )
    resolved = resolve(discover(), config).resolved()
    table = resolved.pretext.model_dump()
    assert table["weights"] == {"residue_type": 1.0, "distance": 2.0}
    assert table["distance"]["num_samples"] == 3
    assert table["residue_type"]["mask_rate"] == 0.15
    tables = check_tables(resolved.model_dump(mode="json", exclude_none=True), origin="config.toml")
    assert resolve(discover(), configure(discover(), [tables])).resolved() == resolved


def test_naming_a_combination_drops_what_was_set_for_one_task() -> None:
    config = configured({"pretext": {"name": "distance", "num_samples": 3}}, {"pretext": {"name": BOTH}})
    assert resolve(discover(), config).resolved().pretext.model_dump()["distance"]["num_samples"] == 256


def message(*layers: Tables) -> str:
    with pytest.raises(EsmgnError) as caught:
        resolve(discover(), configured(*layers))
    assert isinstance(caught.value, SettingsError | UnknownComponentError)
    return str(caught.value)


def test_an_unknown_part_is_named_with_the_combination() -> None:
    assert message({"pretext": {"name": "residue_type+distanse"}}).startswith(
        "unknown pretext task 'distanse' (--pretext, in 'residue_type+distanse')\n  did you mean: distance?\n"
    )


def test_a_task_cannot_be_named_twice() -> None:
    assert message({"pretext": {"name": "distance+distance"}}).startswith(
        "pretext task 'distance' is named twice (--pretext, in 'distance+distance')"
    )


def test_a_wrong_setting_is_named_with_its_part() -> None:
    changes = ["pretext.distance.num_samples=0", "pretext.weights.distance=-1", "pretext.mask_rate=0.2"]
    assert message({"pretext": {"name": BOTH}}, parse_assignments(changes)) == (
        "invalid settings for pretext 'residue_type+distance'\n"
        "  weights.distance      expected a number > 0.0, got -1\n"
        "  distance.num_samples  expected a number >= 1, got 0\n"
        "  mask_rate             unknown setting, did you mean: residue_type.mask_rate?\n"
        "  see: esmgn show residue_type+distance"
    )
