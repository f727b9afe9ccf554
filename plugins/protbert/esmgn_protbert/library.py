"""The names of transformers that the plugin uses. No other module imports transformers."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from huggingface_hub import try_to_load_from_cache
    from transformers import BertConfig, BertForMaskedLM, BertModel

__all__ = ["BertConfig", "BertForMaskedLM", "BertModel", "try_to_load_from_cache"]
