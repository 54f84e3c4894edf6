"""A language model behind OpenAI's chat protocol writes each text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dallme.atomic import atomic_write, sha256_of
from dallme.data import DecodedText, LabelledTexts, Prototypes
from dallme.decoders.base import Context, Decoder
from dallme.decoders.cluster_summary import ClusterSummary, messages
from dallme.decoders.nearest import nearest_unused
from dallme.decoders.postprocess import (
    audit_written,
    copied_spans,
    note_of_audit,
    tidy,
    without_half_sentence,
)
from dallme.decoders.selection import CandidatePool
from dallme.errors import InputError, StoreError
from dallme.progress import Progress
from dallme.services import pricing as tokens
from dallme.services.client import ADDRESS, Request, Service, public_name
from dallme.services.concurrency import Sleep, gather
from dallme.services.options import ServiceOptions
from dallme.services.pricing import Price, Usage, is_price, writing_price_of
from dallme.validation import check_positive


@dataclass(frozen=True)
class Completion:
    """One text that a model wrote.

    Attributes:
        text: The text, as it came.
        finish: Why the model stopped, as the service says: ``stop``, ``length`` or something else; None if it does not say.
    """

    text: str
    finish: str | None = None


def parse(body: bytes) -> tuple[Completion, Usage | None]:
    """Reads the answer of a chat endpoint.

    Args:
        body: The answer, as JSON.

    Returns:
        The answer and the tokens that the service charges, None if it does not say.

    Raises:
        ValueError: If it is not one text; so are KeyError, TypeError, IndexError and AttributeError, for other forms.
    """
    document = json.loads(body)
    choice = document["choices"][0]
    text = choice["message"]["content"]
    if text is not None and not isinstance(text, str):
        raise ValueError(f"a message of {type(text).__name__} in place of a text")
    usage = document.get("usage") or {}
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    charged = Usage(int(read), int(written)) if read is not None and written is not None else None
    return Completion(text or "", choice.get("finish_reason")), charged


class CompletionStore:
    """A folder with an answer a file, named by the SHA-256 of its request. Requests themselves, with their rows, are not kept."""

    def __init__(self, folder: Path | None) -> None:
        """Keeps the folder, which is made when the first answer comes; None keeps nothing."""
        self._folder = folder

    def get(self, key: str) -> Completion | None:
        """The answer to a request; None if it is not kept, or what is kept is damaged."""
        if self._folder is None:
            return None
        try:
            kept = json.loads(self._path(self._folder, key).read_text(encoding="utf-8"))
            text, finish = kept["text"], kept["finish"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Completion(text, finish) if isinstance(text, str) and text.strip() else None

    def put(self, key: str, answer: Completion) -> None:
        """Keeps an answer; it is on the disk when this returns. A blank one is a failure, and is not kept.

        Raises:
            StoreError: If it cannot be written.
        """
        if self._folder is None or not answer.text.strip():
            return
        path = self._path(self._folder, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, json.dumps(asdict(answer), ensure_ascii=True).encode())
        except OSError as error:
            raise StoreError(
                f"expected to keep an answer in {str(self._folder)!r}, could not: {error.strerror or error}; name another "
                "folder with --store"
            ) from error

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"


def key_of(address: str, request: dict[str, Any]) -> str:
    """SHA-256 of a request and where it goes, as hexadecimal; a key to the service is no part of it."""
    content = json.dumps({"address": address, "request": request}, sort_keys=True, ensure_ascii=True)
    return sha256_of([content])


#: Tokens that the protocol puts around a message, at most.
AROUND = 16


@dataclass(frozen=True)
class ChatRequest:
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


def usage_of(orders: Sequence[ChatRequest]) -> list[Usage]:
    """Tokens that each order may take: read, by the tokenizer of OpenAI's models, and written at most."""
    if not orders:
        return []
    counts = tokens.count_tokens(
        ["\n".join(message["content"] for message in order.messages) for order in orders]
    )
    return [
        Usage(int(count) + AROUND * len(order.messages), order.max_tokens)
        for count, order in zip(counts, orders, strict=True)
    ]


@dataclass
class ChatClient:
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
    store: CompletionStore
    concurrency: int
    progress: Progress
    sent: int = field(default=0, init=False)
    kept: int = field(default=0, init=False)
    blank: int = field(default=0, init=False)

    def fill(self, orders: Sequence[ChatRequest]) -> list[Completion]:
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
        found = {
            place: answer for place, key in enumerate(keys) if (answer := self.store.get(key)) is not None
        }
        self.kept += len(found)
        left = [place for place in range(len(orders)) if place not in found]
        usages = dict(zip(left, usage_of([orders[place] for place in left]), strict=True))
        self.progress.note(self._announce(len(found), list(usages.values())))
        create = self.service.client.chat.completions.with_raw_response.create

        def ask(places: np.ndarray, sleep: Sleep) -> Completion:
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
        price = self.service.costs.price
        cost = (
            "price not known"
            if price.usd_per_million is None
            else f"at most ${price.usd(Usage(read, written)):.4f}"
        )
        return (
            f"{self.service.model}: {len(usages):,} requests, about {read:,} tokens to read and at most {written:,} to write, "
            f"{cost}; {kept:,} answers are kept already"
        )


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


