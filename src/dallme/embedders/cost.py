"""Cost of embedding a source, before it is embedded: texts, tokens, requests, money, time and disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder
from dallme.embedders.cache import EmbeddingStore, open_table
from dallme.embedders.openai import OpenAIEmbedder
from dallme.progress import SilentProgress
from dallme.services.pricing import Usage
from dallme.text import KEY_BYTES, text_keys
from dallme.validation import check_positive, check_texts

#: Texts on which the speed of a local model is measured.
SAMPLE = 64


@dataclass(frozen=True)
class Explanation:
    """Input of an embedder for some texts.

    Attributes:
        embedder: Name of the embedder.
        prefix: String that precedes each text.
        strings: Strings that are embedded, prefix and text, before they are cut.
        tokens: Tokens of each string, special tokens included.
        token_limit: Tokens read per string; None if there is no limit.
        share_cut: Share of the strings above the limit, in [0, 1].
    """

    embedder: str
    prefix: str
    strings: tuple[str, ...]
    tokens: tuple[int, ...]
    token_limit: int | None
    share_cut: float


def explain(embedder: Embedder, texts: Sequence[str], *, prompt: str | None = None) -> Explanation:
    """Describes the input of an embedder for each text; nothing is embedded.

    Args:
        embedder: The embedder.
        texts: n texts.
        prompt: Task prompt, or the name of a template.

    Raises:
        InputError: If there is no text or one is unusable.
    """
    prefix = embedder.prefix(prompt)
    strings = tuple(prefix + text for text in check_texts(texts))
    tokens = embedder.count_tokens(strings)
    limit = embedder.token_limit
    share_cut = 0.0 if limit is None else float(np.mean(tokens > limit))
    return Explanation(embedder.name, prefix, strings, tuple(tokens.tolist()), limit, share_cut)


@dataclass(frozen=True)
class Plan:
    """Cost of embedding some texts.

    Attributes:
        embedder: Name of the embedder.
        rows: Number of texts.
        distinct: Number of distinct texts; each is embedded once.
        stored: Number of distinct texts in the store.
        to_embed: Number of distinct texts to embed.
        tokens: Tokens of the texts to embed, with the prefix, cut at the limit.
        tokens_are: Method of the token count.
        cut: Number of texts to embed above the limit.
        token_limit: Tokens read per text; None if there is no limit.
        requests: Requests to a service; None for a local model.
        price_usd: Price of the service; 0 for a local model, None if unknown.
        price_is: Source of the price.
        seconds: Duration; None if unknown.
        seconds_are: Origin of the duration.
        disk_bytes: Growth of the store; None if the dimension is unknown.
        notes: Further remarks for the user.
    """

    embedder: str
    rows: int
    distinct: int
    stored: int
    to_embed: int
    tokens: int
    tokens_are: str
    cut: int
    token_limit: int | None
    requests: int | None
    price_usd: float | None
    price_is: str
    seconds: float | None
    seconds_are: str
    disk_bytes: int | None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns all fields, for JSON."""
        return asdict(self) | {"notes": list(self.notes)}

    def for_rows(self, rows: int) -> Plan:
        """Scales every count in proportion to another number of rows."""
        factor = check_positive(rows, "rows") / self.rows
        counts = ("distinct", "stored", "to_embed", "tokens", "cut", "requests", "disk_bytes")
        values = {name: getattr(self, name) for name in (*counts, "price_usd", "seconds")}
        scaled: dict[str, Any] = {
            name: value if value is None else round(value * factor) if name in counts else value * factor
            for name, value in values.items()
        }
        notes = (*self.notes, f"scaled from {self.rows:,} rows to {rows:,}")
        return replace(self, rows=rows, notes=notes, **scaled)


