"""Named, calibrated predictions of a fine-tuned run for given structures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esmgn_core.batch import Encoding, Protein, ProteinBatch
from esmgn_core.errors import EsmgnError, RunError, did_you_mean
from esmgn_core.host.registry import discover
from esmgn_core.inference.inputs import Input
from esmgn_core.inference.model import Model, ModelName, load_model
from esmgn_core.inference.predict.calibration import Calibration, calibrated
from esmgn_core.inference.task import check_single, group_size, load_heads, output_of, run_blueprint
from esmgn_core.io import Refusal
from esmgn_core.model.encoder_folder import EncoderFolder
from esmgn_core.model.wrapper import EncoderWrapper
from esmgn_core.protocols import DownstreamTask, needs_layers, readout_of
from esmgn_core.run_folder import RunFolder
from esmgn_core.spec import Kind

CONFIDENT, UNSURE = 70.0, 50.0
"""pLDDT above which a backbone is reliable, and below which it is likely disordered (Jumper et al. 2021)."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction of one label for one protein.

    Attributes:
        protein: name of the protein.
        label: name of the class or quantity.
        score: probability, or value of the quantity.
        predicted: True if the score reaches the threshold; ``None`` for a quantity, and without a calibration
            for this label.
        caveat: warning about a structure of low confidence; empty if there is none.
    """

    protein: str
    label: str
    score: float
    predicted: bool | None
    caveat: str

    def row(self, *, decided: bool = True) -> dict[str, Any]:
        """A row of the table; ``decided``: with the column ``predicted``."""
        predicted = "" if self.predicted is None else ("yes" if self.predicted else "no")
        return {
            "protein": self.protein,
            "label": self.label,
            "score": round(self.score, 5),
            **({"predicted": predicted} if decided else {}),
            "caveat": self.caveat,
        }


class Predictor:
    """The encoder, heads and calibration of a fine-tuned run.

    Attributes:
        model: the encoder.
        task: the task with its trained heads.
        output: kind of output of the task.
        labels: names of the outputs.
        calibration: calibration of the logits.
        run: the run folder.

    Raises:
        RunError: it is not a fine-tuned run, or its task does not declare its output.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        registry = discover()
        self.run = RunFolder(folder)
        self.output = output_of(self.run, registry)
        _, self.labels = self.run.recorded_labels()
        self.model: Model = load_model(ModelName(folder=str(folder)), device=device, registry=registry)
        blueprint = run_blueprint(EncoderFolder(folder), registry)
        task: Any = blueprint.build(
            Kind.DOWNSTREAM, encoder_dim=self.model.output_dim, num_targets=len(self.labels)
        )
        load_heads(task, self.run)
        self.task: DownstreamTask = task.eval().requires_grad_(requires_grad=False).to(self.model.device)
        self.calibration = Calibration()
        if not self.is_number and self.task.group_size == 1:
            self.calibration = calibrated(self.run, exclusive=self.output == "classes")

    @property
    def is_number(self) -> bool:
        """True if the task predicts quantities, not classes."""
        return self.output == "values"

    @property
    def decides(self) -> bool:
        """True if labels are predicted, and not only scores."""
        return not self.is_number and self.task.group_size == 1 and not self.calibration.problem

    @property
    def warnings(self) -> list[str]:
        """Warnings about all predictions of this run."""
        if self.calibration.problem:
            return [f"scores are not calibrated and no label is predicted: {self.calibration.problem}"]
        warnings = [self.calibration.warning] if self.calibration.warning else []
        if number := len(self.calibration.unvalidated):
            labels = "1 label is" if number == 1 else f"{number} labels are"
            warnings.append(f"{labels} never predicted: no validation protein has it, or all have it")
        return warnings

    def row(self, prediction: Prediction) -> dict[str, Any]:
        """A row of the output table, with a column ``warning`` if the run has warnings."""
        warning = {"warning": "; ".join(self.warnings)} if self.warnings else {}
        return {**prediction.row(decided=self.decides), **warning}

    def outputs(self, protein: Protein) -> Tensor:
        """Calibrated probabilities or values of a protein, float32 [T].

        Raises:
            RunError: the task predicts for groups of proteins.
        """
        check_single(self.run, self.task.group_size)
        return self.scores([protein])[0]

    def scores(self, proteins: Sequence[Protein]) -> Tensor:
        """Probabilities or values, float32 [P, T], of P groups of consecutive proteins."""
        batch = ProteinBatch.from_proteins(proteins)
        encoding = self.model.encode(batch)
        with torch.inference_mode():
            outputs = self.task.predict(encoding, batch.to(self.model.device)).float().cpu()
        if self.is_number:
            return outputs
        return self.calibration.probabilities(outputs, exclusive=self.output == "classes")

    def predict(self, protein: Protein, *, count: int) -> list[Prediction]:
        """The ``count`` labels with the highest scores and all other predicted labels, best first."""
        scores = self.outputs(protein)
        order = (
            range(len(scores)) if self.is_number else scores.argsort(descending=True, stable=True).tolist()
        )
        caveat = plddt_caveat(protein)
        predictions = []
        for rank, index in enumerate(order):
            score = float(scores[index])
            predicted = self._predicted(score, rank, index)
            if self.is_number or rank < count or predicted:
                predictions.append(Prediction(protein.name, self.labels[index], score, predicted, caveat))
        return predictions

    def _predicted(self, score: float, rank: int, index: int) -> bool | None:
        if not self.decides or index in self.calibration.unvalidated:
            return None
        if self.output == "classes":
            return rank == 0
        return self.calibration.threshold is not None and score >= self.calibration.threshold

    @property
    def explains(self) -> bool:
        """Whether :meth:`importance` has an answer: the fuser reads the output of a sequence encoder."""
        joint = self.model.encoder
        return joint.sequence.output_dim > 0 and Kind.SEQ not in needs_layers(joint.fuser)

    def importance(self, protein: Protein, label: int) -> Tensor | None:
        """Gradient x input of each residue for the logit of one label, float32 [n].

        The input is the representation by the sequence encoder, which structure encoder and fuser read.
        Positive values raise the logit. ``None`` if :attr:`explains` is false.
        """
        if not self.explains:
            return None
        joint = self.model.encoder
        batch = ProteinBatch.from_proteins([protein]).to(self.model.device)
        with torch.no_grad():
            sequence = joint.reader(batch)(batch)
        residue = sequence.residue.float().detach().requires_grad_()
        reader = _FixedEncoding(joint.sequence, sequence, residue, batch)
        with torch.enable_grad():
            encoding = joint(batch, self.model.graph(batch), reader)
            logit = self.task.predict(encoding, batch)[0, label]
            (gradient,) = torch.autograd.grad(logit, residue)
        share: Tensor = gradient * residue
        return share.sum(1).detach().cpu()


