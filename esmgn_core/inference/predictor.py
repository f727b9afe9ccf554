"""A fine-tuned run put to use: named, calibrated predictions for structures of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esmgn_core.batch import Encoding, Protein, ProteinBatch, Readout
from esmgn_core.engine.encoder_folder import EncoderFolder
from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.errors import EsmgnError, RunError, did_you_mean
from esmgn_core.inference.calibration import Calibration, calibrated
from esmgn_core.inference.heads import fill_task, run_blueprint
from esmgn_core.inference.inputs import Input
from esmgn_core.inference.model import Model, ModelName, load_model
from esmgn_core.io import Refusal
from esmgn_core.protocols import DownstreamTask
from esmgn_core.registry import discover
from esmgn_core.spec import Kind

_EXCLUSIVE, _INDEPENDENT, _NUMBERS, PAIRED = "classification", "multilabel", "regression", "paired"
KNOWN = (_EXCLUSIVE, _INDEPENDENT, _NUMBERS, PAIRED)
"""Downstream components whose outputs are known to be classes or quantities."""
CONFIDENT, UNSURE = 70.0, 50.0
"""pLDDT above which a backbone is trusted, and below which it is no structure (Jumper et al. 2021)."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One label of one protein.

    Attributes:
        protein: its name.
        label: the name of the class or quantity.
        score: probability, or the value of a quantity.
        predicted: True if the score reaches the threshold; ``None`` for a quantity, and where the validation
            proteins cannot decide.
        caveat: why the structure or the validation set may mislead; empty if nothing is known.
    """

    protein: str
    label: str
    score: float
    predicted: bool | None
    caveat: str

    def row(self, *, decided: bool = True) -> dict[str, Any]:
        """A row of the table; without the column ``predicted`` if nothing of the run is ``decided``."""
        predicted = "" if self.predicted is None else ("yes" if self.predicted else "no")
        return {
            "protein": self.protein,
            "label": self.label,
            "score": round(self.score, 5),
            **({"predicted": predicted} if decided else {}),
            "caveat": self.caveat,
        }


class Predictor:
    """The model of a fine-tuned run.

    Attributes:
        model: its encoder.
        task: the task with its trained heads.
        component: which kind of task it is.
        labels: names of its outputs.
        calibration: what turns its logits into probabilities.
        run: the folder.

    Raises:
        RunError: the folder is of no such run, or its component is not one of :data:`KNOWN`.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        check_predicts(folder)
        self.run = RunFolder(folder)
        self.component, self.labels = self.run.recorded_labels()
        registry = discover()
        self.model: Model = load_model(ModelName(folder=str(folder)), device=device, registry=registry)
        blueprint = run_blueprint(EncoderFolder(folder), registry)
        task: Any = blueprint.build(
            Kind.DOWNSTREAM, encoder_dim=self.model.output_dim, num_targets=len(self.labels)
        )
        fill_task(task, self.run)
        self.task: DownstreamTask = task.eval().requires_grad_(requires_grad=False).to(self.model.device)
        self.calibration = Calibration()
        if self.component not in (_NUMBERS, PAIRED):
            self.calibration = calibrated(self.run, exclusive=self.component == _EXCLUSIVE)

    @property
    def is_number(self) -> bool:
        """True if the task predicts quantities, not classes."""
        return self.component == _NUMBERS

    @property
    def decides(self) -> bool:
        """True if there are predicted labels, not scores alone."""
        return self.component in (_EXCLUSIVE, _INDEPENDENT) and not self.calibration.problem

    @property
    def warnings(self) -> list[str]:
        """What limits all predictions of this run, for everybody who reads them."""
        if self.calibration.problem:
            return [f"scores are not calibrated and no label is predicted: {self.calibration.problem}"]
        found = [self.calibration.warning] if self.calibration.warning else []
        if number := len(self.calibration.unvalidated):
            counted = "1 label is" if number == 1 else f"{number} labels are"
            found.append(f"{counted} never predicted: no validation protein has it, or all have it")
        return found

    def row(self, prediction: Prediction) -> dict[str, Any]:
        """A row of the table that is written: with a column ``warning`` where the run has warnings."""
        warning = {"warning": "; ".join(self.warnings)} if self.warnings else {}
        return {**prediction.row(decided=self.decides), **warning}

    def outputs(self, protein: Protein) -> Tensor:
        """Calibrated probabilities, or values, float32 [T]. The whole protein is read.

        Raises:
            RunError: the task takes pairs of proteins.
        """
        self.check_single()
        batch = ProteinBatch.from_proteins([protein])
        encoding = self.model.encode(batch)
        with torch.inference_mode():
            logits = self.task.predict(encoding, batch.to(self.model.device)).float().cpu()
        return self._scores(logits)[0]

    def check_single(self) -> None:
        """Refuse a run whose task takes pairs of proteins.

        Raises:
            RunError: it does.
        """
        if self.component == PAIRED:
            raise RunError(
                f"{self.run.path} compares a protein with its mutant", "use: esmgn mutate FILE --model RUN"
            )

    def _scores(self, logits: Tensor) -> Tensor:
        if self.is_number:
            return logits
        return self.calibration.probabilities(logits, exclusive=self.component == _EXCLUSIVE)

    def predict(self, protein: Protein, *, count: int) -> list[Prediction]:
        """The ``count`` labels of highest score, and all others that are predicted, best first."""
        scores = self.outputs(protein)
        order = (
            range(len(scores)) if self.is_number else scores.argsort(descending=True, stable=True).tolist()
        )
        caveat = plddt_caveat(protein)
        found = []
        for rank, index in enumerate(order):
            score = float(scores[index])
            predicted = self._predicted(score, rank, index)
            if self.is_number or rank < count or predicted:
                found.append(Prediction(protein.name, self.labels[index], score, predicted, caveat))
        return found

    def _predicted(self, score: float, rank: int, index: int) -> bool | None:
        if not self.decides or index in self.calibration.unvalidated:
            return None
        if self.component == _EXCLUSIVE:
            return rank == 0
        return self.calibration.threshold is not None and score >= self.calibration.threshold

    def importance(self, protein: Protein, label: int) -> Tensor:
        """Gradient x input of each residue for the logit of one label, float32 [n].

        The input is the representation of the sequence encoder, which is where the residue enters
        structure encoder and fuser; positive where it speaks for the label.
        """
        joint = self.model.encoder
        batch = ProteinBatch.from_proteins([protein]).to(self.model.device)
        with torch.no_grad():
            sequence = joint.reader(batch)(batch)
        residue = sequence.residue.float().detach().requires_grad_()
        read = _Read(joint.sequence, sequence, residue, batch)
        with torch.enable_grad():
            encoding = joint(batch, self.model.graph(batch), read)
            logit = self.task.predict(encoding, batch)[0, label]
            (gradient,) = torch.autograd.grad(logit, residue)
        share: Tensor = gradient * residue
        return share.sum(1).detach().cpu()


