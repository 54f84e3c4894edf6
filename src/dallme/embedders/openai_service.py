"""Requests to a service that speaks OpenAI's protocol: asked, checked, and asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dallme.embedders.gathering import TooManyTextsError
from dallme.embedders.openai_requests import NO_KEY, parse
from dallme.embedders.pacing import Pacer, Sleep, backoff, retry_after
from dallme.embedders.pricing import Ledger
from dallme.errors import ServiceError

#: Answers that say to ask again; so does every one from 500 on.
_PASSING = (408, 409, 429)
#: Longest pause, in seconds, that a service may ask for.
LONGEST_PAUSE = 900.0
_KEPT = "what is answered is kept where a store is used: run the same again to continue"


@dataclass(frozen=True)
class _Failure:
    """Why an attempt failed, in a few words; whether another may help, and in how many seconds the service wants it."""

    reason: str
    passing: bool = True
    asked: float | None = None
    status: int | None = None


class Service:
    """One model at one address."""

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

    def ask(self, texts: Sequence[str], tokens: int, sleep: Sleep) -> np.ndarray:
        """Embeds texts with one request, which is sent again where it fails in passing.

        Args:
            texts: n texts.
            tokens: Their tokens, all together.
            sleep: Waits some seconds.

        Returns:
            float32 of shape (n, d), in the order of the texts.

        Raises:
            ServiceError: If the service refuses, or fails more often than it may.
            TooManyTextsError: If it takes fewer texts at a time.
            BudgetError: If the budget could be exceeded.
        """
        reason = ""
        for attempt in range(self._max_retries + 1):
            self._pacer.wait(tokens, sleep)
            found = self._attempt(texts, tokens)
            if not isinstance(found, _Failure):
                return found
            if found.status == 413 and len(texts) > 1:
                raise TooManyTextsError
            if not found.passing:
                raise ServiceError(f"expected embeddings from {self._address}, {found.reason}")
            if found.asked is not None and found.asked > LONGEST_PAUSE:
                raise ServiceError(
                    f"expected embeddings from {self._address}, found {found.reason} and the wish to be left alone for "
                    f"{found.asked:.0f} seconds; {_KEPT}"
                )
            if attempt < self._max_retries:
                sleep(backoff(attempt, self._first_pause, found.asked))
            reason = found.reason
        raise ServiceError(
            f"expected embeddings from {self._address}, found {self._max_retries + 1} failures in a row, "
            f"the last: {reason}; {_KEPT}"
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
        body = error.body.get("message") or error.body.get("detail") if isinstance(error.body, dict) else error.body
        message = self._clean(str(body or ""))
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
        url = self._client.base_url
        return f"{url.host}:{url.port}" if url.port else str(url.host)

    def _clean(self, message: str) -> str:
        """The first line of a message from outside, shortened, without the key."""
        first = next(iter(message.strip().splitlines()), "")
        key = self._client.api_key
        return (first if key == NO_KEY else first.replace(key, "[key]"))[:200]
