"""CDConv against a plain version of its formulas, one point and one edge at a time, in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from esmgn_cdconv.encoder import CDConv


def unit(vector: Tensor) -> Tensor:
    return vector / max(float(vector.norm()), 1e-12)


def plain_frames(places: list[Tensor]) -> list[Tensor]:
    last = len(places) - 1
    if last < 2:
        return [places[0].new_zeros(3, 3) for _ in places]
    frames = {}
    for i in range(1, last):
        before, after = unit(places[i] - places[i - 1]), unit(places[i + 1] - places[i])
        b, n = unit(before - after), unit(torch.linalg.cross(before, after))
        frames[i] = torch.stack([b, n, unit(torch.linalg.cross(b, n))])
    frames[0], frames[last] = frames[1], frames[last - 1]
    return [frames[i] for i in range(last + 1)]


def plain_activated(norm, rows: Tensor) -> Tensor:
    """Batch normalisation by the running statistics, then LeakyReLU 0.1."""
    rows = (rows - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
    return torch.where(rows > 0, rows, 0.1 * rows)


def plain_message(p, level: dict, j: int, i: int, sent: Tensor, settings: CDConv.Settings) -> Tensor:
    """The message of j to i, [K, w]."""
    most = (settings.num_offsets - 1) // 2
    vector = level["places"][j] - level["places"][i]
    distance = float(vector.norm())
    mine, other = level["frames"][i], level["frames"][j]
    seen = [float(axis @ unit(vector)) for axis in mine]
    alike = [float(one @ two) for one, two in zip(mine, other, strict=True)]
    offset = max(-most, min(most, level["numbers"][j] - level["numbers"][i]))
    smoothing = 0.5 - 0.5 * math.tanh(16 * distance / level["radius"] * abs(offset) / most - 14)
    geometry = torch.tensor([*seen, *alike, distance], dtype=torch.float64)
    kernel = geometry @ p.kernel_weight[offset + most] + p.kernel_bias[offset + most]
    kernel = torch.where(kernel > 0, kernel, 0.2 * kernel) * smoothing
    return kernel[:, None] * sent[None, :]


def plain_conv(p, level: dict, rows: Tensor, settings: CDConv.Settings) -> Tensor:
    updated = []
    for i, place in enumerate(level["places"]):
        near = [
            j for j, other in enumerate(level["places"]) if i == j or (place - other).norm() < level["radius"]
        ]
        total = sum(plain_message(p, level, j, i, rows[j], settings) for j in near)
        updated.append(p.linear.weight @ total.reshape(-1))
    return torch.stack(updated)


def plain_block(p, level: dict, rows: Tensor, settings: CDConv.Settings) -> Tensor:
    short = rows
    if len(p.short_cut):
        short = linear(plain_activated(p.short_cut[0], rows), p.short_cut[3].weight)
    inner = linear(plain_activated(p.before[0], rows), p.before[3].weight)
    inner = plain_conv(p.conv, level, plain_activated(p.before[4], inner), settings)
    return short + linear(plain_activated(p.after[0], inner), p.after[3].weight)


def plain_halved(level: dict, rows: Tensor) -> tuple[dict, Tensor]:
    groups = [range(i, min(i + 2, len(rows))) for i in range(0, len(rows), 2)]

    def mean(values) -> list[Tensor]:
        return [sum(values[i] for i in group) / len(group) for group in groups]

    return {
        "places": mean(level["places"]),
        "frames": [torch.stack([unit(axis) for axis in frame]) for frame in mean(level["frames"])],
        "numbers": [math.floor(level["numbers"][group[0]] / 2) for group in groups],
    }, torch.stack(mean(rows))


def plain_cdconv(model: CDConv, ca: Tensor, numbers: list[int], features: Tensor) -> Tensor:
    """Representation of one protein; ``model`` in float64 only holds the parameters."""
    level = {"places": list(ca), "frames": plain_frames(list(ca)), "numbers": numbers}
    rows = linear(features, model.embedding.weight)
    for number, radius in enumerate(model.settings.radii):
        if number:
            level, rows = plain_halved(level, rows)
        level["radius"] = radius
        rows = plain_block(model.first_blocks[number], level, rows, model.settings)
        rows = plain_block(model.second_blocks[number], level, rows, model.settings)
    return rows.mean(0)


@pytest.mark.parametrize("name", ["single", "pair", "two_chains", "predicted", "long"])
def test_equals_the_plain_formula(make_model, encode, pack, difference, name):
    """Odd and even lengths, two chains, numbers below zero, a gap."""
    model, batch = make_model(), pack(name)
    batch = batch.select(torch.arange(batch.num_residues) < 47)
    features = torch.randn(batch.num_residues, 21)
    with torch.no_grad():
        found = encode(model, batch, features).protein[0]
        expected = plain_cdconv(
            copy.deepcopy(model).double(), batch.ca.double(), batch.residue_index.tolist(), features.double()
        )
    assert difference(found, expected) < 1e-5


def test_gradients_equal_those_of_the_plain_formula(make_model, encode, pack):
    model, batch = make_model(), pack("long")
    batch = batch.select(torch.arange(batch.num_residues) > 92)
    features = torch.randn(batch.num_residues, 21, requires_grad=True)
    other, double = features.detach().double().requires_grad_(), copy.deepcopy(model).double()
    weight = torch.randn(64, dtype=torch.float64)
    (encode(model, batch, features).protein[0] * weight).sum().backward()
    expected = plain_cdconv(double, batch.ca.double(), batch.residue_index.tolist(), other)
    (expected * weight).sum().backward()
    largest = max(float(parameter.grad.abs().max()) for parameter in double.parameters())
    for (name, found), parameter in zip(model.named_parameters(), double.parameters(), strict=True):
        assert float((found.grad - parameter.grad).abs().max()) < 1e-5 * largest, name
        assert float(found.grad.abs().max()) > 1e-7 * largest, f"{name} has no gradient"
    assert float((features.grad - other.grad).abs().max()) < 1e-5 * float(other.grad.abs().max())
