"""OpenAI's embedding models, and every service that speaks their protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import sleep
from typing import Any, ClassVar

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder
from dallme.embedders.prompts import prefix_for
from dallme.errors import InputError, ServiceError
from dallme.services.client import Request, public_name
from dallme.services.concurrency import gather
from dallme.services.options import ServiceOptions
from dallme.services.pricing import Price, Usage, count_tokens, cut, price_of
from dallme.validation import check_positive, is_private_line

#: Limits of the service: tokens per text, texts per request, tokens per request.
MAX_TOKENS, MAX_INPUTS, MAX_REQUEST_TOKENS = 8192, 2048, 300_000
#: Numbers per answer: about 25 MB as JSON text, of which several are in memory at a time.
MAX_NUMBERS = 2**20

#: Dimensions of OpenAI's models.
DIMENSIONS = {"text-embedding-3-large": 3072, "text-embedding-3-small": 1536, "text-embedding-ada-002": 1536}
#: The model that accepts no `dimensions`.
_FIXED_DIMENSIONS = "text-embedding-ada-002"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Texts as they are sent.

    Attributes:
        texts: Texts with the prefix, cut at the token limit.
        tokens: Tokens of each, int64 of shape (n,).
        cut: Number of texts that were cut.
    """

    texts: list[str]
    tokens: np.ndarray
    cut: int


def prepare(texts: Sequence[str], prefix: str, limit: int | None) -> Prepared:
    """Adds the prefix to each text, counts tokens and cuts texts at the limit.

    Raises:
        InputError: If the prefix alone reaches the limit.
    """
    prefixed = [prefix + text for text in texts]
    counts = count_tokens(prefixed)
    if limit is None:
        return Prepared(prefixed, counts, 0)
    if prefix and (used := int(count_tokens([prefix])[0])) >= limit:
        raise InputError(
            f"expected a prompt of fewer than {limit:,} tokens, which leaves room for a text, found {used:,}"
        )
    long = np.flatnonzero(counts > limit)
    for row in long:
        prefixed[row] = cut(prefixed[row], limit)
    counts[long] = limit
    return Prepared(prefixed, counts, len(long))


