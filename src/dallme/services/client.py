"""Requests to a service that speaks OpenAI's protocol: sent, checked, paid for, and sent again where they fail in passing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from dallme.errors import InputError, MissingDependencyError, ServiceError
from dallme.services.concurrency import RateLimiter, Sleep, TooManyTextsError, backoff, retry_after
from dallme.services.pricing import CostTracker, Usage
from dallme.validation import is_private_line

#: Where OpenAI answers.
ADDRESS = "https://api.openai.com/v1"
#: What is sent as the key where none is needed.
NO_KEY = "none"
#: What the first paid tier of OpenAI takes in a minute: requests, tokens.
REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE = 3000, 1_000_000


def find_address(given: str | None) -> str:
    """The address given, else that of the variable OPENAI_BASE_URL, else OpenAI's own."""
    return given or os.environ.get("OPENAI_BASE_URL") or ADDRESS


def find_caps(address: str, requests: int | None, tokens: int | None) -> tuple[int | None, int | None]:
    """Requests and tokens a minute, None for no cap: those given, else those of OpenAI's first paid tier there."""
    defaults = (REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE) if address == ADDRESS else (None, None)
    return requests or defaults[0], tokens or defaults[1]


def check_address(address: str) -> None:
    """Raises InputError for what is no address, without showing it, and for one that could hold a secret."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            "expected base_url as http://HOST/PATH or https://HOST/PATH, such as http://localhost:8080/v1"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "expected base_url without user, password and query; a key belongs in the environment: OPENAI_API_KEY"
        )


def public_name(address: str) -> str:
    """An address as it may be written down: host, port and path."""
    parts = urlsplit(address)
    return f"{parts.netloc}{parts.path.rstrip('/')}"


def read_key(address: str) -> str:
    """The key of the environment; other services than OpenAI's may need none.

    Raises:
        InputError: If it is missing, cannot be one, or would travel unencrypted.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and address == ADDRESS:
        raise InputError(
            "expected a key in the environment variable OPENAI_API_KEY, found none; set it and run the same again"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError(
            "expected a key of plain letters and signs in OPENAI_API_KEY, found others; was it copied whole?"
        )
    if key and not is_private_line(address):
        raise InputError(
            "expected base_url to begin with https:// where a key is sent along, found http:// for "
            f"{urlsplit(address).hostname!r}; "
            "give its https address, reach it through a tunnel to localhost, or unset OPENAI_API_KEY if that server needs none"
        )
    return key or NO_KEY


#: Answers that say to ask again; so does every one from 500 on.
_PASSING = (408, 409, 429)
#: Longest pause, in seconds, that a service may ask for.
LONGEST_PAUSE = 900.0
_KEPT = "what is answered is kept where a store is used: run the same again to continue"

Answer = TypeVar("Answer")


def make_client(part: str, address: str, timeout: float) -> Any:
    """The official client, whose own retries are off.

    Args:
        part: What needs it, for the message where it is not installed.
        address: Where requests go.
        timeout: Seconds to wait for an answer.

    Raises:
        MissingDependencyError: If it is not installed.
        InputError: If a key is missing, or cannot be one.
    """
    try:
        from openai import OpenAI
    except ImportError:
        raise MissingDependencyError(part, "openai", "openai") from None
    return OpenAI(api_key=read_key(address), base_url=address, timeout=timeout, max_retries=0)


@dataclass(frozen=True)
class Request(Generic[Answer]):
    """One request.

    Attributes:
        send: Sends it with the client; the raw answer, whose ``content`` is its bytes.
        parse: Reads the bytes; the answer, and the tokens that the service charges, None if it does not say. It raises
            ValueError, KeyError, TypeError, IndexError or AttributeError for an answer that cannot be used.
        usage: Tokens that it may take.
        several: Whether it holds several texts, and may be divided where it is too large.
    """

    send: Callable[[], Any]
    parse: Callable[[bytes], tuple[Answer, Usage | None]]
    usage: Usage
    several: bool = False


@dataclass(frozen=True)
class _Failure:
    """Why an attempt failed, in a few words; whether another may help, and in how many seconds the service wants it."""

    reason: str
    passing: bool = True
    asked: float | None = None
    status: int | None = None


@dataclass(eq=False)
class Service:
    """One model at one address.

    Attributes:
        client: The official client.
        model: Name of the model.
        wanted: What it is asked for, in a word, for messages.
        hint: What may help where a request is refused.
        costs: The account.
        rate_limiter: Lets requests through.
        max_retries: How often a request is sent again.
        first_pause: Longest pause before the second attempt, in seconds.
    """

    client: Any
    model: str
    wanted: str
    hint: str
    costs: CostTracker
    rate_limiter: RateLimiter
    max_retries: int
    first_pause: float

    def ask(self, request: Request[Answer], sleep: Sleep) -> Answer:
        """Sends a request, and sends it again where it fails in passing.

        Args:
            request: The request.
            sleep: Waits some seconds.

        Raises:
            ServiceError: If the service refuses, or fails more often than it may.
            TooManyTextsError: If it takes fewer texts at a time.
            BudgetError: If the budget could be exceeded.
        """
        reason, expected = "", f"expected {self.wanted} from {self._address}"
        for attempt in range(self.max_retries + 1):
            self.rate_limiter.wait(request.usage.total, sleep)
            found = self._attempt(request)
            if not isinstance(found, _Failure):
                return found
            if found.status == 413 and request.several:
                raise TooManyTextsError
            if not found.passing:
                raise ServiceError(f"{expected}, {found.reason}")
            if found.asked is not None and found.asked > LONGEST_PAUSE:
                raise ServiceError(
                    f"{expected}, found {found.reason} and the wish to be left alone for {found.asked:.0f} seconds; {_KEPT}"
                )
            if attempt < self.max_retries:
                sleep(backoff(attempt, self.first_pause, found.asked))
            reason = found.reason
        raise ServiceError(
            f"{expected}, found {self.max_retries + 1} failures in a row, the last: {reason}; {_KEPT}"
        )

    def _attempt(self, request: Request[Answer]) -> Answer | _Failure:
        """Sends one request and keeps the account; the answer, or why there is none."""
        import openai

        self.costs.begin(request.usage)
        try:
            raw = request.send()
        except openai.APIStatusError as error:
            self.costs.refused(request.usage)
            return self._refusal(error)
        except openai.APITimeoutError:
            self.costs.lose(request.usage)
            return _Failure("a time-out")
        except openai.APIConnectionError as error:
            self.costs.lose(request.usage)
            return _Failure(f"a broken connection ({self._clean(str(error.__cause__ or error))})")
        except BaseException:
            self.costs.lose(request.usage)
            raise
        try:
            answer, charged = request.parse(raw.content)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            self.costs.lose(request.usage)
            return _Failure(f"an answer that cannot be used ({self._clean(str(error))})")
        self.costs.settle(request.usage, request.usage if charged is None else charged)
        return answer

    def _refusal(self, error: Any) -> _Failure:
        """What an answer with an error status means."""
        status = error.status_code
        body = (
            error.body.get("message") or error.body.get("detail")
            if isinstance(error.body, dict)
            else error.body
        )
        message = self._clean(str(body or ""))
        told = f"status {status}{f' ({message})' if message else ''}"
        if status == 401:
            return _Failure(
                "found that the key is refused (401); check the environment variable OPENAI_API_KEY",
                passing=False,
            )
        if status == 403:
            return _Failure(f"found {told}; check that the account may use {self.model!r}", passing=False)
        if status == 404:
            return _Failure(
                f"found no model {self.model!r} there: {told}; check the name and --base-url", passing=False
            )
        if error.code == "insufficient_quota":
            return _Failure(
                f"found that the account has no credit left: {told}; add some, then: {_KEPT}", passing=False
            )
        if status in _PASSING or status >= 500:
            return _Failure(told, asked=retry_after(error.response.headers))
        return _Failure(f"found {told}; {self.hint}", passing=False, status=status)

    @property
    def _address(self) -> str:
        url = self.client.base_url
        return f"{url.host}:{url.port}" if url.port else str(url.host)

    def _clean(self, message: str) -> str:
        """The first line of a message from outside, shortened, without the key."""
        first = next(iter(message.strip().splitlines()), "")
        key = self.client.api_key
        return (first if key == NO_KEY else first.replace(key, "[key]"))[:200]
