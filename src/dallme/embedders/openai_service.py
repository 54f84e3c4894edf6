"""Requests to a service that speaks OpenAI's protocol: asked, checked, asked again; several at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from dallme.embedders.pacing import Pacer, Sleep, backoff, retry_after
from dallme.embedders.pricing import Ledger
from dallme.errors import ServiceError

#: Answers that say to ask again; so does every one from 500 on.
_PASSING = (408, 409, 429)
#: Longest pause, in seconds, that a service may ask for.
LONGEST_PAUSE = 900.0
#: What is sent as the key where none is needed.
NO_KEY = "none"
_KEPT = "what is answered is kept where a store is used: run the same again to continue"


@dataclass(frozen=True)
class _Failure:
    """Why an attempt failed, in a few words; whether another may help, and in how many seconds the service wants it."""

    reason: str
    passing: bool = True
    asked: float | None = None
    status: int | None = None


class _StoppedError(Exception):
    """Another request failed for good while this one was waiting."""


class Service:
    """One model at one address.

    Attributes:
        max_inputs: Texts that it takes in one request; learned where a server says that it was given too many.
    """

    def __init__(
        self, client: Any, request: dict[str, Any], ledger: Ledger, pacer: Pacer, *, max_retries: int, first_pause: float
    ) -> None:
        """Keeps the official client, whose own retries are off, and what goes with every request (the model, dimensions)."""
        self._client = client
        self._request = request
        self._ledger = ledger
        self._pacer = pacer
        self._max_retries = max_retries
        self._first_pause = first_pause
        self.max_inputs: int | None = None

    def ask(self, texts: Sequence[str], tokens: np.ndarray, sleep: Sleep) -> np.ndarray:
        """Embeds texts in one request, or in several if the server takes fewer at a time.

        Args:
            texts: n texts.
            tokens: The tokens of each, of shape (n,).
            sleep: Waits some seconds.

        Returns:
            float32 of shape (n, d), in the order of the texts.

        Raises:
            ServiceError: If the service refuses, or fails more often than it may.
            BudgetError: If the budget could be exceeded.
        """
        parts: list[np.ndarray] = []
        start = 0
        while start < len(texts):
            stop = min(len(texts), start + (self.max_inputs or len(texts)))
            found = self._persist(texts[start:stop], int(tokens[start:stop].sum()), sleep)
            if isinstance(found, _Failure):
                self.max_inputs = max(1, (stop - start) // 2)
                continue
            parts.append(found)
            start = stop
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _persist(self, texts: Sequence[str], tokens: int, sleep: Sleep) -> np.ndarray | _Failure:
        """Asks until there is an answer; a failure is returned only if fewer texts at a time may help."""
        for attempt in range(self._max_retries + 1):
            self._pacer.wait(tokens, sleep)
            found = self._attempt(texts, tokens)
            if isinstance(found, np.ndarray) or (found.status == 413 and len(texts) > 1):
                return found
            if not found.passing:
                raise ServiceError(f"expected embeddings from {self._address}, {found.reason}")
            if found.asked is not None and found.asked > LONGEST_PAUSE:
                raise ServiceError(
                    f"expected embeddings from {self._address}, found {found.reason} and the wish to be left alone for "
                    f"{found.asked:.0f} seconds; {_KEPT}"
                )
            if attempt < self._max_retries:
                sleep(backoff(attempt, self._first_pause, found.asked))
        raise ServiceError(
            f"expected embeddings from {self._address}, found {self._max_retries + 1} failures in a row, "
            f"the last: {found.reason}; {_KEPT}"
        )

    def _attempt(self, texts: Sequence[str], tokens: int) -> np.ndarray | _Failure:
        """Sends one request and keeps the account; the vectors, or why there are none."""
        import openai

        self._ledger.begin(tokens)
        try:
            raw = self._client.embeddings.with_raw_response.create(input=list(texts), encoding_format="float", **self._request)
        except openai.APIStatusError as error:
            self._ledger.refused(tokens)
            return self._refusal(error)
        except openai.APITimeoutError:
            self._ledger.lose(tokens)
            return _Failure("a time-out")
        except openai.APIConnectionError as error:
            self._ledger.lose(tokens)
            return _Failure(f"a broken connection ({self._clean(str(error.__cause__ or error))})")
        except BaseException:
            self._ledger.lose(tokens)
            raise
        try:
            vectors, charged = parse(raw.content, len(texts))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            self._ledger.lose(tokens)
            return _Failure(f"an answer that cannot be used ({self._clean(str(error))})")
        self._ledger.settle(tokens, tokens if charged is None else charged)
        return vectors

    def _refusal(self, error: Any) -> _Failure:
        """What an answer with an error status means."""
        status, model = error.status_code, self._request["model"]
        message = self._clean(str(error.body.get("message", "")) if isinstance(error.body, dict) else "")
        told = f"status {status}{f' ({message})' if message else ''}"
        if status == 401:
            return _Failure("found that the key is refused (401); check the environment variable OPENAI_API_KEY", passing=False)
        if status == 403:
            return _Failure(f"found {told}; check that the account may use {model!r}", passing=False)
        if status == 404:
            return _Failure(f"found no model {model!r} there: {told}; check the name and --base-url", passing=False)
        if error.code == "insufficient_quota":
            return _Failure(f"found that the account has no credit left: {told}; add some, then: {_KEPT}", passing=False)
        if status in _PASSING or status >= 500:
            return _Failure(told, asked=retry_after(error.response.headers))
        hint = "the server may take fewer or shorter texts than it was sent (max_inputs, max_tokens), or no dimensions"
        return _Failure(f"found {told}; {hint}", passing=False, status=status)

    @property
    def _address(self) -> str:
        return str(self._client.base_url.host)

    def _clean(self, message: str) -> str:
        """The first line of a message from outside, shortened, without the key."""
        first = next(iter(message.strip().splitlines()), "")
        key = self._client.api_key
        return (first if key == NO_KEY else first.replace(key, "[key]"))[:200]


def parse(body: bytes, rows: int) -> tuple[np.ndarray, int | None]:
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
    return vectors, int(charged) if charged else None


Ask = Callable[[np.ndarray, Sleep], np.ndarray]


def gather(ask: Ask, batches: Sequence[np.ndarray], concurrency: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Asks for several batches at a time and hands each over as soon as it is answered.

    A new request is sent only after what was answered was taken by the caller, so that no more than `concurrency` answers
    are ever not yet in safety. When one fails for good, or the user interrupts, no more are sent; those under way are still
    waited for and handed over, since they are paid for, and then the failure is raised.

    Args:
        ask: Embeds the texts at some positions; its second argument sleeps, and ends the work if another batch failed.
        batches: Positions of each batch.
        concurrency: Requests at a time.

    Yields:
        Positions and vectors of each batch, in the order of the answers.
    """
    stop = threading.Event()
    failure: BaseException | None = None
    waiting = iter(batches)
    running: dict[Future[np.ndarray], np.ndarray] = {}

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise _StoppedError

    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="dallme-openai")
    try:
        while True:
            while failure is None and len(running) < concurrency and (batch := next(waiting, None)) is not None:
                running[pool.submit(ask, batch, sleep)] = batch
            if not running:
                break
            try:
                done = wait(running, return_when=FIRST_COMPLETED).done
            except KeyboardInterrupt as interrupt:
                if failure is not None:
                    raise  # the second time the user means it
                failure, done = interrupt, set()
                stop.set()
            for future in done:
                batch = running.pop(future)
                if (error := future.exception()) is None:
                    yield batch, future.result()
                else:
                    failure = failure or error
                    stop.set()
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    if failure is not None:
        raise failure
