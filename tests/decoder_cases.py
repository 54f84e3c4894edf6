"""A few texts of two classes, prototypes of them, and the contract of decoders as a check."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from dallme.data import DecodedText, LabelledTexts, LabelledVectors, Prototypes
from dallme.decoders.base import Context
from dallme.embedders.base import count_words
from dallme.embedders.hashing import HashingEmbedder
from dallme.text import clean

#: Words that tell two classes apart.
GOOD, BAD = ["great", "lovely", "warm"], ["awful", "boring", "dull"]

FILMS = [
    "A warm and funny film.<br /><br />The cast is great, and so is the music.",
    "I loved every minute of it. Great fun &amp; a great story.",
    "A lovely story with a great cast. See it with friends!",
    "Wonderful acting, wonderful music &lt;i&gt;and&lt;/i&gt; a clever plot.",
    "The funny scenes are great. I would see this film again.",
    "A clever and warm story about friends, with lovely music.",
]
FLOPS = [
    "A dull and boring film.<br />The cast is awful, and so is the plot.",
    "I hated every minute of it. A waste of time &amp; money.",
    "An awful story with a boring cast. Avoid it at all costs!",
    "Terrible acting, terrible music and a stupid plot.",
    "The jokes are awful. I walked out of this boring film.",
    "A stupid and dull story about nothing, with terrible music.",
]


def count_with_two_special_tokens(texts: Sequence[str]) -> np.ndarray:
    return count_words(texts) + 2


def make_context(
    texts: Sequence[str],
    labels: Sequence[int],
    max_tokens: int = 128,
    count_tokens: Callable[[Sequence[str]], np.ndarray] = count_words,
) -> Context:
    embedder, ids = HashingEmbedder(), np.array(labels)
    source = LabelledTexts(
        list(texts), ids, {label: f"class {label}" for label in sorted(set(labels))}, np.arange(len(texts))
    )
    vectors = LabelledVectors(embedder.embed(texts), ids, embedder.fingerprint())
    return Context(source, vectors, count_tokens, max_tokens, embedder)


def make_prototypes(
    context: Context, clusters: Sequence[Sequence[int]], labels: Sequence[int] | None = None
) -> Prototypes:
    """The mean of each cluster of rows; its class is that of its first row."""
    rows = [np.array(cluster) for cluster in clusters]
    vectors = context.vectors.vectors
    return Prototypes(
        vectors=np.stack([vectors[cluster].mean(axis=0) for cluster in rows]),
        labels=np.array(
            [context.vectors.labels[cluster[0]] for cluster in rows] if labels is None else labels
        ),
        weights=np.array([float(len(cluster)) for cluster in rows]),
        members=tuple(rows),
        spread=np.zeros(len(rows)),
    )


def check_contract(
    decoded: Sequence[DecodedText], prototypes: Prototypes, context: Context, *, written: bool = False
) -> None:
    """Checks the contract; texts that a model wrote may come from no row."""
    assert len(decoded) == len(prototypes)
    texts = [text.text for text in decoded]
    assert (context.count_tokens(texts) <= context.max_tokens).all()
    assert len(set(zip(texts, prototypes.labels.tolist(), strict=True))) == len(texts)
    for text, label in zip(decoded, prototypes.labels.tolist(), strict=True):
        assert text.text.strip()
        assert clean(text.text) == text.text
        assert not re.search(r"<br|<i>|&amp;|&lt;", text.text)
        assert " ".join(text.sentences) == text.text
        assert len(text.rows) == len(text.sentences) or (written and not text.rows)
        for sentence, row in zip(text.sentences, text.rows, strict=not written):
            assert sentence in clean(context.source.texts[row])
            assert context.vectors.labels[row] == label


# vec2text needs an inverter, llm a server, and search writes new texts: they have tests of their own.
WRITERS = ("vec2text", "llm", "search")


INTERLEAVED = ([0, 1], [6, 7, 8], [2, 3], [9, 10], [4, 5], [11])
