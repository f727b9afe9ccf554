"""Plugin ``trackers``: TensorBoard, Weights & Biases and MLflow."""

from __future__ import annotations

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    return [
        ComponentSpec(
            Kind.TRACKER,
            "tensorboard",
            "esmgn_trackers.to_tensorboard:TensorBoard",
            "TensorBoard event files in the run folder",
        ),
        ComponentSpec(
            Kind.TRACKER,
            "wandb",
            "esmgn_trackers.to_wandb:WandB",
            "Weights & Biases",
            requires={"wandb": "esmgn[wandb]"},
        ),
        ComponentSpec(
            Kind.TRACKER,
            "mlflow",
            "esmgn_trackers.to_mlflow:MLflow",
            "MLflow, on a server or in the run folder",
            requires={"mlflow": "esmgn[mlflow]"},
        ),
    ]
