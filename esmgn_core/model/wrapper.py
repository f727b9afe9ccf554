"""Base class of encoders that wrap another encoder."""

from __future__ import annotations

from typing import Any

from esmgn_core.protocols import optional_members
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind


class EncoderWrapper:
    """Wraps an encoder and forwards every attribute that the wrapper does not define.

    Members of the optional protocols are copied to the wrapper: from Python 3.12 on, ``isinstance`` with a
    protocol ignores attributes that ``__getattr__`` forwards.

    Args:
        encoder: the wrapped encoder.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.output_dim: int = encoder.output_dim
        for name in optional_members(Kind.SEQ):
            if hasattr(encoder, name) and not hasattr(type(self), name):
                setattr(self, name, getattr(encoder, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    @property
    def Settings(self) -> type[ComponentSettings]:  # noqa: N802 - as in the contract
        """Settings of the wrapped encoder."""
        settings: type[ComponentSettings] = self._encoder.Settings
        return settings
