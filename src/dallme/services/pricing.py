"""Token counts, prices of tokens, and the tracker of what was spent."""

from __future__ import annotations

import math
import os
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dallme.errors import BudgetError, InputError, MissingDependencyError

#: Encoding of OpenAI's embedding models.
ENCODING = "cl100k_base"


def count_tokens(texts: Sequence[str]) -> np.ndarray:
    """Counts the tokens of each text, int64 of shape (n,); an estimate for models that are not OpenAI's."""
    return np.array(_tokenizer().batch_count(list(texts), ENCODING), dtype=np.int64)


def cut(text: str, limit: int) -> str:
    """Returns the longest prefix of a text, in whole characters, of at most `limit` tokens."""
    tokens = limit
    while True:
        start: str = _tokenizer().truncate(text, tokens, ENCODING)[0]
        if _tokenizer().batch_count([start], ENCODING)[0] <= limit:
            return start
        tokens -= 1  # a prefix alone may tokenise differently than within the text


def _tokenizer() -> Any:
    try:
        import toktok
    except ImportError:
        raise MissingDependencyError("counting tokens for OpenAI's protocol", "toktok-rs", "openai") from None
    return toktok


#: Environment variable with the path of the user's own prices.
PRICES_VARIABLE = "DALLME_PRICES"
#: Price files of this package: embedders, and generative models.
SHIPPED = ("prices.toml", "writing_prices.toml")
#: Tables of a price file: prices of input tokens, and of output tokens.
READ, WRITTEN = "usd_per_million_tokens", "usd_per_million_tokens_written"


class Usage(NamedTuple):
    """Tokens of one or several requests.

    Attributes:
        read: Input tokens.
        written: Output tokens; an embedder has none.
    """

    read: int
    written: int = 0

    @property
    def total(self) -> int:
        """Sum of both, as rate limits count them."""
        return self.read + self.written

    def plus(self, other: Usage) -> Usage:
        """Returns the sum."""
        return Usage(self.read + other.read, self.written + other.written)

    def minus(self, other: Usage) -> Usage:
        """Returns the difference."""
        return Usage(self.read - other.read, self.written - other.written)


@dataclass(frozen=True)
class Price:
    """Price of a model.

    Attributes:
        usd_per_million: US dollars per million input tokens; None if unknown.
        source: Source of the price, with its date.
        usd_per_million_written: US dollars per million output tokens; None if unknown, or if there are none.
    """

    usd_per_million: float | None
    source: str
    usd_per_million_written: float | None = None

    def __str__(self) -> str:
        """Returns price and source in words."""
        if self.usd_per_million is None:
            return "set it with --price"
        written = self.usd_per_million_written
        unit = "tokens" if written is None else f"tokens read, ${written:.2f} written"
        return f"${self.usd_per_million:.2f} per million {unit}, {self.source}"

    def usd(self, usage: Usage) -> float:
        """Returns the price of tokens; an unknown price counts as 0."""
        read, written = self.usd_per_million or 0.0, self.usd_per_million_written or 0.0
        return (usage.read * read + usage.written * written) / 1e6


def price_of(model: str, given: float | None = None) -> Price:
    """Returns the price of an embedder: `given`, or that of the user's file, or that of this package.

    Raises:
        InputError: If the user's file is invalid.
    """
    if given is not None:
        return Price(given, "as given")
    for document, source in _tables():
        if model in (prices := document.get(READ, {})):
            return Price(prices[model], source)
    return Price(None, "nowhere")


def writing_price_of(model: str, given: float | None = None, given_written: float | None = None) -> Price:
    """Returns the prices of a generative model, both from one source, as :func:`price_of`.

    Args:
        model: Name of the model.
        given: US dollars per million input tokens, from the user.
        given_written: US dollars per million output tokens, from the user.

    Raises:
        InputError: If one price is given without the other, or the user's file is invalid.
    """
    if (given is None) != (given_written is None):
        raise InputError(
            "expected both prices, of tokens read and written, or neither; give --price and --output-price"
        )
    if given is not None:
        return Price(given, "as given", given_written)
    for document, source in _tables():
        if model in (read := document.get(READ, {})) and model in (written := document.get(WRITTEN, {})):
            return Price(read[model], source, written[model])
    return Price(None, "nowhere")


