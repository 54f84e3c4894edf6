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
from dallme.services import pricing as tokens
from dallme.services.client import Request, public_name
from dallme.services.concurrency import gather
from dallme.services.options import ServiceOptions
from dallme.services.pricing import Price, Usage, price_of
from dallme.validation import check_positive, is_private_line

#: What the service takes: tokens of a text, texts of a request, tokens of a request.
MAX_TOKENS, MAX_INPUTS, MAX_REQUEST_TOKENS = 8192, 2048, 300_000
#: Numbers of an answer, at most: as JSON text they take some 25 MB, and several answers are under way at a time.
MAX_NUMBERS = 2**20


@dataclass(frozen=True, eq=False)
class Prepared:
    """Texts as they are sent.

    Attributes:
        texts: With the prefix, cut where they are too long.
        tokens: Tokens of each, int64 of shape (n,).
        cut: How many were cut.
    """

    texts: list[str]
    tokens: np.ndarray
    cut: int


def prepare(texts: Sequence[str], prefix: str, limit: int | None) -> Prepared:
    """Puts the prefix before each text, counts tokens and cuts what is longer than the limit.

    Raises:
        InputError: If the prefix alone fills the limit.
    """
    sent = [prefix + text for text in texts]
    counts = tokens.count_tokens(sent)
    if limit is None:
        return Prepared(sent, counts, 0)
    if prefix and (used := int(tokens.count_tokens([prefix])[0])) >= limit:
        raise InputError(
            f"expected a prompt of fewer than {limit:,} tokens, which leaves room for a text, found {used:,}"
        )
    long = np.flatnonzero(counts > limit)
    for row in long:
        sent[row] = tokens.cut(sent[row], limit)
    counts[long] = limit
    return Prepared(sent, counts, len(long))