class _Read:
    """A sequence encoding that was made before, with the residues as the variable."""

    def __init__(self, encoder: Any, encoding: Encoding, residue: Tensor, batch: ProteinBatch) -> None:
        self.output_dim = encoder.output_dim
        self.Settings = encoder.Settings
        readout: Readout = getattr(encoder.settings, "readout", "mean")
        change = Encoding.from_residues(residue - residue.detach(), batch, readout).protein
        self._encoding = Encoding(residue, encoding.protein.float().detach() + change)

    def __call__(self, batch: ProteinBatch) -> Encoding:  # noqa: ARG002 - in place of a sequence encoder
        return self._encoding


def check_predicts(folder: Path) -> None:
    """Refuse a folder without a trained downstream task whose outputs are known.

    Raises:
        RunError: it lacks the files of one, or its component is unknown.
    """
    run = RunFolder(folder)
    if not run.labels.is_file() or not run.task.is_file():
        raise RunError(
            f"{folder} is no finished run of a downstream task",
            "labels.json or task.safetensors is missing",
            "fine-tune one: esmgn run --downstream TASK --init RUN; tasks: esmgn list downstream",
        )
    component = run.recorded_labels()[0]
    if component not in KNOWN:
        raise RunError(
            f"cannot predict with {folder}: its downstream component '{component}' is unknown, "
            "so that its outputs may be classes or quantities",
            f"components that can: {', '.join(KNOWN)}",
            f"its scores are in {run.results}, its raw outputs in {run.predictions}",
        )


def plddt_caveat(protein: Protein) -> str:
    """What a predicted structure's own confidence says against trusting it; empty if nothing."""
    if protein.plddt is None:
        return ""
    mean = float(protein.plddt.nanmean())
    unsure = float((protein.plddt < UNSURE).float().mean())
    said = []
    if mean < CONFIDENT:
        said.append(f"mean pLDDT {mean:.0f}, below {CONFIDENT:.0f}")
    if unsure > 0.2:
        said.append(f"{unsure:.0%} of residues below pLDDT {UNSURE:.0f}: likely disordered")
    return "; ".join(said)


def find_run(name: str, runs: Path = Path("runs")) -> Path:
    """The run folder that ``name`` is, else the newest one below ``runs`` with this downstream task.

    Raises:
        RunError: there is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    tasks = dict(_tasks(runs))
    downstream = discover().names(Kind.DOWNSTREAM)
    matching = [folder for folder, task in tasks.items() if task == name]
    if not matching:
        known = sorted(set(tasks.values()))
        task = name if name in downstream else "TASK"
        raise RunError(
            f"no run folder and no finished task '{name}' below {runs}",
            *(() if name in downstream else did_you_mean(name, [*known, *downstream])),
            f"tasks there: {', '.join(known) or 'none'}",
            f"fine-tune one: esmgn run --downstream {task} --init RUN",
        )
    return max(matching, key=lambda folder: RunFolder(folder).labels.stat().st_mtime)


def _tasks(runs: Path) -> Iterator[tuple[Path, str]]:
    registry = discover()
    for folder in sorted(runs.glob("*")) if runs.is_dir() else []:
        run = RunFolder(folder)
        if run.labels.is_file() and run.task.is_file():
            try:
                config = run_blueprint(EncoderFolder(folder), registry).config
            except EsmgnError:
                continue
            yield folder, config.task.name


def predict_files(
    predictor: Predictor, inputs: Sequence[Input], *, count: int
) -> Iterator[tuple[Protein, list[Prediction]] | Refusal]:
    """For each input its protein and predictions, or the reason why it has none.

    Raises:
        RunError: the task takes pairs of proteins.
    """
    predictor.check_single()
    for item in inputs:
        protein = item.read()
        if isinstance(protein, Refusal):
            yield protein
            continue
        try:
            yield protein, predictor.predict(protein, count=count)
        except EsmgnError as error:
            yield Refusal(item.path, error.message)
