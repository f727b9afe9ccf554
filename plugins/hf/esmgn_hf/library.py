"""The names of transformers that the plugin uses. No other module imports transformers."""

import os
import warnings
from typing import Any

# With only a .bin file in a repository, transformers would ask the Hub to convert it for everybody.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from huggingface_hub import try_to_load_from_cache
    from transformers import (
        MODEL_FOR_MASKED_LM_MAPPING,
        MODEL_FOR_TEXT_ENCODING_MAPPING,
        MODEL_MAPPING,
        AutoConfig,
        AutoTokenizer,
        BertConfig,
        EsmcConfig,  # noqa: F401 - the newest name that is needed: older versions fail here, with a message
    )
    from transformers.utils import logging as _logging

logging: Any = _logging
"""The library's log messages and progress bars; without types."""

__all__ = [
    "MODEL_FOR_MASKED_LM_MAPPING",
    "MODEL_FOR_TEXT_ENCODING_MAPPING",
    "MODEL_MAPPING",
    "AutoConfig",
    "AutoTokenizer",
    "BertConfig",
    "logging",
    "try_to_load_from_cache",
]