def pack(
    counts: np.ndarray, max_inputs: int, dimension: int | None, max_tokens: int | None
) -> list[np.ndarray]:
    """Divides texts, in their order, into requests within the limits of the service and of memory.

    Args:
        counts: Tokens of each text, of shape (n,).
        max_inputs: Maximum number of texts in a request.
        dimension: Length of a vector; None if unknown.
        max_tokens: Maximum number of tokens in a request; None for the limit of the service.

    Returns:
        Positions of the texts of each request.
    """
    most_inputs = min(max_inputs, MAX_INPUTS, max(1, MAX_NUMBERS // (dimension or 1024)))
    most_tokens = min(MAX_REQUEST_TOKENS, max_tokens or MAX_REQUEST_TOKENS)
    starts, total = [0], 0
    for row, count in enumerate(counts.tolist()):
        if row - starts[-1] >= most_inputs or (row > starts[-1] and total + count > most_tokens):
            starts.append(row)
            total = 0
        total += count
    return [np.arange(start, stop) for start, stop in zip(starts, [*starts[1:], len(counts)], strict=True)]


def parse(body: bytes, texts: Sequence[str]) -> tuple[np.ndarray, Usage | None]:
    """Parses an answer.

    Args:
        body: The answer, as JSON.
        texts: Texts of the request.

    Returns:
        float32 of shape (n, d) in the order of the texts, and the tokens charged; None if not reported.

    Raises:
        ValueError: If it is not one finite vector per text. KeyError, TypeError, IndexError and
            AttributeError stand for answers of another form.
    """
    rows, answer = len(texts), json.loads(body)
    items = answer["data"]
    if len(items) != rows:
        raise ValueError(f"{len(items)} vectors for {rows} texts")
    indexes = [item.get("index", row) for row, item in enumerate(items)]
    if sorted(indexes) != list(range(rows)):
        raise ValueError("indexes that are not those of the texts")
    vectors = np.empty((rows, len(items[0]["embedding"])), dtype=np.float32)
    for index, item in zip(indexes, items, strict=True):
        if len(item["embedding"]) != vectors.shape[1]:
            raise ValueError("vectors of different lengths")
        vectors[index] = item["embedding"]
    if not vectors.size:
        raise ValueError("empty vectors")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise ValueError(f"NaN or infinity in the vector of the text {shorten(texts[bad[0]])!r}")
    charged = (answer.get("usage") or {}).get("prompt_tokens")
    return vectors, Usage(int(charged)) if charged else None


def shorten(text: str) -> str:
    """Returns the first 60 characters of a text, for messages."""
    return text if len(text) <= 60 else f"{text[:60]}..."


@dataclass(frozen=True)
class OpenAIEmbedder(ServiceOptions, Embedder):
    """Embeds with a model behind OpenAI's embeddings protocol, at OpenAI or any compatible server.

    Several requests run at a time. Temporary failures (429, 5xx, a time-out, a broken connection, a partial
    answer) are retried with exponential backoff, or after the pause that the service requests. Each answer is
    yielded before the next request is sent, so that a store keeps everything that was paid for. The key comes
    from the environment variable OPENAI_API_KEY and is not stored.

    The options of the service are those of :class:`~dallme.services.options.ServiceOptions`.

    Attributes:
        dimensions: Length of the vectors; by default the model's own.
        max_tokens: Tokens read per text; the rest is cut. Default: 8,192 for OpenAI's models, else no limit.
        max_inputs: Maximum number of texts in one request.
    """

    chunk: ClassVar[int] = 16_384
    picklable: ClassVar[bool] = False
    paid: ClassVar[bool] = True
    argument: ClassVar[str | None] = "model"

    part: ClassVar[str] = "embedder 'openai'"
    example: ClassVar[str] = "openai:text-embedding-3-large"
    wanted: ClassVar[str] = "embeddings"
    hint: ClassVar[str] = (
        "the server may take fewer or shorter texts than it was sent (max_inputs, max_tokens), "
        "or no dimensions"
    )

    model: str = "text-embedding-3-large"
    dimensions: int | None = None
    max_tokens: int | None = None
    max_inputs: int = MAX_INPUTS

    def __post_init__(self) -> None:
        """Checks the options; nothing is sent, and the key is not read."""
        super().__post_init__()
        for name in ("dimensions", "max_tokens"):
            if getattr(self, name) is not None:
                check_positive(getattr(self, name), name)
        check_positive(self.max_inputs, "max_inputs")
        native, fixed = DIMENSIONS.get(self.model), self.model == _FIXED_DIMENSIONS
        if self.dimensions and native and (self.dimensions > native or fixed):
            choice = f"of {native} only, and not asked for" if fixed else f"from 1 to {native}"
            raise InputError(f"expected dimensions of {self.model} {choice}, found {self.dimensions}")

    @property
    def name(self) -> str:
        """``openai:`` and the model."""
        return f"openai:{self.model}"

    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Returns model, address, dimension, prefix and limit; may ask for the dimension once."""
        return self.fingerprint_of(self.known_dimension or self._learned_dimension, prompt)

    def fingerprint_of(self, dimension: int, prompt: str | None = None) -> Fingerprint:
        """Returns the fingerprint of vectors of a given dimension; the service is not asked."""
        return Fingerprint(
            model=self.name,
            weights=f"{public_name(self.address)}/{self.model}",
            dimension=dimension,
            prompt=self.prefix(prompt) or None,
            pooling="unknown",
            max_tokens=self.token_limit,
        )

    def prefix(self, prompt: str | None = None) -> str:
        """Returns the prefix of the model's family."""
        return prefix_for(self.model, prompt)

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Counts tokens; an estimate unless :attr:`counts_exactly`; int64 of shape (n,)."""
        return count_tokens(texts)

    @property
    def counts_exactly(self) -> bool:
        """Whether this machine counts tokens as the service does."""
        return self.model in DIMENSIONS

    @property
    def token_limit(self) -> int | None:
        """Tokens read per text; None if there is no limit."""
        limits = [limit for limit in (self.max_tokens, MAX_TOKENS if self.counts_exactly else None) if limit]
        return min(limits, default=None)

    @property
    def known_dimension(self) -> int | None:
        """Length of the vectors; None if only the service knows it."""
        return self.dimensions or DIMENSIONS.get(self.model)

    @cached_property
    def resolved_price(self) -> Price:
        """Price of a token, with its source."""
        return price_of(self.model, self.price)

    @property
    def spent_usd(self) -> float:  # type: ignore[override]
        """Cost of the answered requests, by the tokens that the service reports."""
        return self.costs.spent_usd

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on texts that were cut or sent unencrypted."""
        count = self._cut[0]
        lines = []
        if count:
            subject = "text is" if count == 1 else "texts are"
            lines.append(f"{self.name}: {count:,} {subject} cut at {self.token_limit:,} tokens")
        if not is_private_line(self.address):
            lines.append(
                f"{self.name}: texts went unencrypted to {public_name(self.address).partition('/')[0]}"
            )
        return tuple(lines)

    def prepare(self, texts: Sequence[str], prompt: str | None = None) -> Prepared:
        """Returns texts as they would be sent.

        Raises:
            InputError: If the prompt alone reaches the token limit.
        """
        return prepare(texts, self.prefix(prompt), self.token_limit)

    def pack(self, counts: np.ndarray) -> list[np.ndarray]:
        """Divides texts into requests by their tokens, of shape (n,); returns positions."""
        return pack(counts, self.max_inputs, self.known_dimension, self.caps[1])

    def _embed(self, texts: list[str], prompt: str | None) -> np.ndarray:
        batches = list(self._embed_batches(texts, prompt))
        vectors = np.empty((len(texts), batches[0][1].shape[1]), dtype=np.float32)
        for rows, batch in batches:
            vectors[rows] = batch
        return vectors

    def _embed_batches(self, texts: list[str], prompt: str | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        prepared = self.prepare(texts, prompt)
        self._cut[0] += prepared.cut

        def ask(rows: np.ndarray, sleep: Any) -> np.ndarray:
            return self._ask([prepared.texts[row] for row in rows], prepared.tokens[rows], sleep)

        yield from gather(ask, self.pack(prepared.tokens), self.concurrency)

    def _ask(self, texts: list[str], counts: np.ndarray, sleep: Any) -> np.ndarray:
        create = self.service.client.embeddings.with_raw_response.create
        options = {"model": self.model} | ({"dimensions": self.dimensions} if self.dimensions else {})
        vectors = self.service.ask(
            Request(
                lambda: create(input=texts, encoding_format="float", **options),
                lambda body: parse(body, texts),
                Usage(int(counts.sum())),
                several=len(texts) > 1,
            ),
            sleep,
        )
        expected = self.known_dimension
        if expected and vectors.shape[1] != expected:
            raise ServiceError(
                f"expected vectors of {expected} dimensions from {self.name}, found {vectors.shape[1]}; the "
                "server does not know `dimensions`, or another model answers: give embedder.dimensions "
                "as it is, or leave it out"
            )
        return vectors

    @cached_property
    def _learned_dimension(self) -> int:
        prepared = self.prepare(["dimension"])
        return int(self._ask(prepared.texts, prepared.tokens, sleep).shape[1])

    @cached_property
    def _cut(self) -> list[int]:
        """Number of texts cut so far, in a list of one because the dataclass is frozen."""
        return [0]
