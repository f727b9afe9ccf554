"""Published files are imported and exported bit for bit."""

from __future__ import annotations

import errno
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from esm.model.esm2 import ESM2 as FairESM2  # noqa: N811 - fair-esm's name is ours too
from esm.pretrained import load_model_and_alphabet_core
from safetensors.torch import load_file
from torch import Tensor

from esmgn_core.errors import EsmgnError, RunError, WeightsError, WriteError
from esmgn_core.host.configure import configure
from esmgn_core.host.presets import PublishedLayout
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.model.joint import JointEncoder
from esmgn_core.published.convert import EXTRAS, export_folder, import_file
from esmgn_core.published.layouts import PublishedModel, choices, encoder_blueprint
from esmgn_core.published.read import detect, read_published
from esmgn_core.spec import Kind

from ..parity.conftest import FROM_OURS, Recorded, batch_of, graph_of, relative_error

FIXTURES = Path(__file__).parents[1] / "fixtures"
ESM2_650M = {"num_layers": 33, "embed_dim": 1280, "attention_heads": 20}
TINY = {"num_layers": 2, "embed_dim": 16, "attention_heads": 4}
KEYS = ("num_layers", "embed_dim", "attention_heads", "hidden_dim", "cross_dim")


def layout(name: str) -> PublishedLayout:
    return discover().catalogue.layouts[name]


def model(name: str, fusion: str = "", **sizes: dict[str, int]) -> PublishedModel:
    """The model of a layout with these settings; ``fusion`` chooses among the fusions."""
    chosen = [tables for tables in choices(layout(name)) if not fusion or tables["fuse"]["name"] == fusion]
    tables = {kind: {**table, **sizes.get(kind, {})} for kind, table in chosen[0].items()}
    blueprint = encoder_blueprint(discover(), configure(discover(), [tables]))
    return PublishedModel.build(layout(name), tables, blueprint)


def gearnet(num_layers: int, hidden_dim: int) -> dict[str, int]:
    return {"num_layers": num_layers, "hidden_dim": hidden_dim}


def esm2(num_layers: int, embed_dim: int, attention_heads: int) -> dict[str, int]:
    return {"num_layers": num_layers, "embed_dim": embed_dim, "attention_heads": attention_heads}


def fused(fuse: str, seq: dict[str, int] = ESM2_650M, hidden_dim: int = 512, **fuser: int) -> PublishedModel:
    return model("esm_gearnet", fuse, seq=seq, struct=gearnet(6, hidden_dim), fuse=fuser)


def sizes(model: PublishedModel) -> dict[str, dict[str, int]]:
    """The settings that a file has to show."""
    found = {kind: {key: table[key] for key in KEYS if key in table} for kind, table in model.tables.items()}
    return {kind: table for kind, table in found.items() if table}


def made(model: PublishedModel) -> dict[str, Tensor]:
    """A state dict with exactly the tensors of a model, of random values."""
    torch.manual_seed(0)
    state = {}
    for name, tensor in model.expected().items():
        numbers = torch.rand(tensor.shape) if tensor.is_floating_point() else torch.tensor(7)
        state[name] = numbers.to(tensor.dtype) if tensor.is_meta else tensor
    for name in state:
        if name.endswith("lm_head.weight"):
            state[name] = state[name.replace("lm_head", "embed_tokens")]
    return state


def saved(path: Path, state: dict[str, Any]) -> Path:
    torch.save(state, path)
    return path


def recorded_state(case: str) -> dict[str, Tensor]:
    return load_file(FIXTURES / "fusion" / f"fusion_{case}.state.safetensors")


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert ours[name].shape == tensor.shape, name
        assert torch.equal(ours[name], tensor), name


def built(folder: Path, **changes: dict[str, Any]) -> JointEncoder:
    """The encoder that a run from this folder starts with."""
    source = EncoderFolder(folder)
    config = configure(discover(), [source.tables(), changes])
    encoder = resolve(discover(), config).encoder()
    source.fill(encoder, discover())
    return encoder.eval()


# What the files hold


