"""What embedding a source would take, before it is done: texts, tokens, requests, money, time, disk."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from dallme.data import Fingerprint
from dallme.embedders.base import Embedder
from dallme.embedders.cache import EmbeddingStore
from dallme.embedders.openai import OpenAIEmbedder
from dallme.services.pricing import Usage
from dallme.text import KEY_BYTES, text_keys
from dallme.validation import check_positive, check_texts


@dataclass(frozen=True)
class Explanation:
    """How an embedder sees some texts.

    Attributes:
        embedder: Its name.
        prefix: What stands before each text.
        strings: The strings that are embedded, prefix and text, uncut.
        tokens: Tokens of each, special tokens included.
        token_limit: Tokens that are read of a string; None if all are.
        share_cut: Share of the strings, in [0, 1], that have more.
    """

    embedder: str
    prefix: str
    strings: tuple[str, ...]
    tokens: tuple[int, ...]
    token_limit: int | None
    share_cut: float


def explain(embedder: Embedder, texts: Sequence[str], *, prompt: str | None = None) -> Explanation:
    """Says what an embedder is given for each text, without embedding any.

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


#: Texts that a model on this machine embeds to see how long it takes.
SAMPLE = 64


@dataclass(frozen=True)
class Plan:
    """What embedding some texts would take.

    Attributes:
        embedder: Name of the embedder.
        rows: Texts.
        distinct: Different texts; each is embedded once.
        stored: How many of these the store holds.
        to_embed: How many are left.
        tokens: Tokens of those that are left, prefix included, cut where they are too long.
        tokens_are: How they were counted.
        cut: How many of those that are left are longer than the limit.
        token_limit: Tokens that are read of a text, None for all.
        requests: Requests to a service, None for a model on this machine.
        price_usd: What the service charges, 0 for a model on this machine, None if the price is not known.
        price_is: Where the price is from.
        seconds: How long it takes, None if that is not known.
        seconds_are: How that was found.
        disk_bytes: What the store grows by, None if the length of the vectors is not known.
        notes: What else the user should know.
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
        """Everything, for JSON."""
        return asdict(self) | {"notes": list(self.notes)}

    def for_rows(self, rows: int) -> Plan:
        """The plan for another number of rows like these: every count grows in proportion."""
        factor = check_positive(rows, "rows") / self.rows

        def grow(count: int | None) -> Any:
            return None if count is None else round(count * factor)

        return replace(
            self,
            rows=rows,
            distinct=grow(self.distinct),
            stored=grow(self.stored),
            to_embed=grow(self.to_embed),
            tokens=grow(self.tokens),
            cut=grow(self.cut),
            requests=grow(self.requests),
            price_usd=None if self.price_usd is None else self.price_usd * factor,
            seconds=None if self.seconds is None else self.seconds * factor,
            disk_bytes=grow(self.disk_bytes),
            notes=(*self.notes, f"scaled from {self.rows:,} rows to {rows:,}"),
        )


def make_plan(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    store: EmbeddingStore | None = None,
) -> Plan:
    """Says what embedding texts would take. No service is called; a model on this machine embeds a few texts to be timed.

    Args:
        embedder: What would embed.
        texts: n texts.
        prompt: Task prompt, or the name of a template.
        store: Where vectors are kept.

    Raises:
        InputError: If a text is unusable.
        StoreError: If the store cannot be read.
    """
    texts = check_texts(texts)
    distinct = list(dict.fromkeys(texts))
    service = embedder if isinstance(embedder, OpenAIEmbedder) else None
    fingerprint = _stored_fingerprint(service, prompt, store) if service else embedder.fingerprint(prompt)
    table = store.table(fingerprint) if store and fingerprint and fingerprint.weights != "unknown" else None
    held = table.lookup(text_keys(distinct)) if table is not None else np.zeros(len(distinct), dtype=bool)
    left = [text for text, there in zip(distinct, held, strict=True) if not there]
    found = _plan_service(service, left, prompt) if service else _plan_local(embedder, left, prompt)
    return Plan(
        embedder=embedder.name,
        rows=len(texts),
        distinct=len(distinct),
        stored=int(held.sum()),
        to_embed=len(left),
        disk_bytes=len(left) * (KEY_BYTES + 4 * fingerprint.dimension) if fingerprint else None,
        notes=()
        if fingerprint
        else ("the length of the vectors is known after the first request; --dimensions tells it now",),
        **found,
    )


def _plan_service(embedder: OpenAIEmbedder, texts: list[str], prompt: str | None) -> dict[str, Any]:
    """Tokens, requests, price and time of texts that a service would embed."""
    prepared = embedder.prepare(texts, prompt)
    tokens, requests = int(prepared.tokens.sum()), len(embedder.pack(prepared.tokens)) if texts else 0
    most_requests, most_tokens = embedder.caps
    minutes = max(
        requests / most_requests if most_requests else 0, tokens / most_tokens if most_tokens else 0
    )
    caps = [f"{cap:,} {what}" for cap, what in ((most_requests, "requests"), (most_tokens, "tokens")) if cap]
    price = embedder.resolved_price
    return {
        "tokens": tokens,
        "tokens_are": "exact"
        if embedder.counts_exactly
        else "estimated with the tokenizer of OpenAI's models",
        "cut": prepared.cut,
        "token_limit": embedder.token_limit,
        "requests": requests,
        "price_usd": None if price.usd_per_million is None else price.usd(Usage(tokens)),
        "price_is": str(price),
        "seconds": minutes * 60 if caps else None,
        "seconds_are": f"at {' and '.join(caps)} a minute"
        if caps
        else "the speed of the service is not known",
    }


def _plan_local(embedder: Embedder, texts: list[str], prompt: str | None) -> dict[str, Any]:
    """Tokens and time of texts that a model on this machine would embed."""
    prefix, limit = embedder.prefix(prompt), embedder.token_limit
    tokens = (
        embedder.count_tokens([prefix + text for text in texts]) if texts else np.zeros(0, dtype=np.int64)
    )
    own = type(embedder).count_tokens is not Embedder.count_tokens
    read = tokens if limit is None else np.minimum(tokens, limit)
    seconds, sample = _measure(embedder, texts, read, prompt) if texts else (0.0, 0)
    return {
        "tokens": int(read.sum()),
        "tokens_are": "exact" if own else "words and punctuation marks",
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
    """Seconds that all texts take, and the number of texts this was measured on.

    The texts are of middling length and next to each other in the order of lengths, as in the batches of a real run; what they
    take is scaled by tokens.
    """
    middle = max(0, len(texts) // 2 - SAMPLE // 2)
    rows = np.argsort(tokens, kind="stable")[middle : middle + SAMPLE]
    sample = [texts[row] for row in rows]
    embedder.embed(sample, prompt=prompt)  # weights load, and shapes are compiled, on first use
    started = time.perf_counter()
    embedder.embed(sample, prompt=prompt)
    return (time.perf_counter() - started) * float(tokens.sum() / tokens[rows].sum()), len(sample)


def _stored_fingerprint(
    embedder: OpenAIEmbedder, prompt: str | None, store: EmbeddingStore | None
) -> Fingerprint | None:
    """The fingerprint, if the length of the vectors is known: from the model, or from the only table of it in the store."""
    if embedder.known_dimension:
        return embedder.fingerprint_of(embedder.known_dimension, prompt)
    fitting = []
    for path in store.folder.glob("*/fingerprint.json") if store else ():
        with contextlib.suppress(OSError, ValueError, TypeError):  # no table of ours
            found = Fingerprint(**json.loads(path.read_text(encoding="utf-8")))
            if found == embedder.fingerprint_of(found.dimension, prompt):
                fitting.append(found)
    return fitting[0] if len(fitting) == 1 else None
