"""Client of a service with OpenAI's protocol: sends requests, checks answers, retries and counts costs."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from dallme.errors import InputError, MissingDependencyError, ServiceError
from dallme.services.concurrency import RateLimiter, Sleep, TooManyTextsError, backoff, retry_after
from dallme.services.pricing import CostTracker, Usage
from dallme.services.transport import AnswerError, call_within, limit_answers, refuse_other_origins
from dallme.validation import is_private_line

#: Address of OpenAI.
ADDRESS = "https://api.openai.com/v1"
#: Key that is sent if the service needs none.
NO_KEY = "none"
#: Requests and tokens per minute of OpenAI's first paid tier.
REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE = 3000, 1_000_000


def find_address(base_url: str | None) -> str:
    """Returns `base_url`, or the variable OPENAI_BASE_URL, or OpenAI's own address."""
    return base_url or os.environ.get("OPENAI_BASE_URL") or ADDRESS


def find_caps(address: str, requests: int | None, tokens: int | None) -> tuple[int | None, int | None]:
    """Returns the limits per minute, None for no limit; OpenAI's have a default."""
    defaults = (REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE) if address == ADDRESS else (None, None)
    return requests or defaults[0], tokens or defaults[1]


def check_address(address: str) -> None:
    """Raises InputError for an invalid address, without showing it, and for one that may hold a secret."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            "expected base_url as http://HOST/PATH or https://HOST/PATH, such as http://localhost:8080/v1"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(
            "expected base_url without user, password and query; a key belongs in the environment: "
            "OPENAI_API_KEY"
        )


def is_loopback(address: str) -> bool:
    """Returns whether an address names this machine."""
    return is_private_line(urlsplit(address)._replace(scheme="http").geturl())


def check_encrypted(address: str, insecure: bool) -> None:
    """Checks that texts are encrypted in transit, stay on this machine, or may be sent in plain.

    Raises:
        InputError: If the address begins with http:// and names another machine without `insecure`.
    """
    if not insecure and not is_private_line(address):
        raise InputError(
            "expected base_url to begin with https://, found http:// for "
            f"{urlsplit(address).hostname!r}, which sends texts unencrypted; give its https address, reach "
            "it through a tunnel to localhost, or allow it with --insecure (insecure=True)"
        )


def public_name(address: str) -> str:
    """Returns host, port and path of an address."""
    parts = urlsplit(address)
    return f"{parts.netloc}{parts.path.rstrip('/')}"


def read_key(address: str) -> str:
    """Returns the key from the environment; only OpenAI itself requires one.

    Raises:
        InputError: If it is missing or invalid, or would be sent unencrypted.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and address == ADDRESS:
        raise InputError(
            "expected a key in the environment variable OPENAI_API_KEY, found none; "
            "set it and run the same again"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InputError(
            "expected a key of plain letters and signs in OPENAI_API_KEY, found others; was it copied whole?"
        )
    if key and not is_private_line(address):
        raise InputError(
            "expected base_url to begin with https:// where a key is sent along, found http:// for "
            f"{urlsplit(address).hostname!r}; give its https address, reach it through a tunnel to "
            "localhost, or unset OPENAI_API_KEY if that server needs none"
        )
    return key or NO_KEY


#: Status codes that allow a retry, besides those from 500 on.
_RETRYABLE = (408, 409, 429)
#: Words of the services that refuse a request for its size with status 400 or 422.
_TOO_LARGE = re.compile(r"batch|too (many|large|long)|larger than|maximum|max_|exceed|at most|limit", re.I)
#: Errors of a parser for an answer of another form; a deep one exceeds the recursion limit.
_UNUSABLE = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)
#: Length in seconds from which on a pause is shown.
SHOWN_PAUSE = 5.0
_KEPT = "what is answered is kept where a store is used: run the same again to continue"

Answer = TypeVar("Answer")


