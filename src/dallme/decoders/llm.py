"""A language model behind OpenAI's chat protocol writes each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from dallme.data import DecodedText, LabelledTexts, Prototypes
from dallme.decoders.base import Context, Decoder, DecodingResult
from dallme.decoders.nearest import nearest_unused
from dallme.decoders.postprocess import (
    audit_written,
    copied_spans,
    note_of_audit,
    tidy,
    without_half_sentence,
)
from dallme.decoders.selection import CandidatePool, ClusterSummary, messages
from dallme.errors import InputError
from dallme.services.chat import ChatClient, ChatRequest, Completion, CompletionStore, usage_of
from dallme.services.options import ServiceOptions
from dallme.services.pricing import Price, Usage, is_price, writing_price_of
from dallme.validation import check_positive

#: Requests of a class that are composed to estimate their length.
SAMPLE = 20


@dataclass(frozen=True)
class WritingPlan:
    """The requests, tokens, price and time of writing a set.

    Attributes:
        decoder: ``llm:`` and the model.
        texts: Texts of the set.
        requests: Requests, one per draft; more if a prototype has no usable draft.
        read: Tokens that the model reads, estimated from requests about randomly drawn rows.
        written: Maximum number of tokens that it writes.
        price_usd: Maximum charge of the service; None if the price is not known.
        price_is: Origin of the price.
        seconds: Time at the caps of the service; None if they are not known.
        seconds_are: Origin of the time.
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
        """Returns all fields, for JSON."""
        return asdict(self)


def plan_writing(
    decoder: LLMDecoder, source: LabelledTexts, budget: Mapping[int, int], max_tokens: int
) -> WritingPlan:
    """Estimates what writing texts would take. Nothing is embedded, condensed or sent.

    Args:
        decoder: The decoder.
        source: The source texts; randomly drawn rows replace the nearest ones, and their words the keywords.
        budget: Class id to number of texts.
        max_tokens: Maximum number of tokens per text.
    """
    rng, read = np.random.default_rng(0), 0.0
    for label, texts in budget.items():
        rows = np.flatnonzero(source.labels == label)
        sampled = []
        for seed in range(SAMPLE if texts else 0):
            drawn = rng.choice(rows, size=min(len(rows), decoder.examples + 1), replace=False)
            own = ClusterSummary.of(drawn[1:], label, None, source, examples=decoder.examples, keywords=0)
            keywords = tuple(dict.fromkeys(source.texts[drawn[0]].split()))[: decoder.keywords]
            sampled.append(
                decoder.request(ClusterSummary(own.label, keywords, own.examples), max_tokens, seed)
            )
        read += texts * decoder.drafts * float(np.mean([usage.read for usage in usage_of(sampled)] or [0]))
    texts = sum(budget.values())
    requests = texts * decoder.drafts
    usage, price = Usage(round(read), requests * max_tokens), decoder.resolved_price
    most_requests, most_tokens = decoder.caps
    minutes = max(
        requests / most_requests if most_requests else 0, usage.total / most_tokens if most_tokens else 0
    )
    caps = [f"{cap:,} {unit}" for cap, unit in ((most_requests, "requests"), (most_tokens, "tokens")) if cap]
    return WritingPlan(
        decoder=f"llm:{decoder.model}",
        texts=texts,
        requests=requests,
        read=usage.read,
        written=usage.written,
        price_usd=None if price.usd_per_million is None else price.usd(usage),
        price_is=str(price)
        if price.usd_per_million is not None
        else "set it with --price and --output-price",
        seconds=minutes * 60 if caps else None,
        seconds_are=f"at {' and '.join(caps)} a minute" if caps else "the speed of the service is not known",
    )


#: Maximum number of rounds of requests for a prototype without a usable draft.
TURNS = 2


