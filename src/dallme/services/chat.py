"""Chat requests to a service of OpenAI's protocol, with stored completions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dallme.errors import StoreError
from dallme.files.atomic import atomic_write, sha256_of
from dallme.progress import Progress
from dallme.services import pricing as tokens
from dallme.services.client import ADDRESS, Request, Service, public_name
from dallme.services.concurrency import Sleep, gather
from dallme.services.pricing import Usage


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
        task: Name of the work in the progress.
        sent: Requests that were sent and answered.
        cached: Requests that the store answered.
    """

    service: Service
    address: str
    store: CompletionStore
    concurrency: int
    progress: Progress
    task: str = "write"
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

        with self.progress.task(self.task, total=len(missing)) as task:
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