def make_plan(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    store: EmbeddingStore | None = None,
) -> Plan:
    """Estimates the cost of embedding texts. No service is called; a local model is timed on a sample.

    Args:
        embedder: The embedder.
        texts: n texts.
        prompt: Task prompt, or the name of a template.
        store: Store of the vectors.

    Raises:
        InputError: If a text is unusable.
        StoreError: If the store cannot be read.
    """
    texts = check_texts(texts)
    distinct = list(dict.fromkeys(texts))
    service = embedder if isinstance(embedder, OpenAIEmbedder) else None
    fingerprint = _stored_fingerprint(service, prompt, store) if service else embedder.fingerprint(prompt)
    stored = np.zeros(len(distinct), dtype=bool)
    if store and fingerprint and fingerprint.weights != "unknown":
        table = open_table(store, embedder, fingerprint, prompt, SilentProgress())
        stored = table.lookup(text_keys(distinct))
    missing = [text for text, known in zip(distinct, stored, strict=True) if not known]
    cost = _plan_service(service, missing, prompt) if service else _plan_local(embedder, missing, prompt)
    unknown = (
        "the length of the vectors is known after the first request; "
        "set it now with --set embedder.dimensions=N",
    )
    return Plan(
        embedder=embedder.name,
        rows=len(texts),
        distinct=len(distinct),
        stored=int(stored.sum()),
        to_embed=len(missing),
        disk_bytes=len(missing) * (KEY_BYTES + 4 * fingerprint.dimension) if fingerprint else None,
        notes=() if fingerprint else unknown,
        **cost,
    )


def _plan_service(embedder: OpenAIEmbedder, texts: list[str], prompt: str | None) -> dict[str, Any]:
    """Returns tokens, requests, price and duration for texts that a service embeds."""
    prepared = embedder.prepare(texts, prompt)
    tokens, requests = int(prepared.tokens.sum()), len(embedder.pack(prepared.tokens)) if texts else 0
    caps = [
        (cap, count, unit)
        for cap, count, unit in zip(embedder.caps, (requests, tokens), ("requests", "tokens"), strict=True)
        if cap
    ]
    rates = " and ".join(f"{cap:,} {unit}" for cap, _, unit in caps)
    price, exact = embedder.resolved_price, embedder.counts_exactly
    return {
        "tokens": tokens,
        "tokens_are": "exact" if exact else "estimated with the tokenizer of OpenAI's models",
        "cut": prepared.cut,
        "token_limit": embedder.token_limit,
        "requests": requests,
        "price_usd": None if price.usd_per_million is None else price.usd(Usage(tokens)),
        "price_is": str(price),
        "seconds": max(count / cap for cap, count, _ in caps) * 60 if caps else None,
        "seconds_are": f"at {rates} a minute" if caps else "the speed of the service is not known",
    }


def _plan_local(embedder: Embedder, texts: list[str], prompt: str | None) -> dict[str, Any]:
    """Returns tokens and duration for texts that a local model embeds."""
    prefix, limit = embedder.prefix(prompt), embedder.token_limit
    tokens = np.zeros(0, dtype=np.int64)
    seconds, sample = 0.0, 0
    if texts:
        tokens = embedder.count_tokens([prefix + text for text in texts])
    read = tokens if limit is None else np.minimum(tokens, limit)
    if texts:
        seconds, sample = _measure(embedder, texts, read, prompt)
    has_tokenizer = type(embedder).count_tokens is not Embedder.count_tokens
    return {
        "tokens": int(read.sum()),
        "tokens_are": "exact" if has_tokenizer else "words and punctuation marks",
        "cut": 0 if limit is None else int((tokens > limit).sum()),
        "token_limit": limit,
        "requests": None,
        "price_usd": 0.0,
        "price_is": "on this machine",
        "seconds": seconds,
        "seconds_are": f"measured on {sample} of the texts" if sample else "nothing is left to do",
    }


def _measure(
    embedder: Embedder, texts: list[str], tokens: np.ndarray, prompt: str | None
) -> tuple[float, int]:
    """Returns the seconds that all texts take, scaled by tokens, and the size of the sample.

    The sample has texts of medium, similar length, like a batch of a real run.
    """
    middle = max(0, len(texts) // 2 - SAMPLE // 2)
    rows = np.argsort(tokens, kind="stable")[middle : middle + SAMPLE]
    sample = [texts[row] for row in rows]
    embedder.embed(sample, prompt=prompt)  # weights load, and shapes compile, on first use
    started = time.perf_counter()
    embedder.embed(sample, prompt=prompt)
    return (time.perf_counter() - started) * float(tokens.sum() / tokens[rows].sum()), len(sample)


def _stored_fingerprint(
    embedder: OpenAIEmbedder, prompt: str | None, store: EmbeddingStore | None
) -> Fingerprint | None:
    """Returns the fingerprint if the model, or its only table in the store, gives the dimension."""
    if embedder.known_dimension:
        return embedder.fingerprint_of(embedder.known_dimension, prompt)
    matching = [
        fingerprint
        for fingerprint in (store.fingerprints() if store else ())
        if fingerprint == embedder.fingerprint_of(fingerprint.dimension, prompt)
    ]
    return matching[0] if len(matching) == 1 else None