def pack(
    counts: np.ndarray, max_inputs: int, dimension: int | None, max_tokens: int | None
) -> list[np.ndarray]:
    """Divides texts, in their order, into requests that keep to the limits of the service and of this machine's memory.

    Args:
        counts: Tokens of each text, of shape (n,).
        max_inputs: Texts in a request, at most.
        dimension: Length of a vector, None if it is not known yet.
        max_tokens: Tokens in a request, at most, None for as many as the service takes.

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


def parse(body: bytes, rows: int) -> tuple[np.ndarray, Usage | None]:
    """Reads an answer.

    Args:
        body: The answer, as JSON.
        rows: Texts that were sent.

    Returns:
        float32 of shape (rows, d) in the order of the texts, and the tokens that the service charges, None if it does not say.

    Raises:
        ValueError: If it is not one finite vector a text; so are KeyError, TypeError, IndexError and AttributeError, for
            answers of another form.
    """
    answer = json.loads(body)
    items = answer["data"]
    if len(items) != rows:
        raise ValueError(f"{len(items)} vectors for {rows} texts")
    places = [item.get("index", row) for row, item in enumerate(items)]
    if sorted(places) != list(range(rows)):
        raise ValueError("indexes that are not those of the texts")
    vectors = np.empty((rows, len(items[0]["embedding"])), dtype=np.float32)
    for place, item in zip(places, items, strict=True):
        if len(item["embedding"]) != vectors.shape[1]:
            raise ValueError("vectors of different lengths")
        vectors[place] = item["embedding"]
    if not vectors.size or not np.isfinite(vectors).all():
        raise ValueError("vectors with NaN or infinity" if vectors.size else "empty vectors")
    charged = (answer.get("usage") or {}).get("prompt_tokens")
    return vectors, Usage(int(charged)) if charged else None


def note_of_cut(count: int, limit: int | None) -> str:
    """Says how many texts are longer than the limit."""
    return f"{count:,} {'text is' if count == 1 else 'texts are'} cut at {limit:,} tokens"


#: Dimensions of OpenAI's models.
DIMENSIONS = {"text-embedding-3-large": 3072, "text-embedding-3-small": 1536, "text-embedding-ada-002": 1536}


@dataclass(frozen=True)
class OpenAIEmbedder(ServiceOptions, Embedder):
    """A model behind OpenAI's embeddings protocol: at OpenAI, or at any server that speaks it.

    Several requests are under way at a time. One that fails in passing (429, 5xx, a time-out, a broken connection, half an
    answer) is sent again after a growing pause with jitter, or after the one that the service asks for. Each answer is handed
    over before the next request is sent, so that a store keeps what was paid for. The key comes from the environment variable
    OPENAI_API_KEY and is kept nowhere.

    The options of the service itself are those of :class:`~dallme.services.options.ServiceOptions`.

    Attributes:
        dimensions: Length of the vectors that is asked for; by default the model's own.
        max_tokens: Tokens read of a text, the rest is cut; by default 8,192 for OpenAI's models and no limit for others.
        max_inputs: Texts in one request, at most.
    """

    chunk: ClassVar[int] = 16_384
    picklable: ClassVar[bool] = False
    paid: ClassVar[bool] = True
    argument: ClassVar[str | None] = "model"

    part: ClassVar[str] = "embedder 'openai'"
    example: ClassVar[str] = "openai:text-embedding-3-large"
    wanted: ClassVar[str] = "embeddings"
    hint: ClassVar[str] = (
        "the server may take fewer or shorter texts than it was sent (max_inputs, max_tokens), or no dimensions"
    )

    model: str = "text-embedding-3-large"
    dimensions: int | None = None
    max_tokens: int | None = None
    max_inputs: int = MAX_INPUTS

    def __post_init__(self) -> None:
        """Checks the options; nothing is sent, and no key is looked for."""
        super().__post_init__()
        for name in ("dimensions", "max_tokens"):
            if getattr(self, name) is not None:
                check_positive(getattr(self, name), name)
        check_positive(self.max_inputs, "max_inputs")
        native = DIMENSIONS.get(self.model)
        if (
            self.dimensions
            and native
            and (self.dimensions > native or self.model == "text-embedding-ada-002")
        ):
            choice = (
                f"from 1 to {native}"
                if self.model != "text-embedding-ada-002"
                else f"of {native} only, and not asked for"
            )
            raise InputError(f"expected dimensions of {self.model} {choice}, found {self.dimensions}")

    @property
    def name(self) -> str:
        """``openai:`` and the model."""
        return f"openai:{self.model}"

    def fingerprint(self, prompt: str | None = None) -> Fingerprint:
        """Model, address, dimension, prefix and tokens read.

        A dimension that nobody told is asked for once, with one tiny request.
        """
        return self.fingerprint_of(self.known_dimension or self._learned_dimension, prompt)

    def fingerprint_of(self, dimension: int, prompt: str | None = None) -> Fingerprint:
        """The fingerprint of vectors of a given dimension, without asking the service."""
        return Fingerprint(
            model=self.name,
            weights=f"{public_name(self.address)}/{self.model}",
            dimension=dimension,
            prompt=self.prefix(prompt) or None,
            pooling="unknown",
            max_tokens=self.token_limit,
        )

    def prefix(self, prompt: str | None = None) -> str:
        """What is put before each text: as the model's family wants it."""
        return prefix_for(self.model, prompt)

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Counts tokens; exact for OpenAI's models, an estimate for others (see :attr:`counts_exactly`); int64 of shape (n,)."""
        return tokens.count_tokens(texts)

    @property
    def counts_exactly(self) -> bool:
        """Whether this machine counts tokens as the service does."""
        return self.model in DIMENSIONS

    @property
    def token_limit(self) -> int | None:
        """Tokens that are read of a text, None for all."""
        model_limit = MAX_TOKENS if self.model in DIMENSIONS else None
        return (
            min(self.max_tokens, model_limit)
            if self.max_tokens and model_limit
            else self.max_tokens or model_limit
        )

    @property
    def known_dimension(self) -> int | None:
        """Length of the vectors, None where only the service knows."""
        return self.dimensions or DIMENSIONS.get(self.model)

    @cached_property
    def resolved_price(self) -> Price:
        """What a token costs, and who says so."""
        return price_of(self.model, self.price)

    @property
    def spent_usd(self) -> float:  # type: ignore[override]
        """What this embedder's answered requests have cost, by the tokens that the service reports."""
        return self.costs.spent_usd

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the texts embedded so far."""
        cut = (f"{self.name}: {note_of_cut(self._cut[0], self.token_limit)}",) if self._cut[0] else ()
        open_line = f"{self.name}: texts went unencrypted to {public_name(self.address).partition('/')[0]}"
        return cut if is_private_line(self.address) else (*cut, open_line)

    def prepare(self, texts: Sequence[str], prompt: str | None = None) -> Prepared:
        """What would be sent for texts.

        Raises:
            InputError: If the prompt alone fills the limit.
        """
        return prepare(texts, self.prefix(prompt), self.token_limit)

    def pack(self, counts: np.ndarray) -> list[np.ndarray]:
        """Divides texts into requests by their tokens, of shape (n,); positions of each request."""
        return pack(counts, self.max_inputs, self.known_dimension, self.caps[1])

    def _embed(self, texts: list[str], prompt: str | None) -> np.ndarray:
        vectors: np.ndarray | None = None
        for rows, made in self._embed_batches(texts, prompt):
            vectors = np.empty((len(texts), made.shape[1]), dtype=np.float32) if vectors is None else vectors
            vectors[rows] = made
        assert vectors is not None
        return vectors

    def _embed_batches(self, texts: list[str], prompt: str | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        prepared = self.prepare(texts, prompt)
        self._cut[0] += prepared.cut

        def ask(rows: np.ndarray, sleep: Any) -> np.ndarray:
            return self._ask([prepared.texts[row] for row in rows], prepared.tokens[rows], sleep)

        yield from gather(ask, self.pack(prepared.tokens), self.concurrency)

    def _ask(self, texts: list[str], counts: np.ndarray, sleep: Any) -> np.ndarray:
        create = self.service.client.embeddings.with_raw_response.create
        request = {"model": self.model} | ({"dimensions": self.dimensions} if self.dimensions else {})
        vectors = self.service.ask(
            Request(
                lambda: create(input=texts, encoding_format="float", **request),
                lambda body: parse(body, len(texts)),
                Usage(int(counts.sum())),
                several=len(texts) > 1,
            ),
            sleep,
        )
        expected = self.known_dimension
        if expected and vectors.shape[1] != expected:
            raise ServiceError(
                f"expected vectors of {expected} dimensions from {self.name}, found {vectors.shape[1]}; "
                "the server does not know `dimensions`, or another model answers: give --dimensions as it is, or leave it out"
            )
        return vectors

    @cached_property
    def _learned_dimension(self) -> int:
        prepared = self.prepare(["dimension"])
        return int(self._ask(prepared.texts, prepared.tokens, sleep).shape[1])

    @cached_property
    def _cut(self) -> list[int]:
        """How many texts were cut so far: one number that can grow."""
        return [0]
