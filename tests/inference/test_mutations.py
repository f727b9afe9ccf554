"""Scores of mutations, lookup of residues, tables and heat maps."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
import torch
from safetensors.torch import load_file

from esmgn_core.alphabet import AMINO_ACIDS, MASKED
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.engine.session import start_run
from esmgn_core.errors import RunError, SettingsError
from esmgn_core.host.configure import configure, parse_assignments
from esmgn_core.host.registry import discover, suggested_encoder
from esmgn_core.inference.fasta import protein_of_sequence
from esmgn_core.inference.inputs import find_inputs
from esmgn_core.inference.model import ModelName, load_model
from esmgn_core.inference.mutate.heatmap import draw_heatmap
from esmgn_core.inference.mutate.paired import mutated, score_pairs
from esmgn_core.inference.mutate.scan import scan_variants
from esmgn_core.inference.mutate.score import score_variants, variant_columns
from esmgn_core.inference.mutate.scorer import Scorer, load_scorer
from esmgn_core.inference.mutate.variants import Addresses, MutationError, parse_list
from esmgn_core.inference.predict.predictor import Predictor, predict_files
from esmgn_core.inference.tables import write_table
from esmgn_core.inference.task import group_size
from esmgn_core.io import read_protein
from esmgn_core.published.convert import import_file
from esmgn_core.run_folder import RunFolder

from ..conftest import pdb_text
from ..engine.conftest import SMALL as SMALL_RUN
from ..engine.conftest import small_config
from .conftest import DATA

FUSION = Path(__file__).parents[1] / "fixtures" / "fusion" / "fusion_series.state.safetensors"
TINY = FUSION.with_name("esm2_t2_tiny.pt")
THROMBIN = DATA / "structures" / "edge" / "insertion_codes_1a4w.pdb.gz"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned to predict masked residue types."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return start_run(
        discover(), small_config("train.max_steps=2", "pretext.name=residue_type"), out=folder
    ).run.path


@pytest.fixture(scope="module")
def joint(run: Path) -> Scorer:
    return load_scorer(ModelName(folder=str(run)), device="cpu")


def test_the_score_is_the_log_ratio_at_the_masked_residue(joint: Scorer, proteins: list[Protein]) -> None:
    """Computed step by step: mask the residue, encode, apply the head of the run."""
    protein, row = proteins[0], 7
    wild, mutant = protein.sequence[row], "W" if protein.sequence[row] != "W" else "A"
    [scored] = score_variants(joint, protein, [Addresses(protein).variant(f"{wild}{row + 1}{mutant}")])
    types = protein.residue_type.clone()
    types[row] = MASKED
    for residue_type, ours in (
        (types, scored.masked_marginal),
        (protein.residue_type, scored.wild_type_marginal),
    ):
        batch = ProteinBatch.from_proteins([replace(protein, residue_type=residue_type)])
        assert joint.head is not None
        logits = joint.head.residue_type_logits(joint.model.encode(batch).residue[row : row + 1])[0]
        expected = logits[AMINO_ACIDS.index(mutant)] - logits[AMINO_ACIDS.index(wild)]
        assert ours == pytest.approx(float(expected), abs=1e-4)
    assert scored.masked_marginal != pytest.approx(scored.wild_type_marginal, abs=1e-4)


def test_the_head_is_the_one_that_was_trained(joint: Scorer, run: Path) -> None:
    saved = load_file(run / "task.safetensors")
    head = dict(joint.head.named_parameters())
    assert torch.equal(head["head.layers.0.weight"], saved["head.layers.0.weight"])
    assert joint.described == f"residue type head of {run} (sequence and structure)"
    assert joint.random_parts == ()


def test_scores_do_not_depend_on_the_size_of_batches(joint: Scorer, proteins: list[Protein]) -> None:
    variants = Addresses(proteins[0]).all_substitutions()[:40]
    one = score_variants(joint, proteins[0], variants, max_residues=1)
    many = score_variants(joint, proteins[0], variants, max_residues=100_000)
    for first, second in zip(one, many, strict=True):
        assert first.masked_marginal == pytest.approx(second.masked_marginal, abs=1e-4)


def test_substitutions_of_one_variant_are_added_up(joint: Scorer, proteins: list[Protein]) -> None:
    addresses, letters = Addresses(proteins[0]), proteins[0].sequence
    first, second = f"{letters[2]}3{other(letters[2])}", f"{letters[8]}9{other(letters[8])}"
    a, b, both = score_variants(
        joint, proteins[0], parse_list(addresses, f"{first}, {second}, {first}+{second}")
    )
    assert both.masked_marginal == pytest.approx(a.masked_marginal + b.masked_marginal, abs=1e-5)
    assert both.row()["variant"] == f"A:{first}+A:{second}"


def other(letter: str) -> str:
    return "A" if letter != "A" else "G"


@pytest.mark.parametrize("seq", ["esm1", "protbert"])
def test_a_language_model_without_a_run_is_described_by_its_name(seq: str) -> None:
    size = ("seq.num_layers=2", "seq.embed_dim=32", "seq.attention_heads=4", "seq.weights=random")
    name = ModelName(names={"seq": seq}, changes=size)
    assert load_scorer(name, device="cpu").described == f"language model {seq} (sequence only)"


def test_without_such_a_run_the_language_model_scores_and_is_named(proteins: list[Protein]) -> None:
    scorer = load_scorer(
        ModelName(names={"seq": "esm2_tiny", "struct": "gearnet", "fuse": "serial"}), device="cpu"
    )
    assert scorer.described == "language model esm2_tiny (sequence only)"
    assert scorer.random_parts == ("sequence encoder",)
    moved = replace(proteins[0], backbone=proteins[0].backbone * 2)
    variants = Addresses(proteins[0]).all_substitutions()[:3]
    here, there = (score_variants(scorer, protein, variants) for protein in (proteins[0], moved))
    assert [item.masked_marginal for item in here] == [item.masked_marginal for item in there]


def test_a_model_without_a_head_is_refused_with_what_to_do() -> None:
    with pytest.raises(SettingsError) as caught:
        load_scorer(ModelName(names={"seq": "onehot", "struct": "gearnet"}), device="cpu")
    assert "has no head that predicts amino acids" in str(caught.value)
    assert "esmgn run --pretext residue_type" in str(caught.value)


@pytest.mark.parametrize("scale", ["0", "1"])
def test_the_language_model_of_a_run_has_the_head_of_the_weights_it_started_from(
    scale: str, tmp_path: Path, proteins: list[Protein]
) -> None:
    """A frozen model is that of the file; a trained one has the blocks of the run, as the text states."""
    weights = [f"seq.weights={TINY}", "seq.embed_dim=16", "pretext.name=distance"]
    changes = (*weights, f"optim.seq_lr_scale={scale}", "optim.lr=0.01", "train.max_steps=2")
    run = start_run(discover(), small_config(*changes), out=tmp_path / "run").run.path
    scorer = load_scorer(ModelName(folder=str(run)), device="cpu")
    batch = ProteinBatch.from_proteins(proteins[:1])
    names = ModelName(names={"seq": "esm2_tiny"}, changes=(*weights[:2], "seq.lm_head=true"))
    published = load_model(names, device="cpu").sequence
    if scale == "1":
        tensors = load_file(run / "model.safetensors")
        trunk = {name.removeprefix("sequence."): tensor for name, tensor in tensors.items()}
        trunk = {name: tensor for name, tensor in trunk.items() if name.startswith("model.")}
        assert not published.load_state_dict(trunk, strict=False).unexpected_keys
    assert torch.equal(scorer.logits(batch), published.residue_logits(batch))
    trained = f", trained further in {run} without its head" if scale == "1" else ""
    assert scorer.described == f"language model esm2_tiny (sequence only){trained}"
    assert scorer.random_parts == ()


def test_imported_weights_score_with_the_head_they_were_published_with(
    tmp_path: Path, proteins: list[Protein]
) -> None:
    """The head of ESM-2 in an ESM-GearNet, which the encoder does not use."""
    published = load_file(FUSION)
    import_file(discover(), FUSION, tmp_path / "weights")
    scorer = load_scorer(ModelName(folder=str(tmp_path / "weights")), device="cpu")
    head = scorer.language_model.model.lm_head
    assert torch.equal(head.dense.weight, published["sequence_model.model.lm_head.dense.weight"])
    assert scorer.described == "language model esm2 (sequence only)"
    assert scorer.logits(ProteinBatch.from_proteins(proteins[:1])).isfinite().all()


def test_a_run_that_never_had_a_head_is_refused(tmp_path: Path) -> None:
    changes = ("pretext.name=distance", "train.max_steps=1")
    run = start_run(discover(), small_config(*changes), out=tmp_path / "run").run.path
    with pytest.raises(SettingsError) as caught:
        load_scorer(ModelName(folder=str(run)), device="cpu")
    assert str(caught.value).splitlines() == [
        f"{run} has no head that predicts amino acids",
        "  its sequence encoder started from random weights",
        "  use a run that was pre-trained with residue type prediction: esmgn run --pretext residue_type",
        f"  or a language model: --seq {suggested_encoder()}",
    ]


def test_all_substitutions_are_nineteen_at_every_residue(proteins: list[Protein]) -> None:
    variants = Addresses(proteins[0]).all_substitutions()
    assert len(variants) == 19 * len(proteins[0])
    assert all(item.mutant != item.residue.letter for (item,) in variants)


@pytest.mark.skipif(not THROMBIN.is_file(), reason=f"needs {THROMBIN}")
def test_residues_are_addressed_as_the_file_names_them() -> None:
    """Thrombin 1A4W: light chain L 1H-14M, heavy chain H with the loop 60A-60I."""
    addresses = Addresses(read_protein(THROMBIN))
    (item,) = addresses.variant("H:D60EA")
    assert (item.residue.number, item.residue.insertion_code, item.mutant) == (60, "E", "A")
    assert len({str(addresses.variant(text)[0]) for text in ("H:L60A", "H:Y60AA")}) == 2
    with pytest.raises(MutationError) as caught:
        addresses.variant("H:A60EW")
    assert (
        str(caught.value).splitlines()[0].endswith("chain H residue 60E of insertion_codes_1a4w is D, not A")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12G", "cannot read the mutation '12G'"),
        ("A12", "cannot read the mutation 'A12'"),
        ("B12G", "cannot read the mutation 'B12G'"),
        ("Z:A1G", "has no chain Z"),
        ("A999G", "has no residue 999"),
    ],
)
def test_mutations_that_do_not_match_are_named(text: str, message: str, proteins: list[Protein]) -> None:
    with pytest.raises(MutationError, match=message):
        Addresses(proteins[0]).variant(text)


def test_a_wrong_wild_type_is_named_with_the_residue_in_the_file(proteins: list[Protein]) -> None:
    letter = proteins[0].sequence[4]
    with pytest.raises(MutationError) as caught:
        Addresses(proteins[0]).variant(f"{other(letter)}5W")
    assert str(caught.value).splitlines()[0] == (
        f"{other(letter)}5W: chain A residue 5 of protein0 is {letter}, not {other(letter)}"
    )


def test_a_residue_of_several_chains_needs_its_chain(proteins: list[Protein]) -> None:
    length = len(proteins[0])
    twice = replace(
        proteins[0],
        **{
            name: torch.cat([getattr(proteins[0], name)] * 2)
            for name in ("residue_type", "backbone", "atom_mask", "residue_index")
        },
        chain_index=torch.arange(2).repeat_interleave(length),
        chains=("A", "B"),
    )
    text = f"{proteins[0].sequence[0]}1{other(proteins[0].sequence[0])}"
    with pytest.raises(MutationError) as caught:
        Addresses(twice).variant(text)
    assert str(caught.value).splitlines()[1] == f"  choose one: A:{text}, B:{text}"
    assert Addresses(twice).variant(f"B:{text}")[0].row == length


def two_copies(chains: tuple[str, ...], second: str = "GGHWYRVLKE") -> Protein:
    """Two chains of ten residues with the numbers 1 to 10; as one chain if ``chains`` has one name."""
    one, other = protein_of_sequence("pair", "MKHLAEDCKS"), protein_of_sequence("pair", second)
    both = {
        name: torch.cat([getattr(one, name), getattr(other, name)])
        for name in ("residue_type", "backbone", "atom_mask", "residue_index")
    }
    index = torch.arange(2).repeat_interleave(10).clamp(max=len(chains) - 1)
    return replace(one, **both, chain_index=index, chains=chains)


@pytest.mark.parametrize("text", ["A:K2A", "A:G2A"])
def test_a_chain_with_copies_is_not_guessed(text: str) -> None:
    with pytest.raises(MutationError) as caught:
        Addresses(two_copies(("A-1", "A-2"))).variant(text)
    assert str(caught.value).splitlines() == [
        f"{text}: pair has chain A 2 times: name A-1 or A-2",
        "  choose one: A-1:K2A, A-2:G2A",
    ]
    assert Addresses(two_copies(("A-1", "A-2"))).variant("A-2:G2A")[0].row == 11


@pytest.mark.parametrize("chains", [("A",), ("A", "A")])
def test_a_residue_number_that_occurs_twice_is_not_guessed(chains: tuple[str, ...]) -> None:
    addresses = Addresses(two_copies(chains))
    for text in ("A:K2A", "K2A", "A:G2A"):
        with pytest.raises(MutationError) as caught:
            addresses.variant(text)
        assert str(caught.value).splitlines() == [
            f"{text}: residue 2 occurs 2 times",
            "  choose one: A:K2A@1, A:G2A@2",
        ]
    assert [addresses.variant(text)[0].row for text in ("A:K2A@1", "A:G2A@2")] == [1, 11]
    with pytest.raises(MutationError, match="no residue 2@3 in chain A"):
        addresses.variant("A:K2A@3")


@pytest.mark.parametrize("chains", [("A",), ("A", "A"), ("A-1", "A-2"), ("", "A")])
def test_every_variant_has_a_unique_name(chains: tuple[str, ...]) -> None:
    """Each row of ``--all`` can be given as a mutation."""
    addresses = Addresses(two_copies(chains, second="MKHLAEDCKS"))
    variants = addresses.all_substitutions()
    names = {item["variant"] for item in map(variant_columns, variants)}
    assert len(names) == len(variants) == 380
    typed = [addresses.variant(f":{name}" if chains[0] == "" and ":" not in name else name) for name in names]
    assert {variant[0].row for variant in typed} == set(range(20))


def test_a_blank_chain_among_others_is_named_by_a_colon() -> None:
    addresses = Addresses(two_copies(("", "A")))
    with pytest.raises(MutationError, match="choose one: :K2A, A:G2A"):
        addresses.variant("K2A")
    assert addresses.variant(":K2A")[0].row == 1


def test_negative_numbers_and_mutations_joined_by_colons() -> None:
    """Numbers -2 to 7; ``H-1G`` after a colon is a mutation, not one in a chain K-2A."""
    protein = protein_of_sequence("tag", "KHMKHLAEDC")
    addresses = Addresses(replace(protein, residue_index=torch.arange(-2, 8)))
    assert [item.row for item in addresses.variant("K-2A:H-1G")] == [0, 1]
    assert addresses.variant("K-2A:A:H-1G") == addresses.variant("A:K-2A+H-1G")
    assert [str(variant[0]) for variant in parse_list(addresses, "K-2A, A:p.His-1Gly")] == [
        "A:K-2A",
        "A:H-1G",
    ]


def test_a_chain_named_like_a_mutation_is_not_guessed() -> None:
    addresses = Addresses(two_copies(("A", "K2A")))
    with pytest.raises(MutationError, match="K2A is both a chain of pair and a mutation of it"):
        addresses.variant("K2A:A5G")
    assert [item.row for item in addresses.variant("A:K2A+A:A5G")] == [1, 4]
    assert Addresses(two_copies(("B", "H2A"))).variant("H2A:W4G")[0].row == 13


def test_an_empty_list_of_mutations_is_refused(proteins: list[Protein]) -> None:
    with pytest.raises(MutationError, match="the list of mutations is empty"):
        parse_list(Addresses(proteins[0]), " , ")


def test_insertion_codes_of_small_letters() -> None:
    """60a and 60A are two residues."""
    protein = protein_of_sequence("loop", "DYWK")
    codes = torch.tensor([ord(letter) for letter in " aA "], dtype=torch.uint8)
    numbers = torch.tensor([60, 60, 60, 61])
    addresses = Addresses(replace(protein, residue_index=numbers, insertion_code=codes))
    assert [addresses.variant(text)[0].row for text in ("D60G", "Y60aG", "W60AG")] == [0, 1, 2]
    assert str(addresses.variant("Y60aG")[0]) == "A:Y60aG"


def test_tables_hold_every_variant(joint: Scorer, proteins: list[Protein], tmp_path: Path) -> None:
    scores = score_variants(joint, proteins[0], Addresses(proteins[0]).all_substitutions()[:5])
    rows = [item.row() for item in scores]
    for name in ("scan.csv", "scan.tsv", "scan.json"):
        write_table(rows, tmp_path / name, about={"scored_by": joint.described})
    with (tmp_path / "scan.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [float(row["masked_marginal"]) for row in read] == [row["masked_marginal"] for row in rows]
    assert read[0]["chain"] == "A"
    content = json.loads((tmp_path / "scan.json").read_text())
    assert content["scored_by"] == joint.described
    assert content["rows"] == rows
    with pytest.raises(RunError, match="unknown suffix"):
        write_table(rows, tmp_path / "scan.xlsx", about={})


def test_the_picture_shows_every_residue(joint: Scorer, proteins: list[Protein], tmp_path: Path) -> None:
    longest = max(proteins, key=len)
    scored = score_variants(joint, longest, Addresses(longest).all_substitutions())
    scores = [(item.variant, item.masked_marginal) for item in scored]
    draw_heatmap(scores, tmp_path / "scan.png", title="Scan", subtitle="of a test")
    draw_heatmap(scores, tmp_path / "scan.svg", title="Scan of all", subtitle="of a test")
    picture = matplotlib.image.imread(tmp_path / "scan.png")
    assert picture.shape[0] > 500
    assert picture.std() > 0.05
    assert "<svg" in (tmp_path / "scan.svg").read_text()
    with pytest.raises(RunError, match="not a known picture format"):
        draw_heatmap(scores, tmp_path / "scan.doc", title="", subtitle="")


def test_a_run_on_pairs_compares_with_the_wild_type(proteins: list[Protein], tmp_path: Path) -> None:
    """Computed step by step: wild type and mutant together through encoder and head."""
    folder = tmp_path / "structures"
    folder.mkdir()
    lines = ["file,mutant,label,split"]
    for number, protein in enumerate(proteins[:4]):
        (variant,) = Addresses(protein).all_substitutions()[:1]
        (folder / f"wild{number}.pdb").write_text(pdb_text(protein))
        (folder / f"mutant{number}.pdb").write_text(pdb_text(mutated(protein, variant)))
        lines.append(f"wild{number}.pdb,mutant{number}.pdb,{number % 2},{'valid' if number > 1 else 'train'}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    encoder = [item for item in SMALL_RUN if item.startswith(("seq", "struct"))]
    data = [f"data.table={tmp_path / 'pairs.csv'}", f"data.structures={folder}", "data.kind=pairs"]
    train = ["downstream.name=paired", "data.name=csv", "train.max_steps=1", "train.proteins_per_batch=2"]
    config = configure(discover(), [parse_assignments([*encoder, *data, *train])])
    path = start_run(discover(), config, out=tmp_path / "run").run.path
    assert group_size(RunFolder(path), discover()) == 2
    predictor = Predictor(path, device="cpu")
    variants = Addresses(proteins[5]).all_substitutions()[:7]
    scored = score_pairs(predictor, proteins[5], variants)
    batch = ProteinBatch.from_proteins([proteins[5], mutated(proteins[5], variants[6])])
    logit = predictor.task.predict(predictor.model.encode(batch), batch)[0, 0]
    assert scored[6].score == pytest.approx(float(logit.sigmoid()), abs=1e-5)
    assert scored[6].row()["variant"] == str(variants[6][0])
    assert len({item.score for item in scored}) > 1
    with pytest.raises(RunError, match="predicts for pairs of a protein and its mutant"):
        predictor.outputs(proteins[5])
    with pytest.raises(RunError, match="predicts for pairs of a protein and its mutant"):
        next(predict_files(predictor, find_inputs([folder], sequence_only=False), count=5))
    assert not predictor.decides
    name = ModelName(folder=str(path))
    two = Addresses(proteins[0]).all_substitutions()[:2]
    scan = scan_variants(name, folder / "wild0.pdb", two, device="cpu")
    assert scan.scored_by == f"head of {path} on pairs of wild type and mutant (not calibrated)"
