"""Static models of model2vec: a vector a token, and their mean; hundreds of times faster than a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dallme.atomic import sha256_of
from dallme.data import Fingerprint
from dallme.embedders.base import Embedder, TextError
from dallme.errors import DallmeError, UnknownNameError
from dallme.models.locate import SENTENCE_TRANSFORMERS, as_folder, locate
from dallme.validation import check_positive

if TYPE_CHECKING:
    from model2vec import StaticModel
    from tokenizers import Tokenizer

#: What to do with a text of which no token is known.
UNKNOWN = ("error", "zero")


@dataclass(frozen=True)
class StaticEmbedder(Embedder):
    """A model2vec model: the mean of the vectors of a text's tokens, distilled from a sentence transformer.

    As with all means of token vectors a prompt moves all vectors the same way and tells the model nothing.

    Reference: Tulkens and van Dongen, "Model2Vec: Fast State-of-the-Art Static Embeddings", 2024.

    Attributes:
        model: Folder or Hub id.
        max_tokens: Tokens that are read of a text; 512 is the library's own limit. The library also cuts a text at as many
            characters as that many tokens of median length have.
        unknown: What becomes of a text of which no token is known: an ``error``, or a vector of ``zero``.
    """

    argument: ClassVar[str] = "model"
    chunk: ClassVar[int] = 2048

    model: str = "minishlab/potion-base-8M"
    max_tokens: int = 512
    unknown: str = "error"

    def __post_init__(self) -> None:
        """Checks the options; nothing is loaded."""
        check_positive(self.max_tokens, "max_tokens")
        if self.unknown not in UNKNOWN:
            raise UnknownNameError("value of unknown", self.unknown, UNKNOWN)

    @property
    def name(self) -> str:
        """``model2vec:`` and the Hub id, or the name of the folder."""
        folder = as_folder(self.model)
        return f"model2vec:{folder.resolve().name if folder else self.model}"

    def find(self) -> None:
        """Looks for the model's folder, and fetches it from the Hub if it is nowhere nearer."""
        _ = self._folder

    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Model, hash of its weights and tokenizer, dimension, tokens read, number format and prompt."""
        return Fingerprint(
            model=self.name,
            weights=sha256_of(self._files),
            dimension=int(self._loaded.dim),
            prompt=self.prefix(prompt) or None,
            pooling="mean" if self.unknown == "error" else "mean, or zero",
            max_tokens=self.max_tokens,
            precision=str(self._loaded.embedding.dtype),
        )

    @property
    def token_limit(self) -> int:
        """Tokens that are read of a text."""
        return self.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Counts the tokens of each text, unknown ones included; int64 of shape (n,)."""
        encoded = self._counter.encode_batch(list(texts), add_special_tokens=False)
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
            raise TextError(
                row,
                texts[row],
                f"has no token that {self.name} knows; drop it, or ask for zeros with --unknown-words zero",
            )
        return vectors

    @cached_property
    def _folder(self) -> Path:
        return locate(self.model, SENTENCE_TRANSFORMERS)

    @cached_property
    def _files(self) -> list[Path]:
        """The files that say what the vectors are."""
        return sorted(
            path
            for path in self._folder.rglob("*")
            if path.name == "tokenizer.json" or path.suffix == ".safetensors"
        )

    @cached_property
    def _loaded(self) -> StaticModel:
        from model2vec import StaticModel

        try:
            return StaticModel.from_pretrained(str(self._folder))
        except (
            Exception
        ) as error:  # the library raises many kinds: no such file, damaged weights, another kind of model
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DallmeError(
                f"expected a model2vec model in {self.model!r}, could not load it: {reason}"
            ) from error

    @cached_property
    def _counter(self) -> Tokenizer:
        """The tokenizer, without the limit that the library gives it."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self._loaded.tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