def plan_writing(
    decoder: LLMDecoder, source: LabelledTexts, budget: Mapping[int, int], max_tokens: int
) -> WritingPlan:
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
            brief = ClusterSummary.of(drawn[1:], label, None, source, examples=decoder.examples, keywords=0)
            words = tuple(dict.fromkeys(source.texts[drawn[0]].split()))[: decoder.keywords]
            orders.append(decoder.order(ClusterSummary(brief.label, words, brief.examples), max_tokens, seed))
        read += texts * decoder.drafts * float(np.mean([usage.read for usage in usage_of(orders)] or [0]))
    texts = sum(budget.values())
    requests = texts * decoder.drafts
    usage, price = Usage(round(read), requests * max_tokens), decoder.resolved_price
    most_requests, most_tokens = decoder.caps
    minutes = max(
        requests / most_requests if most_requests else 0, usage.total / most_tokens if most_tokens else 0
    )
    caps = [f"{cap:,} {what}" for cap, what in ((most_requests, "requests"), (most_tokens, "tokens")) if cap]
    return WritingPlan(
        decoder=f"llm:{decoder.model}",
        texts=texts,
        requests=requests,
        read=usage.read,
        written=usage.written,
        price_usd=None if price.usd_per_million is None else price.usd(usage),
        price_is=str(price)
        if price.usd_per_million is not None
        else "tell it with --price and --output-price",
        seconds=minutes * 60 if caps else None,
        seconds_are=f"at {' and '.join(caps)} a minute" if caps else "the speed of the service is not known",
    )


#: How often drafts are ordered for a prototype that has no usable one.
TURNS = 2


@dataclass(frozen=True)
class LLMDecoder(ServiceOptions, Decoder):
    """Has a language model write each text from the rows nearest to the prototype, the key words of its cluster and its class.

    Several drafts are written for each prototype. Of these the set is kept that a linear probe of the source finds
    surest in its classes, that is near the prototypes, and that classifiers learn most from
    (:func:`~dallme.decoders.selection.choose`). Where a prototype is left without a usable draft, the nearest real text
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

    def _decode(
        self, prototypes: Prototypes, context: Context, rng: np.random.Generator
    ) -> list[DecodedText]:
        drafts = CandidatePool(
            prototypes, context, rng, language=self.language, max_copied_span=self.max_copied_span
        )
        desk = ChatClient(
            self.service, self.address, CompletionStore(context.answers), self.concurrency, context.progress
        )
        before = self.costs.used
        briefs = [
            ClusterSummary.of(
                members, label, drafts.words, context.source, examples=self.examples, keywords=self.keywords
            )
            for members, label in zip(prototypes.members, prototypes.labels.tolist(), strict=True)
        ]
        chosen: list[DecodedText | None] = [None] * len(briefs)
        for _ in range(TURNS):
            places = [place for place, text in enumerate(chosen) if text is None for _ in range(self.drafts)]
            if places:
                answers = desk.fill(
                    [
                        self.order(briefs[place], context.max_tokens, int(rng.integers(2**31)))
                        for place in places
                    ]
                )
                drafts.add(places, [self._read(answer) for answer in answers])
                chosen = drafts.choose()
        decoded = copied_spans(self._complete(chosen, prototypes, context), context)
        used = self.costs.used.minus(before)
        context.findings.update(
            requests={"sent": desk.sent, "kept": desk.kept},
            tokens={"read": used.read, "written": used.written},
            cost_usd=self.resolved_price.usd(used),
            drafts=drafts.tally.as_dict(),
            audit=audit_written(decoded, context),
        )
        context.progress.note(note_of_audit(context.findings["audit"]))
        return decoded

    def order(self, brief: ClusterSummary, max_tokens: int, seed: int) -> ChatRequest:
        """The request for one draft."""
        return ChatRequest(tuple(messages(brief, max_tokens)), max_tokens, self.temperature, seed)

    def _read(self, answer: Completion) -> str:
        """The text of an answer, without a sentence that was cut off."""
        return (
            without_half_sentence(tidy(answer.text), self.language)
            if answer.finish == "length"
            else answer.text
        )

    def _complete(
        self, chosen: Sequence[DecodedText | None], prototypes: Prototypes, context: Context
    ) -> list[DecodedText]:
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
