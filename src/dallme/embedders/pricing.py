"""What tokens cost, and the account of what was spent."""

from __future__ import annotations

import math
import os
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from dallme.errors import BudgetError, InputError

#: Names the user's own file of prices.
PRICES_VARIABLE = "DALLME_PRICES"


@dataclass(frozen=True)
class Price:
    """What a model costs.

    Attributes:
        usd_per_million: US dollars per million tokens; None if it is not known.
        source: Where the price is from, with its date.
    """

    usd_per_million: float | None
    source: str

    def __str__(self) -> str:
        """The price and where it is from, in words."""
        if self.usd_per_million is None:
            return "tell it with --price"
        return f"${self.usd_per_million:.2f} per million tokens, {self.source}"

    def usd(self, tokens: float) -> float:
        """The price of tokens; 0 if it is not known."""
        return tokens * (self.usd_per_million or 0.0) / 1e6


def price_of(model: str, given: float | None = None) -> Price:
    """Looks a price up: the one given, else that of the user's file, else that of the table in this package.

    Raises:
        InputError: If the user's file cannot be used.
    """
    if given is not None:
        return Price(given, "as given")
    own = os.environ.get(PRICES_VARIABLE)
    tables = [_parse(_read_own(own), own)] if own else []
    tables.append(_parse(files("dallme.embedders").joinpath("prices.toml").read_text(encoding="utf-8"), "prices.toml"))
    for prices, source in tables:
        if model in prices:
            return Price(prices[model], source)
    return Price(None, "nowhere")


def _read_own(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"expected a file of prices in {PRICES_VARIABLE}, could not read {path!r}: {error}") from None


def _parse(text: str, path: str) -> tuple[Mapping[str, float], str]:
    """The prices of a file, and where they are from."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"expected TOML in the file of prices {path!r}: {error}") from None
    prices = document.get("usd_per_million_tokens")
    if not isinstance(prices, dict) or not all(is_price(price) for price in prices.values()):
        raise InputError(f"expected a table [usd_per_million_tokens] with a number of at least 0 a model in {path!r}, found none")
    source = str(document.get("source", path))
    return prices, f"{source}, as of {document['date']}" if "date" in document else source


def is_price(value: Any) -> bool:
    """Whether a value can be an amount of money: a finite number of at least 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


class Ledger:
    """Tokens that were paid for, are under way, or may have been charged although their answer was lost.

    Safe to use from several threads.

    Attributes:
        tokens: Tokens of answered requests, as the service counts them.
        lost: Tokens of requests whose answer never arrived whole; a service may have charged for them.
    """

    def __init__(self, price: Price, max_usd: float | None = None) -> None:
        """Keeps the price of a token and the most that may be spent."""
        self.price = price
        self.max_usd = max_usd
        self.tokens = 0
        self.lost = 0
        self._under_way = 0
        self._lock = threading.Lock()

    @property
    def spent_usd(self) -> float:
        """What answered requests have cost."""
        return self.price.usd(self.tokens)

    def begin(self, tokens: int) -> None:
        """Sets the price of a request aside before it is sent.

        Raises:
            BudgetError: If the budget could be exceeded; the request must not be sent then.
        """
        with self._lock:
            known = self.tokens + self.lost + self._under_way
            if self.max_usd is not None and self.price.usd(known + tokens) > self.max_usd:
                lost = f", ${self.price.usd(self.lost):.4f} perhaps for answers that were lost" if self.lost else ""
                raise BudgetError(
                    f"expected to stay within the budget of ${self.max_usd:g}, stopped before a request of about "
                    f"${self.price.usd(tokens):.4f}: ${self.price.usd(self.tokens + self._under_way):.4f} is spent{lost}; "
                    "what is answered is kept where a store is used; raise --budget-usd (max_usd) and run the same "
                    "again to continue"
                )
            self._under_way += tokens

    def refused(self, tokens: int) -> None:
        """The service answered that it did not do the work."""
        with self._lock:
            self._under_way -= tokens

    def lose(self, tokens: int) -> None:
        """No whole answer came; whether the work was charged is not known."""
        with self._lock:
            self._under_way -= tokens
            self.lost += tokens

    def settle(self, tokens: int, charged: int) -> None:
        """The request was answered and the service charges `charged` tokens."""
        with self._lock:
            self._under_way -= tokens
            self.tokens += charged
