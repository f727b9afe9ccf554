"""Models and tokenizers of transformers from a folder or the Hugging Face Hub, without running their code."""

import importlib.util
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from esmgn_core.errors import SettingsError, WeightsError
from esmgn_core.weights import offline, sha256_of_files
from esmgn_hf.library import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoTokenizer,
    logging,
    try_to_load_from_cache,
)

_FILES = ("model.safetensors", "pytorch_model.bin")
NOT_READ = ("pooler.", "contact_head.")
"""Parts of encoders that representations do not depend on."""
_FOR_SENTENCE_PIECES = {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf"}


class Source(NamedTuple):
    """A model: a folder in the format of Hugging Face, or a repository on the Hub.

    Attributes:
        model: absolute path of the folder, or ``ORG/NAME``.
        revision: commit, tag or branch of the repository; ``None`` for its main branch.
        setting: the setting with the folder, for messages.
        hints: what to do if the model cannot be loaded.
    """

    model: str
    revision: str | None = None
    setting: str = "seq.model"
    hints: tuple[str, ...] = ("set a folder with config.json, weights and tokenizer: --set seq.model=FOLDER",)

    @property
    def folder(self) -> Path | None:
        """The folder; ``None`` for a repository."""
        return Path(self.model) if Path(self.model).is_absolute() else None

    def options(self) -> dict[str, Any]:
        """Arguments of every ``from_pretrained``."""
        local = bool(offline(hub=True)) or self.folder is not None
        return {"revision": self.revision or "main", "local_files_only": local, "trust_remote_code": False}

    def __str__(self) -> str:
        return f"{self.model} at {self.revision}" if self.revision else self.model


def read_config(source: Source) -> Any:
    """The configuration of a model.

    Raises:
        WeightsError: there is no model, or transformers cannot load it without code of the repository.
    """
    if source.folder and not (source.folder / "config.json").is_file():
        raise WeightsError(
            f"no model in {source}: config.json is missing ({source.setting})",
            "expected a folder in the format of Hugging Face, with config.json, weights and tokenizer",
        )
    with _reading(source):
        return AutoConfig.from_pretrained(source.model, **source.options())


def read_tokenizer(source: Source) -> Any:
    """The tokenizer of a model.

    Raises:
        WeightsError: there is no tokenizer, or a package for it is missing.
    """
    with _reading(source):
        try:
            return AutoTokenizer.from_pretrained(source.model, **source.options())
        except (ImportError, ValueError) as error:
            missing = [pip for module, pip in _FOR_SENTENCE_PIECES.items() if not _is_importable(module)]
            if not missing:
                raise
            raise WeightsError(
                f"the tokenizer of {source} needs {' and '.join(missing)}",
                "install it: pip install 'esmgn[transformers]'",
            ) from error


def model_class(config: Any, source: Source, *, lm_head: bool) -> type[Any]:
    """The class that runs the encoder of a model, with or without its language-model head.

    Raises:
        WeightsError: transformers has no such encoder.
        SettingsError: models of this type have no language-model head.
    """
    if lm_head:
        if found := MODEL_FOR_MASKED_LM_MAPPING.get(type(config), None):
            return _one(found)
        raise SettingsError(
            f"{source} has no language-model head: models of type {config.model_type} are encoders alone",
            "leave it out: --set seq.lm_head=false",
        )
    # T5Model, the general class of T5, would add a decoder with random weights.
    found = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    if found is None and not config.is_encoder_decoder:
        found = MODEL_MAPPING.get(type(config), None)
    if found is None:
        raise WeightsError(f"transformers has no encoder for models of type {config.model_type} ({source})")
    return _one(found)


def build(kind: type[Any], config: Any) -> Any:
    """A model with random weights."""
    return kind(config, **_options(kind))


def load(kind: type[Any], source: Source, config: Any) -> Any:
    """A model with the weights of a folder or repository, in float32.

    Raises:
        WeightsError: the weights cannot be downloaded or read, do not fit, or lack tensors that the output
            depends on.
    """
    with _reading(source):
        model, report = kind.from_pretrained(
            source.model,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            **source.options(),
            **_options(kind),
        )
    missing = sorted(
        name for name in report["missing_keys"] if not any(f".{part}" in f".{name}" for part in NOT_READ)
    )
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise WeightsError(
            f"weights in {source} lack {', '.join(missing[:5])}{more}",
            "leave the language-model head out: --set seq.lm_head=false",
        )
    return model


def weights_digest(source: Source) -> str | None:
    """SHA-256 of the files of weights; ``None`` if there are none."""
    for name in _FILES:
        if file := _file(source, name):
            return sha256_of_files([file])
        if index := _file(source, f"{name}.index.json"):
            parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            return sha256_of_files([index.parent / part for part in parts])
    return None


def _file(source: Source, name: str) -> Path | None:
    """Path of a file in a folder or in the cache of the Hub."""
    if source.folder:
        found: Any = source.folder / name
    else:
        found = try_to_load_from_cache(source.model, name, revision=source.revision)
    return Path(found) if isinstance(found, str | Path) and Path(found).is_file() else None


def _one(found: Any) -> type[Any]:
    """The class of an entry of a mapping, which may have several."""
    kind: type[Any] = found[0] if isinstance(found, tuple) else found
    return kind


def _options(kind: type[Any]) -> dict[str, Any]:
    pooling = "add_pooling_layer"
    return {pooling: False} if pooling in inspect.signature(kind.__init__).parameters else {}


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the parent
        return False


@contextmanager
def _reading(source: Source) -> Iterator[None]:
    """Turn errors of transformers into messages, and leave out its progress bars and advice."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise _unreadable(source, error) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _unreadable(source: Source, error: Exception) -> WeightsError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    forbidden = offline(hub=True)
    hints = list(source.hints)
    if "trust_remote_code" in str(error):
        reason = "it needs code of its repository, which esmgn does not run"
    elif forbidden and not source.folder:
        reason = f"it is not in the cache of the Hub, and {forbidden} is set"
        revision = f" --revision {source.revision}" if source.revision else ""
        hints.insert(0, f"download it once: hf download {source.model}{revision}")
    return WeightsError(f"cannot load {source}: {reason}", *hints)
