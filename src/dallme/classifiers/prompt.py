"""A language model that is shown the texts as examples in its prompt."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.errors import InputError
from dallme.progress import Progress, SilentProgress
from dallme.services.chat import ChatClient, ChatRequest, CompletionStore
from dallme.services.client import public_name
from dallme.services.options import ServiceOptions
from dallme.services.pricing import Price, writing_price_of
from dallme.text import clean
from dallme.validation import check_positive

#: Maximum number of tokens of an answer, which is the name of a class.
ANSWER_TOKENS = 32


@dataclass(frozen=True, kw_only=True)
class PromptClassifier(ServiceOptions, Classifier):
    """Asks a model behind OpenAI's chat protocol for the class of each text; nothing is trained.

    The training texts stand in the prompt as examples, each with its class, in an order that depends on the
    seed. The answer must be the name of a class; case, quotation marks and a final full stop are ignored.
    Any other answer counts as wrong. Accuracy is measured on a stratified sample of the test rows, the same
    rows for every method.

    Requests are announced with their price, paced, retried and kept within the budget. Completions are
    cached, so that a repeated run costs nothing. The examples and the sampled test rows leave this machine.

    The options of the service are those of :class:`~dallme.services.options.ServiceOptions`.

    Attributes:
        sample: Number of test rows that are asked about.
        most_texts: Maximum number of examples in a prompt. Larger sets, as the full data, are left out of
            the comparison table.
        output_price: US dollars per million output tokens.
        answers: Folder that caches completions; None caches nothing.
        progress: Receiver of progress and notes.
    """

    argument: ClassVar[str] = "model"
    part: ClassVar[str] = "classifier 'prompt'"
    example: ClassVar[str] = "prompt:gpt-4.1-mini"
    wanted: ClassVar[str] = "classes"
    hint: ClassVar[str] = "the server may read fewer tokens than the examples have, or know no seed"
    price_options: ClassVar[str] = "--set classifier.price=USD and --set classifier.output_price=USD"

    model: str = "gpt-4.1-mini"
    timeout: float = 120.0
    sample: int = 200
    most_texts: int | None = 200
    output_price: float | None = None
    answers: Path | None = field(default=None, repr=False)
    progress: Progress = field(default_factory=SilentProgress, repr=False, compare=False)
    label_names: Mapping[int, str] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        """Checks the options; nothing is sent, and no key is looked for."""
        self.check_prices("output_price")
        super().__post_init__()
        check_positive(self.sample, "sample")
        if self.most_texts is not None:
            check_positive(self.most_texts, "most_texts")

    @cached_property
    def resolved_price(self) -> Price:
        """The price of tokens and its origin."""
        return writing_price_of(self.model, self.price, self.output_price)

    def describe(self) -> dict[str, Any]:
        """Describes what an answer depends on: model, server, sample and names of the classes."""
        options = ("model", "sample", "most_texts")
        described = {name: getattr(self, name) for name in options}
        names = {str(label): name for label, name in self.label_names.items()}
        server = {"address": public_name(self.address), "label_names": names}
        return {"class": type(self).__name__, "version": self.version, **described, **server}

    def with_label_names(self, label_names: Mapping[int, str]) -> PromptClassifier:
        """Returns the classifier with the names of the classes, which the model answers with."""
        return replace(self, label_names=dict(label_names))

    def find(self) -> None:
        """Reads the key, before long work starts; stored completions may need none."""
        if self.answers is None or not self.answers.is_dir():
            self.service  # noqa: B018

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        if self.most_texts is not None and len(texts) > self.most_texts:
            raise InputError(
                f"expected at most {self.most_texts} texts as examples in a prompt, found {len(texts):,}; "
                "distil fewer, or raise the option most_texts"
            )
        names = {int(label): self.label_names.get(int(label), str(label)) for label in np.unique(labels)}
        order = np.random.default_rng(seed).permutation(len(texts))
        examples = [(clean(texts[row]), names[int(labels[row])]) for row in order.tolist()]
        return _Prompt(self, prompt_of(examples, sorted(names.values())), names, seed)


def prompt_of(examples: list[tuple[str, str]], names: list[str]) -> str:
    """Writes the part of the prompt that all texts share: the task, the classes and the examples."""
    listed = "".join(f"- {name}\n" for name in names)
    shown = "".join(f"Text: {text}\nClass: {name}\n\n" for text, name in examples)
    return f"Classify a text. The classes are:\n{listed}\nExamples:\n\n{shown}"


@dataclass(frozen=True, eq=False)
class _Prompt(FittedClassifier):
    options: PromptClassifier
    prompt: str
    names: dict[int, str]
    seed: int

    def _predict(self, texts: list[str]) -> np.ndarray:
        options = self.options
        client = ChatClient(
            options.service,
            options.address,
            CompletionStore(options.answers),
            options.concurrency,
            options.progress,
            task="classify",
        )
        completions = client.complete([self._request(text) for text in texts])
        labels = {_normal(name): label for label, name in self.names.items()}
        unknown = min(self.names) - 1
        predicted = [labels.get(_normal(completion.text), unknown) for completion in completions]
        if count := predicted.count(unknown):
            options.progress.note(
                f"{options.model}: {count:,} of {len(texts):,} answers were not the name of a class, "
                "and count as wrong"
            )
        return np.array(predicted, dtype=np.int64)

    def _request(self, text: str) -> ChatRequest:
        content = f"{self.prompt}Answer with the name of the class alone.\n\nText: {clean(text)}\nClass:"
        return ChatRequest(({"role": "user", "content": content},), ANSWER_TOKENS, 0.0, self.seed)


def _normal(name: str) -> str:
    """Returns a class name without case, outer quotation marks and full stops."""
    return unicodedata.normalize("NFKC", name).strip(" \t\n\"'`“”‘’*.").casefold()
