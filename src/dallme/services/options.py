"""Options of parts that ask a model behind OpenAI's protocol: model, address, budget and rate limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress
from dallme.services.client import (
    Service,
    check_address,
    check_encrypted,
    find_address,
    find_caps,
    make_client,
)
from dallme.services.concurrency import RateLimiter
from dallme.services.pricing import CostTracker, Price, is_price
from dallme.validation import check_positive, check_seconds


@dataclass(frozen=True)
class ServiceOptions(ABC):
    """Options of all parts that call a service, with the cost tracker and the client made from them.

    A subclass adds its own options and :attr:`resolved_price`.

    Attributes:
        part: Name of the part in messages, such as ``decoder 'llm'``.
        example: Example of a model's name, for messages.
        wanted: Name of the answers in messages, such as ``embeddings``.
        hint: Advice for refused requests.
        price_options: Options that set the price, for messages.
        model: Name of the model.
        base_url: Address of the service; by default the variable OPENAI_BASE_URL, else OpenAI's own.
        max_usd: Budget in US dollars; a request that could exceed it is not sent.
        price: US dollars per million input tokens; the default is that of :mod:`dallme.services.pricing`.
        requests_per_minute: Limit of requests; by default that of OpenAI's first paid tier, none elsewhere.
        tokens_per_minute: Limit of tokens, likewise.
        concurrency: Requests at a time.
        timeout: Seconds to wait for a connection, and for each piece of an answer.
        max_retries: Number of retries per request.
        first_pause: Longest pause before the second attempt, in seconds; it doubles with each attempt.
        insecure: Whether texts may be sent unencrypted (``http://``) to another machine.
        max_answer_bytes: Most bytes of an answer, after decompression.
        max_seconds: Most seconds of one request, from the connection to the last byte; by default five times
            `timeout`.
        max_pause: Longest pause that the service may ask for, in seconds; a longer one is an error.
    """

    part: ClassVar[str]
    example: ClassVar[str]
    wanted: ClassVar[str]
    hint: ClassVar[str]
    price_options: ClassVar[str] = "--price"

    model: str = ""
    base_url: str | None = None
    max_usd: float | None = None
    price: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int = 4
    timeout: float = 60.0
    max_retries: int = 8
    first_pause: float = 0.5
    insecure: bool = False
    max_answer_bytes: int = 2**28
    max_seconds: float | None = None
    max_pause: float = 900.0

    def __post_init__(self) -> None:
        """Checks the options; nothing is sent, and the key is not read."""
        for name in ("requests_per_minute", "tokens_per_minute"):
            if getattr(self, name) is not None:
                check_positive(getattr(self, name), name)
        check_positive(self.concurrency, "concurrency")
        check_positive(self.max_retries, "max_retries", least=0)
        check_positive(self.max_answer_bytes, "max_answer_bytes")
        for name in ("timeout", "max_seconds", "max_pause"):
            if getattr(self, name) is not None:
                check_seconds(getattr(self, name), name)
        if not self.model.strip():
            raise InputError(f"expected the name of a model, found a blank one; for example {self.example}")
        check_address(self.address)
        check_encrypted(self.address, self.insecure)
        self.check_prices("max_usd", "price")
        if self.resolved_price.usd_per_million is None and self.max_usd is not None:
            raise InputError(
                f"expected the price of {self.model!r} to keep to a budget, found none; "
                f"give it with {self.price_options}"
            )

    def check_prices(self, *names: str) -> None:
        """Raises InputError if one of these options is set and is not an amount of money."""
        for name in names:
            if getattr(self, name) is not None and not is_price(getattr(self, name)):
                raise InputError(
                    f"expected {name} to be a number of at least 0, found {getattr(self, name)!r}"
                )

    @property
    def address(self) -> str:
        """Address of the service."""
        return find_address(self.base_url)

    @property
    def caps(self) -> tuple[int | None, int | None]:
        """Limits of requests and tokens per minute; None for no limit."""
        return find_caps(self.address, self.requests_per_minute, self.tokens_per_minute)

    @property
    @abstractmethod
    def resolved_price(self) -> Price:
        """Price of a token, with its source."""

    @cached_property
    def costs(self) -> CostTracker:
        """Tracker of the tokens used so far."""
        return CostTracker(self.resolved_price, self.max_usd)

    @cached_property
    def service(self) -> Service:
        """Client of the service; the first access reads the key.

        Raises:
            MissingDependencyError: If the official client is not installed.
            InputError: If the key is missing or invalid.
        """
        seconds = 5 * self.timeout if self.max_seconds is None else self.max_seconds
        client = make_client(self.part, self.address, self.timeout, self.max_answer_bytes, seconds)
        return Service(
            client,
            self.model,
            self.wanted,
            self.hint,
            self.costs,
            RateLimiter(*self.caps),
            self.max_retries,
            self.first_pause,
            self.max_pause,
            seconds,
            note=lambda message: self._receiver[0].note(message),
        )

    def report_to(self, progress: Progress) -> None:
        """Sends notes about long pauses to `progress`."""
        self._receiver[0] = progress

    @cached_property
    def _receiver(self) -> list[Progress]:
        """Receiver of notes, in a list of one because the dataclass is frozen."""
        return [SilentProgress()]

    def __getstate__(self) -> dict[str, Any]:
        """Returns the options alone: the client holds the key, and one process counts the cost."""
        return {option.name: getattr(self, option.name) for option in fields(self)}
