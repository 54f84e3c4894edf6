"""Summary of a cluster for a language model: its class, its keywords and, if allowed, a few of its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dallme.data import LabelledTexts
from dallme.decoders.extractive.weights import WordWeights, row_of
from dallme.text import clean

#: Words per token of the limit: English has about four tokens to three words.
WORDS_A_TOKEN = 0.75


@dataclass(frozen=True)
class ClusterSummary:
    """The class, keywords and examples of a cluster.

    Attributes:
        label: Name of the class.
        keywords: Words of the class that occur in many rows of the cluster, the best first.
        examples: Rows nearest to the prototype, without HTML.
    """

    label: str
    keywords: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        members: np.ndarray,
        label: int,
        words: WordWeights | None,
        source: LabelledTexts,
        *,
        examples: int,
        keywords: int,
    ) -> ClusterSummary:
        """Summarises a cluster.

        Args:
            members: Positions of its rows, nearest first.
            label: Class id.
            words: Weights of the words; None with one class only.
            source: The source texts.
            examples: Maximum number of rows to show.
            keywords: Maximum number of words to name.
        """
        texts = (clean(source.texts[row]) for row in members.tolist()) if examples else ()
        shown = list(dict.fromkeys(text for text in texts if text))[:examples]
        best = best_words(words, members, label, keywords) if words is not None else ()
        return cls(source.label_names[label], best, tuple(shown))


def best_words(words: WordWeights, members: np.ndarray, label: int, count: int) -> tuple[str, ...]:
    """Returns the keywords of a cluster with a positive weight, the best first.

    The score is the weight for the class × the share of the rows with the word × its inverse document
    frequency.
    """
    positions = np.searchsorted(words.rows, members)  # the weights may be learned from a sample of the rows
    known = positions[words.rows[np.minimum(positions, len(words.rows) - 1)] == members]
    if not len(known):
        return ()
    share = np.asarray((words.counts[known] > 0).mean(axis=0)).ravel()
    documents = np.bincount(words.counts.indices, minlength=words.counts.shape[1])
    idf = np.log((1 + words.counts.shape[0]) / (1 + documents))
    scores = row_of(words.positive, int(np.searchsorted(words.classes, label))) * share * idf
    order = np.argsort(-scores, kind="stable")[:count]
    names = words.vectorizer.get_feature_names_out()
    return tuple(str(names[word]) for word in order.tolist() if scores[word] > 0)


def messages(summary: ClusterSummary, max_tokens: int) -> list[dict[str, str]]:
    """Returns the messages of a request for one new text.

    Args:
        summary: The cluster.
        max_tokens: Maximum number of tokens of the text.
    """
    most = max(3, int(max_tokens * WORDS_A_TOKEN))
    parts = [f'Write one new text of the kind "{summary.label}", of at most {most} words.']
    if summary.keywords:
        parts.append(f"Use some of these words: {', '.join(summary.keywords)}.")
    if summary.examples:
        shown = "\n".join(f"- {first_words(text, most)}" for text in summary.examples)
        parts.append(f"Real texts of this kind, not to be copied:\n{shown}")
    parts.append("Answer with the new text alone.")
    return [{"role": "user", "content": "\n".join(parts)}]


def first_words(text: str, count: int) -> str:
    """Returns the first words of a text, as separated by spaces."""
    words = text.split()
    return text if len(words) <= count else " ".join(words[:count])
