"""Encoders around other encoders."""

from __future__ import annotations

from typing import Any

from esmgn_core.settings import ComponentSettings


class EncoderWrapper:
    """An encoder that changes how another one is called; every other member is that of the inner one.

    Args:
        encoder: the inner encoder.
    """

    def __init__(self, encoder: Any) -> None:
        self.output_dim: int = encoder.output_dim
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    @property
    def Settings(self) -> type[ComponentSettings]:  # noqa: N802 - as in the contract
        """Settings of the inner encoder."""
        settings: type[ComponentSettings] = self._encoder.Settings
        return settings
