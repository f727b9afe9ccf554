"""``esmgn_core.load``: from a folder or names to a model, from a file to an embedding."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import esmgn_core
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.engine.session import start_run
from esmgn_core.errors import EsmgnError, SettingsError, StructureError
from esmgn_core.host.registry import discover, suggested_encoder
from esmgn_core.inference.batching import embed_all, plan_batches
from esmgn_core.inference.embedding import Residue
from esmgn_core.inference.model import Model, ModelName, load_model
from esmgn_core.io import Refusal
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.model.feature_cache import CachedEncoder
from esmgn_core.published.convert import import_file
from esmgn_core.spec import Kind

from ..contract.test_components import IN_PLUGIN, fits
from ..contract.test_components import SMALL as SMALL_SETTINGS
from ..engine.conftest import small_config

FUSION = Path(__file__).parents[1] / "fixtures" / "fusion"
REGISTRY = discover()
NAMES = {"seq": "esm2_tiny", "struct": "gearnet", "fuse": "serial"}


def component_names(kind: Kind) -> list[str]:
    return [spec.name for spec, _ in REGISTRY.components(kind) if (kind, spec.name) not in IN_PLUGIN]


def changes_for(*parts: tuple[Kind, str]) -> tuple[str, ...]:
    """The settings that make each part small."""
    return tuple(
        f"{kind}.{key}={str(value).lower() if isinstance(value, bool) else value}"
        for kind, name in parts
        for key, value in SMALL_SETTINGS.get((kind, name), {}).items()
    )


def test_importing_the_package_imports_no_torch() -> None:
    check = "import sys, esmgn_core; assert callable(esmgn_core.load); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_three_lines_of_python_embed_a_file(folder: Path, proteins: list[Protein]) -> None:
    model = esmgn_core.load(seq="esm2_tiny", struct="gearnet", changes=("struct.hidden_dim=8",))
    embedding = model.embed(folder / "protein1.pdb")
    assert embedding.residue.shape == (len(proteins[1]), model.output_dim)
    assert embedding.protein.shape == (model.output_dim,)
    assert "".join(residue.letter for residue in embedding.residues()) == proteins[1].sequence
    assert embedding.residues()[2] == Residue("A", 3, "", proteins[1].sequence[2])


def test_a_run_folder_gives_the_encoding_of_its_encoder(tmp_path: Path, proteins: list[Protein]) -> None:
    run = start_run(REGISTRY, small_config("train.max_steps=2"), out=tmp_path / "run").run
    model = esmgn_core.load(run.path)
    assert model.random_parts == ()
    encoder = model.blueprint.encoder()
    EncoderFolder(run.path).fill(encoder, REGISTRY)
    batch = ProteinBatch.from_proteins(proteins[:1])
    expected = encoder.eval()(batch, model.blueprint.graph()(batch))
    ours = model.embed(proteins[0])
    assert torch.equal(ours.residue, expected.residue)
    assert torch.equal(ours.protein, expected.protein[0])
    untrained = load_model(ModelName(names=NAMES, changes=("struct.hidden_dim=16", "struct.num_layers=2")))
    assert not torch.equal(ours.protein, untrained.embed(proteins[0]).protein)


@pytest.mark.parametrize("file", ["fusion_series.state.safetensors", "esm2_t2_tiny.pt"])
def test_imported_weights_give_an_embedding(file: str, tmp_path: Path, proteins: list[Protein]) -> None:
    import_file(REGISTRY, FUSION / file, tmp_path / "imported")
    model = esmgn_core.load(tmp_path / "imported")
    assert model.random_parts == ()
    assert model.sequence_only == (file == "esm2_t2_tiny.pt")
    assert model.embed(proteins[0]).residue.isfinite().all()


def fusers_of_both() -> list[str]:
    return [spec.name for spec, _ in REGISTRY.components(Kind.FUSE) if len(spec.encoders) == 2]


def encoder_pairs() -> list[tuple[str, str, str]]:
    """Every pair of encoders that ``esmgn list`` shows, each encoder under every fuser of both that fits."""
    seqs, structs = map(component_names, (Kind.SEQ, Kind.STRUCT))
    fusers, pairs = fusers_of_both(), []
    for i, seq in enumerate(seqs):
        for j, struct in enumerate(structs):
            fitting = [fuse for fuse in fusers if fits(seq, struct, fuse)]
            pairs.append((seq, struct, fitting[(i + j) % len(fitting)]))
    met = {part for seq, struct, fuse in pairs for part in ((seq, fuse), (struct, fuse))}
    for seq in seqs:
        for struct in structs:
            for fuse in fusers:
                if fits(seq, struct, fuse) and not {(seq, fuse), (struct, fuse)} <= met:
                    pairs.append((seq, struct, fuse))
                    met |= {(seq, fuse), (struct, fuse)}
    return pairs


def test_every_pair_of_encoder_and_fuser_is_covered() -> None:
    pairs = encoder_pairs()
    seqs, structs = map(component_names, (Kind.SEQ, Kind.STRUCT))
    possible = [(s, t, f) for s in seqs for t in structs for f in fusers_of_both() if fits(s, t, f)]
    for place in (0, 1):
        assert {(cell[place], cell[2]) for cell in pairs} == {(cell[place], cell[2]) for cell in possible}


@pytest.mark.parametrize(("seq", "struct", "fuse"), encoder_pairs())
def test_an_embedding_alone_is_the_one_in_a_batch(
    seq: str, struct: str, fuse: str, proteins: list[Protein]
) -> None:
    """Within 1e-5 in float32 on the CPU, for every pair of shipped encoders.

    Presets are these encoders in other sizes.
    """
    changes = changes_for((Kind.SEQ, seq), (Kind.STRUCT, struct), (Kind.FUSE, fuse))
    names = {"seq": seq, "struct": struct, "fuse": fuse}
    model = load_model(ModelName(names=names, changes=changes), device="cpu")
    assert_batch_invariant(model, proteins)


@pytest.mark.parametrize("seq", component_names(Kind.SEQ))
def test_a_sequence_encoder_alone_is_batch_invariant_too(seq: str, proteins: list[Protein]) -> None:
    model = load_model(ModelName(names={"seq": seq}, changes=changes_for((Kind.SEQ, seq))), device="cpu")
    assert_batch_invariant(model, proteins)


@pytest.mark.parametrize("struct", component_names(Kind.STRUCT))
def test_a_structure_encoder_alone_is_batch_invariant_too(struct: str, proteins: list[Protein]) -> None:
    names = {"struct": struct, "fuse": "structure"}
    model = load_model(ModelName(names=names, changes=changes_for((Kind.STRUCT, struct))), device="cpu")
    assert_batch_invariant(model, proteins)


def assert_batch_invariant(model: Model, proteins: Sequence[Protein]) -> None:
    few = sorted(proteins, key=len)[:3]
    together, alone = model.embed_batch(few), [model.embed(protein) for protein in few]
    assert close([item.residue for item in together], [item.residue for item in alone])
    assert close([item.protein for item in together], [item.protein for item in alone])


def close(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    a, b = torch.cat(list(first)), torch.cat(list(second))
    return bool(a.abs().max() > 0) and float((a - b).abs().max() / b.abs().max().clamp(min=1)) <= 1e-5


def test_embedding_changes_no_weight_and_no_protein(small: Model, proteins: list[Protein]) -> None:
    before = {name: tensor.clone() for name, tensor in small.encoder.state_dict().items()}
    coordinates = proteins[0].backbone.clone()
    first = small.embed(proteins[0])
    assert torch.equal(small.embed(proteins[0]).residue, first.residue)
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.encoder.state_dict().items())
    assert torch.equal(proteins[0].backbone, coordinates)
    assert not first.residue.requires_grad


def test_different_models_have_different_fingerprints() -> None:
    def fingerprint(*changes: str, precision: str = "fp32", **names: str) -> str:
        return load_model(ModelName(names=names, changes=changes), precision=precision).fingerprint

    same = [fingerprint(seq="esm2_tiny"), fingerprint(seq="esm2_tiny")]
    others = [
        fingerprint("seq.readout=sum", seq="esm2_tiny"),
        fingerprint("train.seed=1", seq="esm2_tiny"),
        fingerprint(seq="esm2_tiny", precision="bf16"),
        fingerprint(seq="onehot"),
    ]
    assert len({*same, *others}) == 1 + len(others)


def test_a_batch_with_one_unsuitable_protein_is_split(proteins: list[Protein]) -> None:
    """ESM-1b reads at most 1,022 residues: only the long protein is refused."""
    changes = changes_for((Kind.SEQ, "esm1"))
    model = load_model(ModelName(names={"seq": "esm1"}, changes=changes), device="cpu")
    long = longer(proteins[0], 1100)
    results = embed_all(model, [proteins[0], long, proteins[1]], max_residues=10_000)
    assert isinstance(results[1], str)
    assert "1100" in results[1]
    assert torch.allclose(results[0].residue, model.embed(proteins[0]).residue, atol=1e-5)
    assert not isinstance(results[2], str)


def longer(protein: Protein, length: int) -> Protein:
    index = torch.arange(length) % len(protein)
    return replace(
        protein,
        name="long",
        residue_type=protein.residue_type[index],
        backbone=protein.backbone[index],
        atom_mask=protein.atom_mask[index],
        residue_index=torch.arange(length),
        chain_index=torch.zeros(length, dtype=torch.int64),
    )


def test_batches_hold_at_most_the_requested_residues() -> None:
    lengths = [50, 300, 40, 60, 900, 1, 399]
    batches = plan_batches(lengths, 400)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in batch) <= 400 or len(batch) == 1 for batch in batches)
    assert len(batches) == 4


def test_a_folder_is_embedded_file_by_file(small: Model, folder: Path) -> None:
    (folder / "broken.pdb").write_text("nothing")
    results = list(small.embed_many([folder]))
    assert [type(result) for result in results].count(Refusal) == 1
    assert len(results) == 7
    with pytest.raises(StructureError, match="is a folder, expected a file"):
        small.embed(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (ModelName(), "no model is given"),
        (ModelName(names={"struct": "gearnet"}), "no model is given"),
        (ModelName(folder="runs/x", names={"seq": "onehot"}), "determines the components of the encoder"),
        (ModelName(names={"seq": "esm2_tinny"}), "did you mean: esm2_tiny?"),
        (ModelName(folder="nowhere"), "no encoder in nowhere: config.toml is missing"),
    ],
)
def test_a_missing_model_is_named(name: ModelName, message: str) -> None:
    with pytest.raises(EsmgnError) as caught:
        load_model(name)
    assert message in str(caught.value)


def test_the_message_without_a_model_shows_how_to_name_one() -> None:
    with pytest.raises(SettingsError) as caught:
        load_model(ModelName())
    assert f"a composition: --seq {suggested_encoder()} --struct gearnet --fuse serial" in str(caught.value)


def test_features_of_the_sequence_encoder_are_computed_once_for_all_embeddings(
    tmp_path: Path, proteins: list[Protein], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second model of the same encoder reads the cache of the first; the embedding is bit-identical."""
    changes = ("struct.hidden_dim=16", "cache.features=fp32", f"cache.path={tmp_path}")
    plain = load_model(ModelName(names=NAMES, changes=changes[:1])).embed(proteins[0])
    for _ in range(2):
        kept = load_model(ModelName(names=NAMES, changes=changes)).embed(proteins[0])
        assert torch.equal(kept.residue, plain.residue)
        assert torch.equal(kept.protein, plain.protein)
        monkeypatch.setattr(CachedEncoder, "_computed", None)
    alone = ModelName(names={"struct": "gearnet", "fuse": "structure"}, changes=changes)
    with pytest.raises(SettingsError, match="keeps the output of a sequence encoder, and this run has none"):
        load_model(alone)