class _FixedEncoding(EncoderWrapper):
    """A sequence encoder that returns a given encoding, differentiable in its residues."""

    def __init__(self, encoder: Any, encoding: Encoding, residue: Tensor, batch: ProteinBatch) -> None:
        super().__init__(encoder)
        # Zero in value: the protein representation keeps its value and gains a gradient.
        change = Encoding.from_residues(residue - residue.detach(), batch, readout_of(encoder)).protein
        self._encoding = Encoding(residue, encoding.protein.float().detach() + change)

    def __call__(self, batch: ProteinBatch) -> Encoding:  # noqa: ARG002 - signature of a sequence encoder
        return self._encoding


def check_predicts(folder: Path) -> None:
    """Refuse a run that cannot predict for single proteins.

    Raises:
        RunError: see :func:`esmgn_core.inference.task.output_of`, or the task predicts for groups.
    """
    run, registry = RunFolder(folder), discover()
    output_of(run, registry)
    check_single(run, group_size(run, registry))


def plddt_caveat(protein: Protein) -> str:
    """A warning if the pLDDT of a predicted structure is low; else empty."""
    if protein.plddt is None:
        return ""
    mean = float(protein.plddt.nanmean())
    unsure = float((protein.plddt < UNSURE).float().mean())
    warnings = []
    if mean < CONFIDENT:
        warnings.append(f"mean pLDDT {mean:.0f}, below {CONFIDENT:.0f}")
    if unsure > 0.2:
        warnings.append(f"{unsure:.0%} of residues below pLDDT {UNSURE:.0f}: likely disordered")
    return "; ".join(warnings)


def find_run(name: str, runs: Path = Path("runs")) -> Path:
    """The run folder ``name``, else the newest run below ``runs`` with the downstream task ``name``.

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
            f"no run folder '{name}', and no finished run of a task '{name}' in {runs}",
            *(() if name in downstream else did_you_mean(name, [*known, *downstream])),
            f"tasks with finished runs: {', '.join(known) or 'none'}",
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
    """Predict for inputs: the protein and its predictions, or a :class:`Refusal`, for each.

    Raises:
        RunError: the task predicts for groups of proteins.
    """
    check_single(predictor.run, predictor.task.group_size)
    for item in inputs:
        protein = item.read()
        if isinstance(protein, Refusal):
            yield protein
            continue
        try:
            yield protein, predictor.predict(protein, count=count)
        except EsmgnError as error:
            yield Refusal(item.path, error.message)