@dataclass(frozen=True)
class LLMDecoder(ServiceOptions, Decoder):
    """Requests each text from a language model, given class, keywords and nearest rows of the cluster.

    Several drafts are written for each prototype, and :func:`~dallme.decoders.selection.select_drafts`
    selects among them. The nearest real text replaces a prototype's text if no draft is usable, and the
    lineage names its row. Words copied from source rows, and from test rows if there are any, are reported in
    the lineage and the manifest.

    Any server with OpenAI's chat protocol can be used; each request asks for one draft. Requests are
    rate-limited, retried after temporary failures, and kept within the budget. Every completion is stored
    under its request: an interrupted run continues where it stopped, and nothing is paid twice. The key comes
    from the environment variable OPENAI_API_KEY and is not stored. The rows in the prompt leave this machine:
    check that they may.

    Prefer it for texts that read as if written by a person. Their accuracy depends on the model.

    The options of the service are those of :class:`~dallme.services.options.ServiceOptions`.

    Attributes:
        drafts: Texts written for each prototype.
        examples: Maximum number of rows of the cluster in the prompt; 0 shows none.
        keywords: Maximum number of keywords of the cluster in the prompt.
        temperature: Sampling temperature.
        max_copied_span: Longest run of words that a draft may share with one source row, since small models
            copy their examples; None allows any and reports it.
        output_price: US dollars per million tokens written.
        language: ISO 639-1 code, for sentence boundaries.
    """

    argument: ClassVar[str] = "model"

    part: ClassVar[str] = "decoder 'llm'"
    example: ClassVar[str] = "llm:gpt-4.1-mini"
    wanted: ClassVar[str] = "texts"
    hint: ClassVar[str] = "the server may read fewer tokens (examples), or know no seed or temperature"
    price_options: ClassVar[str] = "--price and --output-price"

    model: str = "gpt-4.1-mini"
    timeout: float = 120.0
    max_answer_bytes: int = 2**24
    drafts: int = 4
    examples: int = 4
    keywords: int = 12
    temperature: float = 0.9
    max_copied_span: int | None = 12
    output_price: float | None = None
    language: str = "en"

    def __post_init__(self) -> None:
        """Checks the options; nothing is sent, and the key is not read."""
        self.check_prices("output_price")
        super().__post_init__()
        if self.max_copied_span is not None:
            check_positive(self.max_copied_span, "max_copied_span")
        for name, least in (("drafts", 1), ("examples", 0), ("keywords", 0)):
            check_positive(getattr(self, name), name, least=least)
        if not (is_price(self.temperature) and self.temperature <= 2):
            raise InputError(f"expected temperature to be a number from 0 to 2, found {self.temperature!r}")

    @cached_property
    def resolved_price(self) -> Price:
        """The price of tokens and its origin."""
        return writing_price_of(self.model, self.price, self.output_price)

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> DecodingResult:
        pool = CandidatePool(
            prototypes, context, rng, language=self.language, max_copied_span=self.max_copied_span
        )
        self.report_to(context.progress)
        client = ChatClient(
            self.service, self.address, CompletionStore(context.answers), self.concurrency, context.progress
        )
        before = self.costs.used
        summaries = [
            ClusterSummary.of(
                members, label, pool.words, context.source, examples=self.examples, keywords=self.keywords
            )
            for members, label in zip(prototypes.members, prototypes.labels.tolist(), strict=True)
        ]
        selected: list[DecodedText | None] = [None] * len(summaries)
        for _ in range(TURNS):
            owners = [row for row, text in enumerate(selected) if text is None for _ in range(self.drafts)]
            if owners:
                requests = [
                    self.request(summaries[row], context.max_tokens, int(rng.integers(2**31)))
                    for row in owners
                ]
                pool.add(owners, [self._text_of(completion) for completion in client.complete(requests)])
                selected = pool.select()
        decoded = copied_spans(self._fill_gaps(selected, prototypes, context), context)
        used, audit = self.costs.used.minus(before), audit_written(decoded, context)
        context.progress.note(note_of_audit(audit))
        metadata = {
            "requests": {"sent": client.sent, "kept": client.cached},
            "tokens": {"read": used.read, "written": used.written},
            "cost_usd": self.resolved_price.usd(used),
            "drafts": pool.counts.as_dict(),
            "audit": audit,
        }
        return DecodingResult(tuple(decoded), metadata)

    def request(self, summary: ClusterSummary, max_tokens: int, seed: int) -> ChatRequest:
        """Returns the request for one draft."""
        return ChatRequest(tuple(messages(summary, max_tokens)), max_tokens, self.temperature, seed)

    def _text_of(self, completion: Completion) -> str:
        """Returns the text of a completion, without a sentence that the token limit cut off."""
        if completion.finish != "length":
            return completion.text
        return without_half_sentence(tidy(completion.text), self.language)

    def _fill_gaps(
        self, selected: Sequence[DecodedText | None], prototypes: Prototypes, context: Context
    ) -> list[DecodedText]:
        """Returns the selected texts, and the nearest real text for each gap."""
        labels = prototypes.labels.tolist()
        taken: dict[int, set[str]] = {label: set() for label in labels}
        for text, label in zip(selected, labels, strict=True):
            if text is not None:
                taken[label].add(text.text)
        return [
            text if text is not None else nearest_unused(vector, label, taken[label], context, self.language)
            for text, vector, label in zip(selected, prototypes.vectors, labels, strict=True)
        ]
