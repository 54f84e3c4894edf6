"""Random sentences of a class, joined up to the token limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dallme.baselines.base import Baseline
from dallme.data import LabelledTexts, LabelledVectors
from dallme.decoders.base import TokenCounter
from dallme.decoders.extractive.candidates import SentenceFilter
from dallme.embedders.base import count_words
from dallme.errors import InputError
from dallme.validation import check_positive

#: A text is complete after this many draws in a row of a sentence that is too long or already in it.
FAILED_DRAWS = 10

#: Maximum number of draws of a text that has to differ from the others of its class.
NEW_TEXTS = 20


@dataclass(frozen=True)
class RandomSentencesBaseline(Baseline):
    """Random sentences of random rows of the class, joined until the token limit is reached.

    Each draw takes a random row of the class and a random sentence of it. It is a control for the decoders
    that join sentences: equal material and equal length, without any choice. Prefer it to ``random`` for
    comparisons with texts that fill the token limit, as whole rows are often shorter.

    Attributes:
        max_tokens: Maximum number of tokens per text; comparisons set that of the distilled texts.
        min_words: Minimum number of words per sentence.
        max_words: Maximum number of words per sentence.
        language: ISO 639-1 code, for sentence boundaries.
        count_tokens: Counts the tokens of each text; comparisons set the embedder's counter.
    """

    max_tokens: int = 128
    min_words: int = 4
    max_words: int = 40
    language: str = "en"
    count_tokens: TokenCounter = field(default=count_words, repr=False)

    def __post_init__(self) -> None:
        """Checks the options."""
        check_positive(self.max_tokens, "max_tokens")
        self._filter()

    def with_limit(self, max_tokens: int, count_tokens: TokenCounter) -> RandomSentencesBaseline:
        """Returns a copy that fills texts up to the limit."""
        return replace(self, max_tokens=max_tokens, count_tokens=count_tokens)

    def _filter(self) -> SentenceFilter:
        return SentenceFilter(1, self.min_words, self.max_words, self.language)

    def _select(
        self,
        texts: LabelledTexts,
        vectors: LabelledVectors | None,
        budget: Mapping[int, int],
        rng: np.random.Generator,
    ) -> LabelledTexts:
        joined: list[str] = []
        rows: list[int] = []
        for label, count in budget.items():
            members = np.flatnonzero(texts.labels == label)
            used: set[str] = set()
            for _ in range(count):
                text, row = self._new_text(texts.texts, members, used, rng)
                if text in used:
                    raise InputError(
                        f"expected sentences for {count} different texts in class {label}, "
                        f"found {len(used)}; ask for fewer"
                    )
                used.add(text)
                joined.append(text)
                rows.append(row)
        return replace(texts.take(np.array(rows, dtype=np.int64)), texts=joined)

    def _new_text(
        self, texts: Sequence[str], members: np.ndarray, used: set[str], rng: np.random.Generator
    ) -> tuple[str, int]:
        """Draws a text that differs from the used ones, or a used one after :data:`NEW_TEXTS` draws."""
        for _ in range(NEW_TEXTS):
            text, row = self._draw(texts, members, rng)
            if text not in used:
                break
        return text, row

    def _draw(self, texts: Sequence[str], members: np.ndarray, rng: np.random.Generator) -> tuple[str, int]:
        """Draws sentences up to the limit; returns the joined text and the row of its first sentence.

        If no sentence fits, the text is the first one drawn, which comparisons cut at the limit.
        """
        parts: list[str] = []
        rows: list[int] = []
        failed: list[tuple[str, int]] = []
        while len(failed) < FAILED_DRAWS:
            row = int(rng.choice(members))
            sentences = list(self._filter().sentences(texts[row])) or [texts[row]]
            sentence = sentences[int(rng.integers(len(sentences)))]
            longer = " ".join([*parts, sentence])
            if sentence in parts or self.count_tokens([longer])[0] > self.max_tokens:
                failed.append((sentence, row))
                continue
            parts.append(sentence)
            rows.append(row)
            failed = []
        return (" ".join(parts), rows[0]) if parts else failed[0]