def make_client(part: str, address: str, timeout: float, max_bytes: int, max_seconds: float) -> Any:
    """Returns the official client with its own retries switched off.

    Args:
        part: Part that needs the client, for the message if it is not installed.
        address: Address of the service.
        timeout: Seconds to wait for a connection, and for each piece of an answer.
        max_bytes: Most bytes of an answer.
        max_seconds: Most seconds of a request.

    Raises:
        MissingDependencyError: If the client is not installed.
        InputError: If the key is missing or invalid.
    """
    try:
        from openai import DefaultHttpxClient, OpenAI
    except ImportError:
        raise MissingDependencyError(part, "openai", "openai") from None
    # A proxy of the environment would read what goes to a server on this machine.
    http_client = DefaultHttpxClient(
        trust_env=not is_loopback(address),
        follow_redirects=True,
        timeout=timeout,
        event_hooks={"response": [refuse_other_origins, limit_answers(max_bytes, max_seconds)]},
    )
    return OpenAI(
        api_key=read_key(address),
        base_url=address,
        timeout=timeout,
        max_retries=0,
        http_client=http_client,
        default_headers={"Accept-Encoding": "gzip"},
    )


def _error_message(body: bytes) -> str:
    """Returns the service's own message if the body is an error that came with status 200."""
    try:
        error = json.loads(body)["error"]
        return str(error.get("message") or error) if isinstance(error, dict) else str(error or "")
    except _UNUSABLE:
        return ""


@dataclass(frozen=True)
class Request(Generic[Answer]):
    """One request.

    Attributes:
        send: Sends the request; returns the raw answer with its bytes in ``content``.
        parse: Parses the bytes; returns the answer and the tokens charged, None if not reported. It raises
            ValueError, KeyError, TypeError, IndexError or AttributeError for an unusable answer.
        usage: Tokens that the request may take.
        several: Whether it holds several texts and can be divided.
    """

    send: Callable[[], Any]
    parse: Callable[[bytes], tuple[Answer, Usage | None]]
    usage: Usage
    several: bool = False


@dataclass(frozen=True)
class _Failure:
    """Failure of one attempt.

    Attributes:
        reason: Short description.
        retryable: Whether another attempt may succeed.
        asked: Pause that the service asks for, in seconds.
        too_large: Whether a smaller request may succeed.
    """

    reason: str
    retryable: bool = True
    asked: float | None = None
    too_large: bool = False


