"""What tokens cost, and the account of what was spent."""

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

#: What the embedding models of OpenAI read.
ENCODING = "cl100k_base"


def count_tokens(texts: Sequence[str]) -> np.ndarray:
    """Counts the tokens of each text; int64 of shape (n,). For models of others it is an estimate."""
    return np.array(_tokenizer().batch_count(list(texts), ENCODING), dtype=np.int64)


def cut(text: str, limit: int) -> str:
    """The longest start of a text, in whole characters, that has at most `limit` tokens."""
    kept = limit
    while True:
        start: str = _tokenizer().truncate(text, kept, ENCODING)[0]
        if _tokenizer().batch_count([start], ENCODING)[0] <= limit:
            return start
        kept -= 1  # the start alone can fall into other tokens than it did within the text


def _tokenizer() -> Any:
    try:
        import toktok
    except ImportError:
        raise MissingDependencyError("counting tokens for OpenAI's protocol", "toktok-rs", "openai") from None
    return toktok


#: Names the user's own file of prices.
PRICES_VARIABLE = "DALLME_PRICES"
#: The files in this package: prices of embedders, and of models that write.
SHIPPED = ("prices.toml", "writing_prices.toml")
#: The tables of such a file: prices of tokens that a model reads, and writes.
READ, WRITTEN = "usd_per_million_tokens", "usd_per_million_tokens_written"


class Usage(NamedTuple):
    """Tokens of requests.

    Attributes:
        read: Tokens that the model reads.
        written: Tokens that it writes; an embedder writes none.
    """

    read: int
    written: int = 0

    @property
    def total(self) -> int:
        """Both together, as caps on tokens count them."""
        return self.read + self.written

    def plus(self, other: Usage) -> Usage:
        """The sum."""
        return Usage(self.read + other.read, self.written + other.written)

    def minus(self, other: Usage) -> Usage:
        """The difference."""
        return Usage(self.read - other.read, self.written - other.written)


@dataclass(frozen=True)
class Price:
    """What a model costs.

    Attributes:
        usd_per_million: US dollars per million tokens that it reads; None if it is not known.
        source: Where the price is from, with its date.
        usd_per_million_written: US dollars per million tokens that it writes; None if it writes none, or it is not known.
    """

    usd_per_million: float | None
    source: str
    usd_per_million_written: float | None = None

    def __str__(self) -> str:
        """The price and where it is from, in words."""
        if self.usd_per_million is None:
            return "tell it with --price"
        if self.usd_per_million_written is None:
            return f"${self.usd_per_million:.2f} per million tokens, {self.source}"
        return f"${self.usd_per_million:.2f} per million tokens read, ${self.usd_per_million_written:.2f} written, {self.source}"

    def usd(self, usage: Usage) -> float:
        """The price of tokens; what is not known counts as 0."""
        return (
            usage.read * (self.usd_per_million or 0.0) + usage.written * (self.usd_per_million_written or 0.0)
        ) / 1e6


def price_of(model: str, given: float | None = None) -> Price:
    """Looks the price of an embedder up: the one given, else that of the user's file, else that of the table in this package.

    Raises:
        InputError: If the user's file cannot be used.
    """
    if given is not None:
        return Price(given, "as given")
    for document, source in _tables():
        if model in (prices := document.get(READ, {})):
            return Price(prices[model], source)
    return Price(None, "nowhere")


def writing_price_of(model: str, given: float | None = None, given_written: float | None = None) -> Price:
    """Looks the price of a model that writes up, as :func:`price_of`; both of its prices come from one place.

    Args:
        model: Its name.
        given: US dollars per million tokens that it reads, as the user says.
        given_written: The same for tokens that it writes.

    Raises:
        InputError: If one price is given without the other, or the user's file cannot be used.
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
    """The prices of the user's file and of the table in this package, and where they are from."""
    own = os.environ.get(PRICES_VARIABLE)
    tables = [_parse(_read_own(own), own)] if own else []
    folder = files("dallme.services")
    return [*tables, *(_parse(folder.joinpath(name).read_text(encoding="utf-8"), name) for name in SHIPPED)]


def _read_own(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"expected a file of prices in {PRICES_VARIABLE}, could not read {path!r}: {error}"
        ) from None


def _parse(text: str, path: str) -> tuple[Mapping[str, Mapping[str, float]], str]:
    """The tables of prices of a file, and where they are from."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"expected TOML in the file of prices {path!r}: {error}") from None
    found = {name: document[name] for name in (READ, WRITTEN) if name in document}
    fine = all(
        isinstance(prices, dict) and all(is_price(price) for price in prices.values())
        for prices in found.values()
    )
    if READ not in found or not fine:
        raise InputError(
            f"expected a table [{READ}] with a number of at least 0 a model in {path!r}, found none"
        )
    source = str(document.get("source", path))
    return found, f"{source}, as of {document['date']}" if "date" in document else source


def is_price(value: Any) -> bool:
    """Whether a value can be an amount of money: a finite number of at least 0."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )


class CostTracker:
    """Tokens that were paid for, are under way, or may have been charged although their answer was lost.

    Safe to use from several threads.

    Attributes:
        used: Tokens of answered requests, as the service counts them.
        lost: Tokens of requests whose answer never arrived whole; a service may have charged for them.
    """

    def __init__(self, price: Price, max_usd: float | None = None) -> None:
        """Keeps the price of a token and the most that may be spent."""
        self.price = price
        self.max_usd = max_usd
        self.used = Usage(0)
        self.lost = Usage(0)
        self._under_way = Usage(0)
        self._lock = threading.Lock()

    @property
    def spent_usd(self) -> float:
        """What answered requests have cost."""
        return self.price.usd(self.used)

    def begin(self, usage: Usage) -> None:
        """Sets the price of a request aside before it is sent.

        Raises:
            BudgetError: If the budget could be exceeded; the request must not be sent then.
        """
        with self._lock:
            known = self.used.plus(self.lost).plus(self._under_way)
            if self.max_usd is not None and self.price.usd(known.plus(usage)) > self.max_usd:
                lost = self.price.usd(self.lost)
                perhaps = f", ${lost:.4f} perhaps for answers that were lost" if lost else ""
                raise BudgetError(
                    f"expected to stay within the budget of ${self.max_usd:g}, stopped before a request of about "
                    f"${self.price.usd(usage):.4f}: ${self.price.usd(self.used.plus(self._under_way)):.4f} is spent{perhaps}; "
                    "what is answered is kept where a store is used; raise --budget-usd (max_usd) and run the same "
                    "again to continue"
                )
            self._under_way = self._under_way.plus(usage)

    def refused(self, usage: Usage) -> None:
        """The service answered that it did not do the work."""
        with self._lock:
            self._under_way = self._under_way.minus(usage)

    def lose(self, usage: Usage) -> None:
        """No whole answer came; whether the work was charged is not known."""
        with self._lock:
            self._under_way = self._under_way.minus(usage)
            self.lost = self.lost.plus(usage)

    def settle(self, usage: Usage, charged: Usage) -> None:
        """The request was answered, and the service charges for so many tokens."""
        with self._lock:
            self._under_way = self._under_way.minus(usage)
            self.used = self.used.plus(charged)
