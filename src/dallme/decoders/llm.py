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
from dallme.decoders.base import Context, Decoder, DecodingResult
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
        text: The text as the service returned it.
        finish: Reason why the model stopped: ``stop``, ``length`` or another; None if the service does not
            say.
    """

    text: str
    finish: str | None = None


def parse(body: bytes) -> tuple[Completion, Usage | None]:
    """Reads the answer of a chat endpoint.

    Args:
        body: The answer, as JSON.

    Returns:
        The completion, and the tokens that the service charges, None if it does not say.

    Raises:
        ValueError: If it is not one text. Other malformed answers raise KeyError, TypeError, IndexError or
            AttributeError.
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
    """A folder of completions, each named by the SHA-256 of its request. Requests are not stored."""

    def __init__(self, folder: Path | None) -> None:
        """Names the folder, which is made for the first completion; None stores nothing."""
        self._folder = folder

    def get(self, key: str) -> Completion | None:
        """Returns the completion of a request; None if it is not stored or damaged."""
        if self._folder is None:
            return None
        try:
            document = json.loads(self._path(self._folder, key).read_text(encoding="utf-8"))
            text, finish = document["text"], document["finish"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Completion(text, finish) if isinstance(text, str) and text.strip() else None

    def put(self, key: str, completion: Completion) -> None:
        """Stores a completion on the disk before it returns. A blank one is a failure and is not stored.

        Raises:
            StoreError: If it cannot be written.
        """
        if self._folder is None or not completion.text.strip():
            return
        path = self._path(self._folder, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, json.dumps(asdict(completion), ensure_ascii=True).encode())
        except OSError as error:
            raise StoreError(
                f"expected to store an answer in {str(self._folder)!r}, could not: "
                f"{error.strerror or error}; name another folder with --store"
            ) from error

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"


def key_of(address: str, request: dict[str, Any]) -> str:
    """Returns the SHA-256 of a request and its address, as hexadecimal."""
    content = json.dumps({"address": address, "request": request}, sort_keys=True, ensure_ascii=True)
    return sha256_of([content])


#: Maximum number of tokens that the protocol adds to a message.
MESSAGE_TOKENS = 16


@dataclass(frozen=True)
class ChatRequest:
    """A request for one text.

    Attributes:
        messages: The prompt.
        max_tokens: Maximum number of tokens of the text.
        temperature: Sampling temperature.
        seed: Sampling seed, for services that have one.
    """

    messages: tuple[dict[str, str], ...]
    max_tokens: int
    temperature: float
    seed: int

    def body(self, model: str, address: str) -> dict[str, Any]:
        """Returns the body of the request. OpenAI's newer models have another name for the limit."""
        limit = "max_completion_tokens" if address == ADDRESS else "max_tokens"
        return {
            "model": model,
            "messages": list(self.messages),
            limit: self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
        }


def usage_of(requests: Sequence[ChatRequest]) -> list[Usage]:
    """Returns the usage of each request: input tokens by OpenAI's tokenizer, and maximum output tokens."""
    if not requests:
        return []
    counts = tokens.count_tokens(
        ["\n".join(message["content"] for message in request.messages) for request in requests]
    )
    return [
        Usage(int(count) + MESSAGE_TOKENS * len(request.messages), request.max_tokens)
        for count, request in zip(counts, requests, strict=True)
    ]


@dataclass
class ChatClient:
    """Sends chat requests to a service, and reads completions that are stored already.

    Attributes:
        service: The service, with its account.
        address: Its address.
        store: The stored completions.
        concurrency: Maximum number of requests at a time.
        progress: Receiver of progress and notes.
        sent: Requests that were sent and answered.
        cached: Requests that the store answered.
    """

    service: Service
    address: str
    store: CompletionStore
    concurrency: int
    progress: Progress
    sent: int = field(default=0, init=False)
    cached: int = field(default=0, init=False)

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        """Completes requests from the store, and the others by the service.

        Each completion is stored before another request is sent. A process that dies loses only requests in
        progress.

        Args:
            requests: n requests.

        Returns:
            n completions in their order; some may be blank.

        Raises:
            ServiceError: If the service refuses, or fails more often than it may.
            BudgetError: If the budget could be exceeded.
        """
        bodies = [request.body(self.service.model, self.address) for request in requests]
        keys = [key_of(public_name(self.address), body) for body in bodies]
        completions = {
            row: completion for row, key in enumerate(keys) if (completion := self.store.get(key)) is not None
        }
        self.cached += len(completions)
        missing = [row for row in range(len(requests)) if row not in completions]
        usages = dict(zip(missing, usage_of([requests[row] for row in missing]), strict=True))
        self.progress.note(self._announce(len(completions), list(usages.values())))
        create = self.service.client.chat.completions.with_raw_response.create

        def ask(rows: np.ndarray, sleep: Sleep) -> Completion:
            row = int(rows[0])
            return self.service.ask(Request(lambda: create(**bodies[row]), parse, usages[row]), sleep)

        with self.progress.task("write", total=len(missing)) as task:
            for rows, completion in gather(ask, [np.array([row]) for row in missing], self.concurrency):
                row = int(rows[0])
                completions[row] = completion
                self.store.put(keys[row], completion)
                self.sent += 1
                task.advance()
        return [completions[row] for row in range(len(requests))]

    def _announce(self, cached: int, usages: list[Usage]) -> str:
        """Returns a note about the requests, before any is sent."""
        read, written = sum(usage.read for usage in usages), sum(usage.written for usage in usages)
        price = self.service.costs.price
        known = price.usd_per_million is not None
        cost = f"at most ${price.usd(Usage(read, written)):.4f}" if known else "price not known"
        return (
            f"{self.service.model}: {len(usages):,} requests, about {read:,} tokens to read and "
            f"at most {written:,} to write, {cost}; {cached:,} answers are stored already"
        )


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