def _tables() -> list[tuple[Mapping[str, Mapping[str, float]], str]]:
    """Returns the prices of the user's file and of this package, each with its source."""
    folder = files("dallme.services")
    shipped = [_parse(folder.joinpath(name).read_text(encoding="utf-8"), name) for name in SHIPPED]
    path = os.environ.get(PRICES_VARIABLE)
    if not path:
        return shipped
    try:
        return [_parse(Path(path).expanduser().read_text(encoding="utf-8"), path), *shipped]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"expected a file of prices in {PRICES_VARIABLE}, could not read {path!r}: {error}"
        ) from None


def _parse(text: str, path: str) -> tuple[Mapping[str, Mapping[str, float]], str]:
    """Returns the price tables of a file, and their source."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"expected TOML in the file of prices {path!r}: {error}") from None
    tables = {name: document[name] for name in (READ, WRITTEN) if name in document}
    valid = all(
        isinstance(prices, dict) and all(is_price(price) for price in prices.values())
        for prices in tables.values()
    )
    if READ not in tables or not valid:
        raise InputError(
            f"expected a table [{READ}] with a number of at least 0 a model in {path!r}, found none"
        )
    source = str(document.get("source", path))
    return tables, f"{source}, as of {document['date']}" if "date" in document else source


def is_price(value: Any) -> bool:
    """Says whether a value is an amount of money: a finite number of at least 0."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )


class CostTracker:
    """Counts tokens that were paid for, are in progress, or may have been charged without an answer.

    Thread-safe.

    Attributes:
        price: Price of the model.
        max_usd: Budget in US dollars; None for no limit.
        used: Tokens of answered requests, as the service counts them.
        lost: Tokens of requests without a complete answer; the service may have charged for them.
    """

    def __init__(self, price: Price, max_usd: float | None = None) -> None:
        """Stores price and budget."""
        self.price = price
        self.max_usd = max_usd
        self.used = Usage(0)
        self.lost = Usage(0)
        self._pending = Usage(0)
        self._lock = threading.Lock()

    @property
    def spent_usd(self) -> float:
        """Cost of the answered requests."""
        return self.price.usd(self.used)

    def begin(self, usage: Usage) -> None:
        """Reserves the price of a request before it is sent.

        Raises:
            BudgetError: If the budget could be exceeded; then the request must not be sent.
        """
        with self._lock:
            known = self.used.plus(self.lost).plus(self._pending)
            if self.max_usd is not None and self.price.usd(known.plus(usage)) > self.max_usd:
                lost = self.price.usd(self.lost)
                perhaps = f", ${lost:.4f} perhaps for answers that were lost" if lost else ""
                spent = self.price.usd(self.used.plus(self._pending))
                raise BudgetError(
                    f"expected to stay within the budget of ${self.max_usd:g}, stopped before a request of "
                    f"about ${self.price.usd(usage):.4f}: ${spent:.4f} is spent{perhaps}; what is "
                    f"answered is kept "
                    "where a store is used; raise --budget-usd (max_usd) and run the same again to continue"
                )
            self._pending = self._pending.plus(usage)

    def refused(self, usage: Usage) -> None:
        """Releases a request that the service refused."""
        with self._lock:
            self._pending = self._pending.minus(usage)

    def lose(self, usage: Usage) -> None:
        """Counts a request without a complete answer; it may have been charged."""
        with self._lock:
            self._pending = self._pending.minus(usage)
            self.lost = self.lost.plus(usage)

    def settle(self, usage: Usage, charged: Usage) -> None:
        """Counts an answered request with the tokens that the service charges."""
        with self._lock:
            self._pending = self._pending.minus(usage)
            self.used = self.used.plus(charged)
