"""Requests for texts: those whose answers are kept are not sent; the others are paced, retried, paid for and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dallme.decoders.llm.answers import Answer, AnswerStore, key_of, parse
from dallme.progress import Progress
from dallme.services import tokens
from dallme.services.addresses import ADDRESS, public_name
from dallme.services.asking import Request, Service
from dallme.services.gathering import gather
from dallme.services.pacing import Sleep
from dallme.services.pricing import Usage

#: Tokens that the protocol puts around a message, at most.
AROUND = 16


@dataclass(frozen=True)
class Order:
    """One text that is wanted.

    Attributes:
        messages: What the model is told.
        max_tokens: Tokens that it may write.
        temperature: How freely it writes.
        seed: Seed of the draw, for services that know one.
    """

    messages: tuple[dict[str, str], ...]
    max_tokens: int
    temperature: float
    seed: int

    def body(self, model: str, address: str) -> dict[str, Any]:
        """The request, but for the key. OpenAI's newer models know the limit by another name than other servers."""
        limit = "max_completion_tokens" if address == ADDRESS else "max_tokens"
        return {
            "model": model,
            "messages": list(self.messages),
            limit: self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
        }


def usage_of(orders: Sequence[Order]) -> list[Usage]:
    """Tokens that each order may take: read, by the tokenizer of OpenAI's models, and written at most."""
    if not orders:
        return []
    counts = tokens.count_tokens(["\n".join(message["content"] for message in order.messages) for order in orders])
    return [
        Usage(int(count) + AROUND * len(order.messages), order.max_tokens) for count, order in zip(counts, orders, strict=True)
    ]


@dataclass
class Desk:
    """Where texts are ordered from a service.

    Attributes:
        service: The service, with its account.
        address: Where it is.
        store: What was answered already.
        concurrency: Requests at a time.
        progress: Where to show progress.
        sent: Requests that were sent and answered.
        kept: Orders that the store filled.
        blank: Answers without a text.
    """

    service: Service
    address: str
    store: AnswerStore
    concurrency: int
    progress: Progress
    sent: int = field(default=0, init=False)
    kept: int = field(default=0, init=False)
    blank: int = field(default=0, init=False)

    def fill(self, orders: Sequence[Order]) -> list[Answer]:
        """Fills orders: from the store, and the others by asking.

        Each answer is kept as soon as it is there and before another request is sent, so that what is lost when the process
        dies is what was under way.

        Args:
            orders: n orders.

        Returns:
            n answers in their order; one may be blank.

        Raises:
            ServiceError: If the service refuses, or fails more often than it may.
            BudgetError: If the budget could be exceeded.
        """
        bodies = [order.body(self.service.model, self.address) for order in orders]
        keys = [key_of(public_name(self.address), body) for body in bodies]
        found = {place: answer for place, key in enumerate(keys) if (answer := self.store.get(key)) is not None}
        self.kept += len(found)
        left = [place for place in range(len(orders)) if place not in found]
        usages = dict(zip(left, usage_of([orders[place] for place in left]), strict=True))
        self.progress.note(self._announce(len(found), list(usages.values())))
        create = self.service.client.chat.completions.with_raw_response.create

        def ask(places: np.ndarray, sleep: Sleep) -> Answer:
            place = int(places[0])
            request = Request(lambda: create(**bodies[place]), parse, usages[place])
            return self.service.ask(request, sleep)

        with self.progress.task("write", total=len(left)) as task:
            for places, answer in gather(ask, [np.array([place]) for place in left], self.concurrency):
                place = int(places[0])
                found[place] = answer
                self.store.put(keys[place], answer)
                self.sent += 1
                self.blank += not answer.text.strip()
                task.advance()
        return [found[place] for place in range(len(orders))]

    def _announce(self, kept: int, usages: list[Usage]) -> str:
        """What is about to be asked, before anything is."""
        read, written = sum(usage.read for usage in usages), sum(usage.written for usage in usages)
        price = self.service.ledger.price
        cost = "price not known" if price.usd_per_million is None else f"at most ${price.usd(Usage(read, written)):.4f}"
        return (
            f"{self.service.model}: {len(usages):,} requests, about {read:,} tokens to read and at most {written:,} to write, "
            f"{cost}; {kept:,} answers are kept already"
        )
