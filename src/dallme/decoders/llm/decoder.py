"""A language model behind OpenAI's chat protocol writes each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from dallme.data import DecodedText, Prototypes
from dallme.decoders.base import Context, Decoder
from dallme.decoders.briefs import Brief, messages
from dallme.decoders.drafting import Drafts
from dallme.decoders.llm.answers import Answer, AnswerStore
from dallme.decoders.llm.asking import Desk, Order
from dallme.decoders.nearest import nearest_unused
from dallme.decoders.written import audit_written, copied_spans, note_of_audit, tidy, without_half_sentence
from dallme.errors import InputError
from dallme.services.options import ServiceOptions
from dallme.services.pricing import Price, is_price, writing_price_of
from dallme.validation import check_positive

#: How often drafts are ordered for a prototype that has no usable one.
TURNS = 2


@dataclass(frozen=True)
class LLMDecoder(ServiceOptions, Decoder):
    """Has a language model write each text from the rows nearest to the prototype, the key words of its cluster and its class.

    Several drafts are written for each prototype. Of these the set is kept that a linear probe of the source finds
    surest in its classes, that is near the prototypes, and that classifiers learn most from
    (:func:`~dallme.decoders.ranking.choose`). Where a prototype is left without a usable draft, the nearest real text
    stands in, and the lineage names its row. What the texts copied of source rows, and of test rows where there are any, goes
    into the lineage and the manifest in any case.

    Any server of OpenAI's chat protocol will do; a request is a draft. Requests are paced, sent again where they fail in
    passing, and kept within the budget; every answer is kept in the store, by its request, so that an interrupted run goes
    on where it stopped and nothing is paid for twice. The key comes from the environment variable OPENAI_API_KEY and is kept
    nowhere. The rows that are shown to the model leave this machine: see that they may.

    Prefer it where texts are to be read as a person would write them; what it is worth depends on the model.

    The options of the service itself are those of :class:`~dallme.services.options.ServiceOptions`.

    Attributes:
        drafts: Texts written for each prototype.
        examples: Rows of the cluster that the model is shown; 0 shows none.
        keywords: Words of the cluster that the model is told; 0 tells none.
        temperature: How freely the model writes.
        max_copied_span: Longest run of words that a draft may share with one source row, since small models copy what they
            are shown; None takes any and reports it.
        output_price: US dollars per million tokens written.
        language: ISO 639-1 code, for finding the ends of sentences.
    """

    argument: ClassVar[str] = "model"

    part: ClassVar[str] = "decoder 'llm'"
    example: ClassVar[str] = "llm:gpt-4.1-mini"
    wanted: ClassVar[str] = "texts"
    hint: ClassVar[str] = "the server may read fewer tokens (examples), or know no seed or temperature"
    price_options: ClassVar[str] = "--price and --output-price"

    model: str = "gpt-4.1-mini"
    timeout: float = 120.0
    drafts: int = 4
    examples: int = 4
    keywords: int = 12
    temperature: float = 0.9
    max_copied_span: int | None = 12
    output_price: float | None = None
    language: str = "en"

    def __post_init__(self) -> None:
        """Checks the options; nothing is sent, and no key is looked for."""
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
        """What tokens cost, and who says so."""
        return writing_price_of(self.model, self.price, self.output_price)

    def _decode(self, prototypes: Prototypes, context: Context, rng: np.random.Generator) -> list[DecodedText]:
        drafts = Drafts(prototypes, context, rng, language=self.language, max_copied_span=self.max_copied_span)
        desk = Desk(self.service, self.address, AnswerStore(context.answers), self.concurrency, context.progress)
        before = self.ledger.used
        briefs = [
            Brief.of(members, label, drafts.words, context.source, examples=self.examples, keywords=self.keywords)
            for members, label in zip(prototypes.members, prototypes.labels.tolist(), strict=True)
        ]
        chosen: list[DecodedText | None] = [None] * len(briefs)
        for _ in range(TURNS):
            places = [place for place, text in enumerate(chosen) if text is None for _ in range(self.drafts)]
            if places:
                answers = desk.fill([self.order(briefs[place], context.max_tokens, int(rng.integers(2**31))) for place in places])
                drafts.add(places, [self._read(answer) for answer in answers])
                chosen = drafts.choose()
        decoded = copied_spans(self._complete(chosen, prototypes, context), context)
        used = self.ledger.used.minus(before)
        context.findings.update(
            requests={"sent": desk.sent, "kept": desk.kept},
            tokens={"read": used.read, "written": used.written},
            cost_usd=self.resolved_price.usd(used),
            drafts=drafts.tally.as_dict(),
            audit=audit_written(decoded, context),
        )
        context.progress.note(note_of_audit(context.findings["audit"]))
        return decoded

    def order(self, brief: Brief, max_tokens: int, seed: int) -> Order:
        """The request for one draft."""
        return Order(tuple(messages(brief, max_tokens)), max_tokens, self.temperature, seed)

    def _read(self, answer: Answer) -> str:
        """The text of an answer, without a sentence that was cut off."""
        return without_half_sentence(tidy(answer.text), self.language) if answer.finish == "length" else answer.text

    def _complete(self, chosen: Sequence[DecodedText | None], prototypes: Prototypes, context: Context) -> list[DecodedText]:
        """The chosen texts, and the nearest real text where there is none."""
        labels = prototypes.labels.tolist()
        taken: dict[int, set[str]] = {label: set() for label in labels}
        for text, label in zip(chosen, labels, strict=True):
            if text is not None:
                taken[label].add(text.text)
        return [
            text if text is not None else nearest_unused(vector, label, taken[label], context, self.language)
            for text, vector, label in zip(chosen, prototypes.vectors, labels, strict=True)
        ]