@pytest.mark.parametrize(
    ("make", "num_tensors", "num_parameters"),
    [
        (lambda: fused("serial"), 657, 666_790_326),
        (lambda: fused("parallel"), 657, 661_633_462),
        (lambda: fused("cross"), 671, 665_701_302),
        (lambda: model("gearnet", struct=gearnet(6, 512)), 84, 10_590_208),
        (lambda: model("gearnet_edge", struct=gearnet(6, 512)), 84 + 6 * 9, 20_145_635),
        (lambda: model("fair_esm", seq=esm2(6, 320, 20)), 113, 7_512_474),
        (lambda: model("fair_esm", seq=esm2(12, 480, 20)), 215, 33_501_394),
        (lambda: model("fair_esm", seq=esm2(30, 640, 20)), 521, 148_140_154),
        (lambda: model("fair_esm", seq=ESM2_650M), 572, 651_043_254),
        (lambda: model("fair_esm", seq=esm2(36, 2560, 40)), 623, 2_839_005_634),
        (lambda: model("fair_esm", seq=esm2(48, 5120, 40)), 827, 15_129_100_194),
    ],
)
def test_tensors_and_parameters_are_counted_as_in_the_spec(
    make: Callable[[], PublishedModel], num_tensors: int, num_parameters: int
) -> None:
    found = make()
    assert len(found.expected()) == num_tensors
    assert found.num_parameters(found.expected()) == num_parameters


@pytest.mark.parametrize(
    ("case", "fuse"), [("series", "serial"), ("parallel", "parallel"), ("cross", "cross")]
)
def test_the_rule_gives_the_names_and_shapes_the_original_saved(case: str, fuse: str) -> None:
    state = recorded_state(case)
    found = read_published(discover(), FIXTURES / "fusion" / f"fusion_{case}.state.safetensors").model
    assert found.layout.name == "esm_gearnet"
    assert found.tables["fuse"]["name"] == fuse
    expected_sizes = {"seq": TINY, "struct": gearnet(2, 16), "fuse": {"cross_dim": 32}}
    assert sizes(found) == {kind: expected_sizes[kind] for kind in sizes(found)}
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in found.expected().items()} == expected


def test_the_rule_gives_the_names_and_shapes_of_gearnet_edge() -> None:
    state = load_file(FIXTURES / "gearnet" / "gearnet_edge.state.safetensors")
    expected = {name: tensor.shape for name, tensor in state.items()}
    found = model("gearnet_edge", struct=gearnet(3, 32)).expected()
    assert {name: tensor.shape for name, tensor in found.items()} == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: fused("serial"),
        lambda: fused("parallel"),
        lambda: fused("cross", cross_dim=64),
        lambda: model("gearnet_edge", struct=gearnet(5, 96)),
        lambda: model("gearnet", struct=gearnet(1, 24)),
        lambda: model("fair_esm", seq=esm2(5, 24, 3)),
    ],
    ids=["serial", "parallel", "cross", "gearnet_edge", "gearnet", "fair_esm"],
)
def test_layout_and_sizes_are_read_off_names_and_shapes(make: Callable[[], PublishedModel]) -> None:
    original = make()
    found = detect(discover(), Path("file.pt"), original.expected())
    assert found[0].layout == original.layout
    assert sizes(found[0]) == sizes(original)
    assert found[0].differences(original.expected()) == []


def test_the_official_tensors_are_those_of_the_full_encoder() -> None:
    """By name and shape, on the meta device: 650M parameters take no memory."""
    published = fused("serial")
    state = {name: tensor.to("meta") for name, tensor in published.expected().items()}
    for name in [name for name in state if "lm_head.weight" in name]:
        del state[name]  # compared with the embedding, which needs values
    ours, unused = published.to_ours(state)
    assert {name.split(".")[0] for name in ours} == {"sequence", "structure"}
    assert len(ours) + len(unused) + len(published.layout.constants) == 656
    structure = published.modules[Kind.STRUCT]
    assert sum(parameter.numel() for parameter in structure.parameters()) == 15_747_072


