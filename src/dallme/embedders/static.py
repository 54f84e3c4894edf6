"""Static models of model2vec: the mean of one vector per token, much faster than a transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder, TextError, check_unknown, release_of
from dallme.errors import DallmeError
from dallme.files.atomic import sha256_of
from dallme.models.locate import SENTENCE_TRANSFORMERS, as_folder, locate
from dallme.validation import check_positive

if TYPE_CHECKING:
    from model2vec import StaticModel
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class StaticEmbedder(Embedder):
    """Averages the token vectors of a model2vec model, which was distilled from a sentence transformer.

    A prompt shifts all vectors alike and carries no information, as with every mean of token vectors.

    Reference: Tulkens and van Dongen, "Model2Vec: Fast State-of-the-Art Static Embeddings", 2024.

    Attributes:
        model: Folder or Hub id.
        max_tokens: Tokens read per text; 512 is the library's own limit. The library also cuts a text at the
            characters of that many tokens of median length.
        unknown: Treatment of a text without known tokens: ``error``, or ``zero`` for a vector of zeros.
    """

    argument: ClassVar[str] = "model"
    chunk: ClassVar[int] = 2048

    model: str = "minishlab/potion-base-8M"
    max_tokens: int = 512
    unknown: str = "error"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        check_positive(self.max_tokens, "max_tokens")
        check_unknown(self.unknown)

    @property
    def name(self) -> str:
        """``model2vec:`` and the Hub id, or the name of the folder."""
        folder = as_folder(self.model)
        return f"model2vec:{folder.resolve().name if folder else self.model}"

    def find(self) -> None:
        """Locates the model's folder; fetches it from the Hub if this machine has none."""
        _ = self._folder

    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Returns model, hash of weights and tokenizer, dimension, limit, number format and prompt."""
        return Fingerprint(
            model=self.name,
            weights=self._weights_hash,
            dimension=int(self._loaded.dim),
            prompt=self.prefix(prompt) or None,
            pooling="mean" if self.unknown == "error" else "mean, or zero",
            max_tokens=self.max_tokens,
            precision=str(self._loaded.embedding.dtype),
        )

    @property
    def libraries(self) -> Mapping[str, str]:
        """Releases of the packages that tokenise and average."""
        return release_of("model2vec", "tokenizers")

    @property
    def token_limit(self) -> int:
        """Tokens read per text."""
        return self.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Counts the tokens of each text, unknown ones included; int64 of shape (n,)."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return np.array([len(encoding.ids) for encoding in encoded], dtype=np.int64)

    def _embed(self, texts: list[str], prompt: str | None) -> np.ndarray:
        prefix = self.prefix(prompt)
        prefixed = [prefix + text for text in texts]
        vectors = np.asarray(
            self._loaded.encode(prefixed, max_length=self.max_tokens, use_multiprocessing=False)
        )
        empty = np.flatnonzero(~vectors.any(axis=1))
        if empty.size and self.unknown == "error":
            row = int(empty[0])
            problem = (
                f"has no token that {self.name} knows; drop it, "
                "or ask for zeros with --set embedder.unknown=zero"
            )
            raise TextError(row, texts[row], problem)
        return vectors

    @cached_property
    def _folder(self) -> Path:
        return locate(self.model, SENTENCE_TRANSFORMERS)

    @cached_property
    def _weights_hash(self) -> str:
        files = self._folder.rglob("*")
        return sha256_of(
            sorted(path for path in files if path.name == "tokenizer.json" or path.suffix == ".safetensors")
        )

    @cached_property
    def _loaded(self) -> StaticModel:
        from model2vec import StaticModel

        try:
            return StaticModel.from_pretrained(str(self._folder))
        except Exception as error:  # the library raises many kinds for a missing or damaged file
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DallmeError(
                f"expected a model2vec model in {self.model!r}, could not load it: {reason}"
            ) from error

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """The model's tokenizer without the library's truncation."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self._loaded.tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
