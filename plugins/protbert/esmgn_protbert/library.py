"""The names of transformers that the plugin uses. No other module imports transformers.

Raises:
    PluginError: on import, when transformers is missing.
"""

import warnings

from esmgn_core.errors import PluginError

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from huggingface_hub import try_to_load_from_cache
        from transformers import BertConfig, BertForMaskedLM, BertModel
except ImportError as error:
    raise PluginError(
        f"the sequence encoder protbert needs transformers, which cannot be imported: {error}",
        "install it: pip install 'esmgn[transformers]'",
        "or choose another encoder: esmgn list seq",
    ) from error

__all__ = ["BertConfig", "BertForMaskedLM", "BertModel", "try_to_load_from_cache"]