@dataclass(eq=False)
class Service:
    """One model at one address.

    Attributes:
        client: The official client.
        model: Name of the model.
        wanted: Name of the answers, for messages.
        hint: Advice for refused requests.
        costs: Tracker of the tokens used.
        rate_limiter: Rate limiter of all requests.
        max_retries: Number of retries per request.
        first_pause: Longest pause before the second attempt, in seconds.
        max_pause: Longest pause that the service may ask for, in seconds.
        max_seconds: Most seconds of an attempt.
        note: Receiver of one line about each long pause.
    """

    client: Any
    model: str
    wanted: str
    hint: str
    costs: CostTracker
    rate_limiter: RateLimiter
    max_retries: int
    first_pause: float
    max_pause: float
    max_seconds: float
    note: Callable[[str], None]
    _noted_until: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def ask(self, request: Request[Answer], sleep: Sleep) -> Answer:
        """Sends a request, with retries after temporary failures.

        Args:
            request: The request.
            sleep: Waits some seconds.

        Raises:
            ServiceError: If the service refuses, or all attempts fail.
            TooManyTextsError: If the service accepts fewer texts per request.
            BudgetError: If the budget could be exceeded.
        """
        reason, expected = "", f"expected {self.wanted} from {self._address}"

        def wait(seconds: float) -> None:
            self._show_pause(seconds, seconds, "the limit of requests or tokens per minute is reached")
            sleep(seconds)

        for attempt in range(self.max_retries + 1):
            self.rate_limiter.wait(request.usage.total, wait)
            started = time.monotonic()
            result = self._attempt(request)
            if not isinstance(result, _Failure):
                return result
            if request.several and result.too_large:
                raise TooManyTextsError
            if not result.retryable:
                raise ServiceError(f"{expected}, {result.reason}")
            if result.asked is not None and result.asked > self.max_pause:
                raise ServiceError(
                    f"{expected}, found {result.reason} and a request to retry after "
                    f"{result.asked:g} seconds; the limit is {self.max_pause:g}; {_KEPT}, or raise max_pause"
                )
            if attempt < self.max_retries:
                pause = backoff(attempt, self.first_pause, result.asked)
                self._show_pause(pause, time.monotonic() - started + pause, result.reason)
                sleep(pause)
            reason = result.reason
        raise ServiceError(
            f"{expected}, found {self.max_retries + 1} failures in a row, the last: {reason}; {_KEPT}"
        )

    def _show_pause(self, pause: float, delay: float, reason: str) -> None:
        """Notes a pause whose delay is above :data:`SHOWN_PAUSE`; one line for requests that wait together.

        Args:
            pause: Seconds until the next attempt.
            delay: Seconds that are lost in all, with the failed attempt.
            reason: Reason of the pause.
        """
        end = time.monotonic() + pause
        with self._lock:
            if delay <= SHOWN_PAUSE or end <= self._noted_until + SHOWN_PAUSE:
                return
            self._noted_until = end
        self.note(f"{self.model} at {self._address}: {reason}; the next attempt is in {pause:.0f} seconds")

    def _attempt(self, request: Request[Answer]) -> Answer | _Failure:
        """Sends a request once and counts its cost."""
        import openai

        self.costs.begin(request.usage)
        try:
            raw = call_within(self.max_seconds, request.send, option="max_seconds")
        except openai.APIStatusError as error:
            self.costs.refused(request.usage)
            return self._refusal(error)
        except BaseException as error:
            self.costs.lose(request.usage)
            if isinstance(error, (openai.APIConnectionError, AnswerError, OSError)):
                return self._loss(error)
            raise
        try:
            answer, charged = request.parse(raw.content)
        except _UNUSABLE as error:
            self.costs.lose(request.usage)
            if message := _error_message(raw.content):
                reason = f"found an error in its answer ({self._clean(message)}); {self.hint}"
                return _Failure(reason, retryable=False)
            return _Failure(f"an answer that cannot be used ({self._clean(str(error))})")
        self.costs.settle(request.usage, request.usage if charged is None else charged)
        return answer

    def _loss(self, error: BaseException) -> _Failure:
        """Interprets a request without a complete answer."""
        import openai

        cause = error.__cause__ or error  # version 2 of the client wraps the errors of a hook
        if isinstance(cause, AnswerError):
            reason = self._clean(str(cause))
            return _Failure(reason if cause.retryable else f"found {reason}", retryable=cause.retryable)
        if isinstance(error, openai.APITimeoutError):
            return _Failure("a time-out")
        return _Failure(f"a broken connection ({self._clean(str(cause))})")

    def _refusal(self, error: Any) -> _Failure:
        """Interprets an answer with an error status."""
        status, body = error.status_code, error.body
        if isinstance(body, dict):
            body = body.get("message") or body.get("detail")
        message = self._clean(str(body or ""))
        answer = f"status {status}{f' ({message})' if message else ''}"
        if status == 401:
            return _Failure(
                "found that the key is refused (401); check the environment variable OPENAI_API_KEY",
                retryable=False,
            )
        if status == 403:
            return _Failure(f"found {answer}; check that the account may use {self.model!r}", retryable=False)
        if status == 404:
            return _Failure(
                f"found no model {self.model!r} there: {answer}; check the name and --base-url",
                retryable=False,
            )
        if 300 <= status < 400:
            return _Failure(
                f"found a redirect to another address ({status}), which is not followed; "
                "give the address that answers with --base-url",
                retryable=False,
            )
        if error.code == "insufficient_quota":
            return _Failure(
                f"found that the account has no credit left: {answer}; add some, then: {_KEPT}",
                retryable=False,
            )
        if status in _RETRYABLE or status >= 500:
            return _Failure(answer, asked=retry_after(error.response.headers))
        too_large = status == 413 or (status in (400, 422) and bool(_TOO_LARGE.search(message)))
        return _Failure(f"found {answer}; {self.hint}", retryable=False, too_large=too_large)

    @property
    def _address(self) -> str:
        url = self.client.base_url
        return f"{url.host}:{url.port}" if url.port else str(url.host)

    def _clean(self, message: str) -> str:
        """Returns the first line of a message from outside, shortened, without the key."""
        first = next(iter(message.strip().splitlines()), "")
        key = self.client.api_key
        return (first if key == NO_KEY else first.replace(key, "[key]"))[:200]