@pytest.mark.parametrize(
    ("fuse", "total"), [("serial", 666_790_326), ("parallel", 661_633_462), ("cross", 665_701_302)]
)
def test_the_fusions_have_the_parameters_of_the_original(fuse: str, total: int) -> None:
    """Counted from modules: ESM-2 650M with its language-model head, whose matrix is the embedding and
    counts once, GearNet, the fuser, and the one part of the total that is read from files but not built
    here: the regression of the contact head, a weight for each attention head of each block and a bias.
    """
    tables: dict[str, dict[str, Any]] = {
        "seq": {"name": "esm2", **ESM2_650M, "weights": "random", "lm_head": True},
        "struct": {"name": "gearnet"},
        "fuse": {"name": fuse},
    }
    with torch.device("meta"):
        encoder = resolve(discover(), configure(discover(), [tables])).encoder()
    contact_head = ESM2_650M["num_layers"] * ESM2_650M["attention_heads"] + 1
    assert sum(parameter.numel() for parameter in encoder.parameters()) + contact_head == total


# There and back


@pytest.mark.parametrize("case", ["series", "parallel", "cross"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_an_imported_encoder_gives_the_recorded_outputs_and_goes_back(
    case: str, ending: str, tmp_path: Path
) -> None:
    """Files of the original's FusionNetwork: import, encode, export, bit for bit the same file."""
    file = FIXTURES / "fusion" / f"fusion_{case}.state.safetensors"
    if ending == ".pth":
        file = saved(tmp_path / "official.pth", load_file(file))
    folder = tmp_path / "imported"
    content = import_file(discover(), file, folder)
    assert content.num_parameters == content.model.num_parameters(content.model.expected())
    arrays = Recorded(FIXTURES).arrays(f"fusion/fusion_{case}")
    encoder = built(folder)
    with torch.no_grad():
        encoding = encoder(batch_of(arrays), graph_of(arrays["edge_list"]))
    assert relative_error(encoding.residue, arrays["eval_node_feature"]) < 1e-5
    assert relative_error(encoding.protein, arrays["eval_graph_feature"]) < 1e-5

    exported = tmp_path / "exported.pth"
    export_folder(discover(), folder, exported)
    again = torch.load(exported, weights_only=True)
    assert_same(again, recorded_state(case))
    embedding, head = (f"sequence_model.model.{name}.weight" for name in ("embed_tokens", "lm_head"))
    assert again[head].data_ptr() == again[embedding].data_ptr()


def test_an_imported_gearnet_edge_gives_the_recorded_outputs_and_goes_back(tmp_path: Path) -> None:
    """The order of residue types is also that of the edges' first hidden features."""
    if "gearnet_edge" not in discover().names(Kind.STRUCT):
        pytest.skip("no plugin provides gearnet_edge")
    file = FIXTURES / "gearnet" / "gearnet_edge.state.safetensors"
    folder = tmp_path / "imported"
    import_file(discover(), file, folder)
    encoder = built(folder, struct={"readout": "mean"})
    arrays = Recorded(FIXTURES).arrays("gearnet/gearnet_edge")
    features = torch.from_numpy(arrays["input"])[:, [*FROM_OURS, 20]]
    with torch.no_grad():
        encoding = encoder.structure(batch_of(arrays), graph_of(arrays["edge_list"]), features)
    assert relative_error(encoding.residue, arrays["eval_node_feature"]) < 1e-5
    assert relative_error(encoding.protein, arrays["eval_graph_feature"]) < 1e-5
    export_folder(discover(), folder, tmp_path / "exported.pth")
    assert_same(torch.load(tmp_path / "exported.pth", weights_only=True), load_file(file))


def test_gearnet_alone_goes_through_one_hot_residue_types(tmp_path: Path) -> None:
    """GearNet of the recorded parallel fusion, in a separate file, gives its half of the output."""
    prefix = "structure_model."
    state = {
        name.removeprefix(prefix): tensor
        for name, tensor in recorded_state("parallel").items()
        if name.startswith(prefix)
    }
    file = saved(tmp_path / "gearnet.pth", state)
    assert import_file(discover(), file, tmp_path / "imported").model.layout.name == "gearnet"
    arrays = Recorded(FIXTURES).arrays("fusion/fusion_parallel")
    with torch.no_grad():
        encoding = built(tmp_path / "imported")(batch_of(arrays), graph_of(arrays["edge_list"]))
    assert relative_error(encoding.residue, arrays["eval_node_feature"][:, 16:]) < 1e-5
    export_folder(discover(), tmp_path / "imported", tmp_path / "exported.pth")
    assert_same(torch.load(tmp_path / "exported.pth", weights_only=True), state)


def test_a_file_of_fair_esm_goes_there_and_back(tmp_path: Path) -> None:
    file = FIXTURES / "fusion" / "esm2_t2_tiny.pt"
    content = import_file(discover(), file, tmp_path / "imported")
    assert (content.model.layout.name, sizes(content.model)) == ("fair_esm", {"seq": TINY})
    export_folder(discover(), tmp_path / "imported", tmp_path / "exported.pt")
    again = read_published(discover(), tmp_path / "exported.pt")
    kept = {name: value for name, value in content.state.items() if not name.startswith("contact_head.")}
    assert_same(again.state, kept)


def test_without_extras_constants_are_filled_in_and_unused_heads_are_zeros(tmp_path: Path) -> None:
    """A model that was trained here still loads strictly in the original."""
    file = FIXTURES / "fusion" / "fusion_series.state.safetensors"
    folder = tmp_path / "imported"
    import_file(discover(), file, folder)
    (folder / EXTRAS).unlink()
    exported = export_folder(discover(), folder, tmp_path / "exported.pth")
    assert exported.has_unused
    assert exported.unused_from is None
    state, theirs = torch.load(tmp_path / "exported.pth", weights_only=True), load_file(file)
    heads = {name for name in theirs if ".contact_head." in name or ".lm_head." in name}
    heads.remove("sequence_model.model.lm_head.weight")
    assert_same(
        {name: state[name] for name in state if name not in heads},
        {name: theirs[name] for name in theirs if name not in heads},
    )
    assert {name: state[name].shape for name in heads} == {name: theirs[name].shape for name in heads}
    assert not any(state[name].any() for name in heads)


def test_a_gearnet_that_the_original_does_not_support_is_not_exported(tmp_path: Path) -> None:
    file = FIXTURES / "fusion" / "fusion_series.state.safetensors"
    import_file(discover(), file, tmp_path / "imported")
    with pytest.raises(WeightsError) as caught:
        export_folder(discover(), tmp_path / "imported", tmp_path / "x.pth", layout("gearnet"))
    assert "wrong shape: layers.0.self_loop.weight [16, 16] in the file, [16, 21] expected" in str(
        caught.value
    )
    assert not (tmp_path / "x.pth").exists()


# What is refused


def refusal(state: dict[str, Any], tmp_path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        import_file(discover(), saved(tmp_path / "bad.pth", state), tmp_path / "imported")
    assert not (tmp_path / "imported").exists()
    return str(caught.value).replace(str(tmp_path), "DIR")


KEY = "sequence_model.model.layers.1.fc1.weight"


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    state = recorded_state("series")
    del state[KEY]
    assert refusal(state, tmp_path) == (
        f"DIR/bad.pth does not have the layout esm_gearnet: 1 difference\n  missing: {KEY} [64, 16]"
    )


def test_an_unexpected_tensor_is_named(tmp_path: Path) -> None:
    state = {**recorded_state("series"), "mlp.layers.0.weight": torch.zeros(2, 3), "epoch": 4}
    assert refusal(state, tmp_path) == (
        "DIR/bad.pth does not have the layout esm_gearnet: 2 differences\n"
        "  unexpected: mlp.layers.0.weight [2, 3]\n"
        "  unexpected: epoch a int"
    )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (KEY, torch.zeros(64, 15), "[64, 15] in the file, [64, 16] expected"),
        (KEY, torch.zeros(64, 16).half(), "[64, 16] float16 in the file, [64, 16] expected"),
        (
            "structure_model.batch_norms.1.num_batches_tracked",
            torch.zeros(1),
            "[1] in the file, [] int64 expected",
        ),
        (
            "sequence_model.model.embed_tokens.weight",
            torch.zeros(33, 9),
            "[33, 9] in the file, [33, 16] expected",
        ),
        (
            "structure_model.layers.0.self_loop.weight",
            torch.zeros(16, 9),
            "[16, 9] in the file, [16, 16] expected",
        ),
    ],
)
def test_a_tensor_of_another_shape_or_type_is_named(
    name: str, value: Tensor, text: str, tmp_path: Path
) -> None:
    state = {**recorded_state("series"), name: value}
    assert refusal(state, tmp_path).splitlines()[1:] == [f"  wrong shape: {name} {text}"]


@pytest.mark.parametrize(
    "name", ["sequence_model.mapping", "sequence_model.model.layers.0.self_attn.rot_emb.inv_freq"]
)
def test_a_constant_of_another_value_is_named(name: str, tmp_path: Path) -> None:
    """Without this check, outputs would be wrong without an error."""
    state = recorded_state("series")
    state[name] = state[name].flip(0)
    text = "differs from the constant in all files of this layout"
    assert refusal(state, tmp_path).splitlines()[1:] == [f"  wrong values: {name} {text}"]


def test_many_differences_are_counted(tmp_path: Path) -> None:
    state = {name: value for name, value in recorded_state("series").items() if ".layers.1." not in name}
    lines = refusal(
        {**state, "sequence_model.model.layers.7.fc1.bias": torch.zeros(64)}, tmp_path
    ).splitlines()
    assert len(lines) == 1 + 20 + 1 + 1
    assert lines[21].startswith("  missing: ")
    assert lines[21].endswith(" more")


class Hostile:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


def test_a_hostile_file_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "was-here"
    text = refusal({**recorded_state("series"), "x": Hostile(witness)}, tmp_path)
    assert text == "cannot read weights from DIR/bad.pth: refused, because it would call posix.system"
    assert not witness.exists()


@pytest.mark.parametrize("kept", [0.1, 0.6, 0.99])
def test_a_truncated_file_is_refused(kept: float, tmp_path: Path) -> None:
    file = saved(tmp_path / "cut.pth", recorded_state("series"))
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(WeightsError, match="the file is cut short"):
        import_file(discover(), file, tmp_path / "imported")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert refusal({"weight": torch.zeros(1)}, tmp_path) == (
        "DIR/bad.pth is not a published file of a known layout\n"
        "  its first tensors: weight\n"
        "  known layouts: esm_gearnet, gearnet, gearnet_edge, fair_esm"
    )


@pytest.mark.parametrize(
    ("kept", "what"), [("sequence", "structure encoder 'gearnet'"), ("structure", "sequence encoder 'esm2'")]
)
def test_half_of_a_file_is_refused_with_the_missing_tensors(kept: str, what: str, tmp_path: Path) -> None:
    state = {name: value for name, value in recorded_state("series").items() if name.startswith(kept)}
    assert refusal(state, tmp_path) == (
        f"DIR/bad.pth does not have the layout esm_gearnet: too few tensors of the {what} to find its sizes"
    )


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_ddp_and_compilation_are_removed(wrapper: str, tmp_path: Path) -> None:
    state = {wrapper + name: tensor for name, tensor in recorded_state("series").items()}
    file = saved(tmp_path / "wrapped.pth", {"state_dict": state, "epoch": 3})
    assert_same(import_file(discover(), file, tmp_path / "imported").state, recorded_state("series"))


def test_the_number_of_heads_is_found_without_rotary_frequencies(tmp_path: Path) -> None:
    state = {name: value for name, value in recorded_state("series").items() if "inv_freq" not in name}
    prefix = "sequence_model.model.layers"
    assert refusal(state, tmp_path).splitlines()[1:] == [
        f"  missing: {prefix}.{number}.self_attn.rot_emb.inv_freq [2]" for number in range(2)
    ]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file = FIXTURES / "fusion" / "fusion_series.state.safetensors"
    import_file(discover(), file, tmp_path / "imported")
    with pytest.raises(RunError, match="is not an empty folder"):
        import_file(discover(), file, tmp_path / "imported")
    taken = saved(tmp_path / "taken.pth", {})
    with pytest.raises(WeightsError, match="already exists"):
        export_folder(discover(), tmp_path / "imported", taken)


def test_made_up_files_of_every_layout_go_there_and_back(tmp_path: Path) -> None:
    """Exactly the official names, at small widths."""
    small = esm2(33, 8, 2)
    for number, original in enumerate(
        [
            fused("serial", small, hidden_dim=4),
            fused("cross", small, hidden_dim=4, cross_dim=8),
            model("gearnet_edge", struct=gearnet(6, 4)),
        ]
    ):
        state = made(original)
        assert len(state) == [657, 671, 138][number]
        folder, file = tmp_path / f"imported-{number}", tmp_path / f"exported-{number}.pth"
        import_file(discover(), saved(tmp_path / f"{number}.pth", state), folder)
        exported = export_folder(discover(), folder, file).model
        assert (exported.layout, sizes(exported)) == (original.layout, sizes(original))
        assert_same(torch.load(file, weights_only=True), state)


def test_fair_esms_own_code_loads_what_is_exported_strictly(tmp_path: Path) -> None:
    """ESM-2 out of a fused model, as a file of fair-esm and within the original's file."""
    import_file(discover(), FIXTURES / "fusion" / "fusion_cross.state.safetensors", tmp_path / "imported")
    theirs = FairESM2(*TINY.values())
    whole = export_folder(discover(), tmp_path / "imported", tmp_path / "whole.pth").state
    prefix = "sequence_model.model."
    inside = {name.removeprefix(prefix): whole[name] for name in whole if name.startswith(prefix)}
    theirs.load_state_dict(inside, strict=True)
    export_folder(discover(), tmp_path / "imported", tmp_path / "esm2_alone.pt", layout("fair_esm"))
    with torch.serialization.safe_globals([Namespace]):
        content = torch.load(tmp_path / "esm2_alone.pt", weights_only=True)
    with pytest.warns(UserWarning, match="Regression weights not found"):
        loaded, _ = load_model_and_alphabet_core("esm2_alone", content)
    first, second = loaded.state_dict(), theirs.state_dict()
    for state in (first, second):
        del state["contact_head.regression.weight"], state["contact_head.regression.bias"]
    assert_same(first, second)


def test_an_export_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves neither a partial nor a temporary file."""
    file = FIXTURES / "fusion" / "fusion_series.state.safetensors"
    import_file(discover(), file, tmp_path / "imported")

    def fill(_: object, target: Any) -> None:
        if hasattr(target, "write"):
            target.write(b"half")
        else:
            Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fill)
    (tmp_path / "out").mkdir()
    with pytest.raises(EsmgnError, match="the disk is full"):
        export_folder(discover(), tmp_path / "imported", tmp_path / "out" / "exported.pth")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_does_not_write_the_storage_around_a_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.save writes the whole storage of a view."""
    file = FIXTURES / "fusion" / "fusion_series.state.safetensors"
    import_file(discover(), file, tmp_path / "imported")
    export_folder(discover(), tmp_path / "imported", tmp_path / "plain.pth")
    original = EncoderFolder.tensors

    def views(self: EncoderFolder, *arguments: Any) -> dict[str, Tensor]:
        whole = original(self, *arguments)
        return {name: torch.stack([tensor] * 9)[4] for name, tensor in whole.items()}

    monkeypatch.setattr(EncoderFolder, "tensors", views)
    export_folder(discover(), tmp_path / "imported", tmp_path / "views.pth")
    sizes = [(tmp_path / name).stat().st_size for name in ("plain.pth", "views.pth")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_an_import_onto_a_full_disk_leaves_nothing_and_can_be_done_again(
    tmp_path: Path, small_disk: Path
) -> None:
    prefix = "structure_model."
    state = recorded_state("parallel")
    state = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    file = saved(tmp_path / "gearnet.pth", state)
    (small_disk / "rest").write_bytes(bytes(590_000))
    with pytest.raises(WriteError, match=r"cannot write .*imported: the disk is full \(0\.\d MB free\)"):
        import_file(discover(), file, small_disk / "imported")
    assert [path.name for path in small_disk.iterdir()] == ["rest"]
    (small_disk / "rest").unlink()
    import_file(discover(), file, small_disk / "imported")
    assert {path.name for path in (small_disk / "imported").iterdir()} >= {"config.toml", "model.safetensors"}
