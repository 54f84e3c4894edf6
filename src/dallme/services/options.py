"""What a part that asks a model behind OpenAI's protocol is told: the model, the address, the money, the pace."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

from dallme.errors import InputError
from dallme.services.client import Service, check_address, find_address, find_caps, make_client
from dallme.services.concurrency import RateLimiter
from dallme.services.pricing import CostTracker, Price, is_price
from dallme.validation import check_positive


@dataclass(frozen=True)
class ServiceOptions(ABC):
    """The options that all such parts share, and what is made of them: the account, and the line to the service.

    A subclass adds options of its own and :attr:`resolved_price`.

    Attributes:
        part: What a message calls the part, as ``decoder 'llm'``.
        example: How one is named, for the message where no model is.
        wanted: What the service is asked for, in a word, for messages.
        hint: What may help where a request is refused.
        price_options: The options that give the price, for the message where there is none.
        model: Name of the model.
        base_url: Address of the service, by default the variable OPENAI_BASE_URL, else OpenAI's own.
        max_usd: Most US dollars to spend; a request that could exceed it is not sent.
        price: US dollars per million tokens that the service reads; by default see :mod:`dallme.services.pricing`.
        requests_per_minute: Cap on requests; by default that of OpenAI's first paid tier there, and none elsewhere.
        tokens_per_minute: Cap on tokens, likewise.
        concurrency: Requests at a time.
        timeout: Seconds to wait for an answer.
        max_retries: How often a request is sent again.
        first_pause: Longest pause before the second attempt, in seconds; it doubles with each.
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

    def __post_init__(self) -> None:
        """Checks the options; nothing is sent, and no key is looked for."""
        for name in ("requests_per_minute", "tokens_per_minute"):
            if getattr(self, name) is not None:
                check_positive(getattr(self, name), name)
        check_positive(self.concurrency, "concurrency")
        check_positive(self.max_retries, "max_retries", least=0)
        if not self.model.strip():
            raise InputError(f"expected the name of a model, found a blank one; for example {self.example}")
        check_address(self.address)
        self.check_prices("max_usd", "price")
        if self.resolved_price.usd_per_million is None and self.max_usd is not None:
            raise InputError(
                f"expected the price of {self.model!r} to keep to a budget, found none; give it with {self.price_options}"
            )

    def check_prices(self, *names: str) -> None:
        """Raises InputError for an option that is given and no amount of money."""
        for name in names:
            if getattr(self, name) is not None and not is_price(getattr(self, name)):
                raise InputError(
                    f"expected {name} to be a number of at least 0, found {getattr(self, name)!r}"
                )

    @property
    def address(self) -> str:
        """Where requests go."""
        return find_address(self.base_url)

    @property
    def caps(self) -> tuple[int | None, int | None]:
        """Requests and tokens a minute, None for no cap."""
        return find_caps(self.address, self.requests_per_minute, self.tokens_per_minute)

    @property
    @abstractmethod
    def resolved_price(self) -> Price:
        """What tokens cost, and who says so."""

    @cached_property
    def costs(self) -> CostTracker:
        """What was spent so far."""
        return CostTracker(self.resolved_price, self.max_usd)

    @cached_property
    def service(self) -> Service:
        """The line to the service; the first look at it reads the key.

        Raises:
            MissingDependencyError: If the official client is not installed.
            InputError: If a key is missing, or cannot be one.
        """
        client = make_client(self.part, self.address, self.timeout)
        rate_limiter = RateLimiter(*self.caps)
        return Service(
            client,
            self.model,
            self.wanted,
            self.hint,
            self.costs,
            rate_limiter,
            self.max_retries,
            self.first_pause,
        )

    def __getstate__(self) -> dict[str, Any]:
        """The options alone: neither the client, which holds the key, nor the account travels to other processes."""
        return {option.name: getattr(self, option.name) for option in fields(self)}
