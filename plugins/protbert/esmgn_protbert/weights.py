"""Loading of ProtBERT's weights in the format of Hugging Face, from a folder or the Hub."""

from pathlib import Path
from typing import Any

from esmgn_core.errors import WeightsError
from esmgn_core.weights import offline
from esmgn_protbert.library import BertConfig, try_to_load_from_cache
from esmgn_protbert.tokens import VOCABULARY

_FILES = ("model.safetensors", "pytorch_model.bin")


def load(kind: type[Any], source: Path | str, **options: Any) -> Any:
    """Load a model of class ``kind`` with the weights of a folder or a repository.

    Raises:
        WeightsError: the weights cannot be downloaded or read, are not ProtBERT's, or lack tensors.
    """
    if isinstance(source, Path):
        _check_folder(source)
    local = bool(offline(hub=True))
    try:
        config = BertConfig.from_pretrained(source, local_files_only=local)
        _check_config(source, config)
        model, report = kind.from_pretrained(
            source, config=config, local_files_only=local, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"cannot load ProtBERT from {source}: {reason}",
            "set a folder with config.json and weights: --set seq.weights=FOLDER",
            "or start from random weights: --set seq.weights=random",
        ) from error
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise WeightsError(
            f"weights in {source} lack {', '.join(missing[:5])}{more}",
            "leave the language-model head out: --set seq.lm_head=false",
        )
    return model


def weights_file(source: Path | str) -> Path | None:
    """Path of the file of weights in a folder or in the cache of the Hub."""
    for name in _FILES:
        found = source / name if isinstance(source, Path) else try_to_load_from_cache(source, name)
        if isinstance(found, str | Path) and Path(found).is_file():
            return Path(found)
    return None


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"no model in {folder}: config.json is missing (seq.weights)",
            "expected a folder in the format of Hugging Face, such as a copy of Rostlab/prot_bert_bfd",
        )
    vocabulary = folder / "vocab.txt"
    if vocabulary.is_file() and tuple(vocabulary.read_text().split()) != VOCABULARY:
        raise WeightsError(f"{vocabulary} is not ProtBERT's vocabulary")


def _check_config(source: Path | str, config: Any) -> None:
    if config.model_type != "bert" or config.vocab_size != len(VOCABULARY):
        raise WeightsError(
            f"the model in {source} is not ProtBERT: {config.model_type} with {config.vocab_size} tokens, "
            f"expected bert with {len(VOCABULARY)}"
        )
