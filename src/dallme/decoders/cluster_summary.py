"""What a language model is told about a cluster: its class, its key words and, if it may see them, a few of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dallme.data import LabelledTexts
from dallme.decoders.extractive.weights import WordWeights, row_of
from dallme.text import clean

#: Words of a text for each token of the limit: English has some four tokens to three words.
WORDS_A_TOKEN = 0.75


@dataclass(frozen=True)
class ClusterSummary:
    """What is known of a cluster.

    Attributes:
        label: Name of the class.
        keywords: Words that speak for the class and stand in many rows of the cluster, the best first.
        examples: Rows nearest to the prototype, without markup and cut.
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
        """Describes a cluster.

        Args:
            members: Positions of its rows, nearest first.
            label: Class id.
            words: What each word says about each class; None where there is one class only.
            source: The source texts.
            examples: Rows that are shown, at most.
            keywords: Words that are named, at most.
        """
        shown = (clean(source.texts[row]) for row in members.tolist())
        found = list(dict.fromkeys(text for text in shown if text))[:examples] if examples else []
        best = best_words(words, members, label, keywords) if words is not None else ()
        return cls(source.label_names[label], best, tuple(found))


def best_words(words: WordWeights, members: np.ndarray, label: int, count: int) -> tuple[str, ...]:
    """The best words of a cluster: by weight for the class, share of its rows with them, and inverse document frequency.

    The three are multiplied; the best word comes first, and words that do not speak for the class are left out.
    """
    places = np.searchsorted(words.rows, members)  # words may have been learned from some of the rows only
    known = places[words.rows[np.minimum(places, len(words.rows) - 1)] == members]
    if not len(known):
        return ()
    share = np.asarray((words.counts[known] > 0).mean(axis=0)).ravel()
    rows = np.bincount(words.counts.indices, minlength=words.counts.shape[1])
    rarity = np.log((1 + words.counts.shape[0]) / (1 + rows))
    worth = row_of(words.useful, int(np.searchsorted(words.classes, label))) * share * rarity
    order = np.argsort(-worth, kind="stable")[:count]
    names = words.vectorizer.get_feature_names_out()
    return tuple(str(names[place]) for place in order.tolist() if worth[place] > 0)


def messages(brief: ClusterSummary, max_tokens: int) -> list[dict[str, str]]:
    """The messages of a request for one new text.

    Args:
        brief: What is known of the cluster.
        max_tokens: Most tokens of the text.
    """
    most = max(3, int(max_tokens * WORDS_A_TOKEN))
    parts = [f'Write one new text of the kind "{brief.label}", of at most {most} words.']
    if brief.keywords:
        parts.append(f"Use some of these words: {', '.join(brief.keywords)}.")
    if brief.examples:
        shown = "\n".join(f"- {first_words(text, most)}" for text in brief.examples)
        parts.append(f"Real texts of this kind, not to be copied:\n{shown}")
    parts.append("Answer with the new text alone.")
    return [{"role": "user", "content": "\n".join(parts)}]


def first_words(text: str, count: int) -> str:
    """The first words of a text, as separated by spaces."""
    words: Sequence[str] = text.split()
    return text if len(words) <= count else " ".join(words[:count])
