"""What writing texts would take, before any request: tokens, requests, price, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dallme.data import LabelledTexts
from dallme.decoders.briefs import Brief
from dallme.decoders.llm.asking import usage_of
from dallme.services.pricing import Usage

if TYPE_CHECKING:
    from dallme.decoders.llm.decoder import LLMDecoder

#: Requests of a class that are put together to see how long they are.
SAMPLE = 20


@dataclass(frozen=True)
class WritingPlan:
    """What writing the texts of a set would take.

    Attributes:
        decoder: ``llm:`` and the model.
        texts: Texts of the set.
        requests: Requests, one a draft; more if some prototype is left without a usable draft.
        read: Tokens that the model reads, estimated from requests about randomly drawn rows.
        written: Tokens that it writes, at most.
        price_usd: What the service charges, at most; None if the price is not known.
        price_is: Where the price is from.
        seconds: How long it takes at the caps of the service; None if they are not known.
        seconds_are: How that was found.
    """

    decoder: str
    texts: int
    requests: int
    read: int
    written: int
    price_usd: float | None
    price_is: str
    seconds: float | None
    seconds_are: str

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


def plan_writing(decoder: LLMDecoder, source: LabelledTexts, budget: Mapping[int, int], max_tokens: int) -> WritingPlan:
    """Says what writing texts would take. Nothing is embedded, condensed or sent.

    Args:
        decoder: What would write.
        source: The source texts; rows drawn from them stand for the nearest ones, and words of theirs for key words.
        budget: Class id to number of texts.
        max_tokens: Most tokens of a text.
    """
    rng, read = np.random.default_rng(0), 0.0
    for label, texts in budget.items():
        rows = np.flatnonzero(source.labels == label)
        orders = []
        for seed in range(SAMPLE if texts else 0):
            drawn = rng.choice(rows, size=min(len(rows), decoder.examples + 1), replace=False)
            brief = Brief.of(drawn[1:], label, None, source, examples=decoder.examples, keywords=0)
            words = tuple(dict.fromkeys(source.texts[drawn[0]].split()))[: decoder.keywords]
            orders.append(decoder.order(Brief(brief.label, words, brief.examples), max_tokens, seed))
        read += texts * decoder.drafts * float(np.mean([usage.read for usage in usage_of(orders)] or [0]))
    texts = sum(budget.values())
    requests = texts * decoder.drafts
    usage, price = Usage(round(read), requests * max_tokens), decoder.resolved_price
    most_requests, most_tokens = decoder.caps
    minutes = max(requests / most_requests if most_requests else 0, usage.total / most_tokens if most_tokens else 0)
    caps = [f"{cap:,} {what}" for cap, what in ((most_requests, "requests"), (most_tokens, "tokens")) if cap]
    return WritingPlan(
        decoder=f"llm:{decoder.model}",
        texts=texts,
        requests=requests,
        read=usage.read,
        written=usage.written,
        price_usd=None if price.usd_per_million is None else price.usd(usage),
        price_is=str(price) if price.usd_per_million is not None else "tell it with --price and --output-price",
        seconds=minutes * 60 if caps else None,
        seconds_are=f"at {' and '.join(caps)} a minute" if caps else "the speed of the service is not known",
    )
