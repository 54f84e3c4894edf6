"""The baseline `random-sentences`: random sentences of a class, joined up to the token limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dallme import registry
from dallme.baselines.random_sentences import RandomSentencesBaseline
from dallme.classifiers.linear import NaiveBayesClassifier
from dallme.data import LabelledTexts
from dallme.distiller import Distiller
from dallme.embedders.base import count_words
from dallme.errors import InputError
from dallme.evaluation.compare import compare
from dallme.evaluation.protocol import DEFAULT
from dallme.evaluation.sets import make_sets

WORDS = ("garden", "railway")


def make_rows(rows: int = 20) -> LabelledTexts:
    """Rows of three sentences, each of which names its class, row and place."""
    texts = [
        " ".join(f"The {WORDS[row % 2]} of row {row} has part {place} today." for place in range(3))
        for row in range(rows)
    ]
    labels = np.arange(rows) % 2
    return LabelledTexts(texts, labels, dict(enumerate(WORDS)), np.arange(rows) + 100)


def split(text: str) -> list[str]:
    return [part + "today." for part in text.split("today.") if part]


def test_sentences_of_the_class_fill_the_limit() -> None:
    texts = make_rows()
    selected = RandomSentencesBaseline(max_tokens=32).select(texts, None, {0: 4, 1: 3}, seed=0)
    assert selected.labels.tolist() == [0] * 4 + [1] * 3
    for text, label, row_id in zip(
        selected.texts, selected.labels.tolist(), selected.row_ids.tolist(), strict=True
    ):
        parts = [part.strip() for part in split(text)]
        assert count_words([text])[0] == 30  # three sentences of ten tokens; a fourth does not fit
        assert len(set(parts)) == 3
        assert all(any(part in row for row in texts.texts) for part in parts)
        assert all(f"The {WORDS[label]} " in part for part in parts)
        assert parts[0] in texts.texts[row_id - 100]
    assert len({part.split("row ")[1].split()[0] for part in split(selected.texts[0])}) > 1


def test_the_seed_decides() -> None:
    texts, baseline = make_rows(), RandomSentencesBaseline(max_tokens=32)
    digest = texts.digest
    draws = [baseline.select(texts, None, {0: 4}, seed=seed).texts for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert baseline.varies
    texts.__dict__.pop("digest")
    assert texts.digest == digest


def test_comparisons_set_the_limit_and_the_counter() -> None:
    distiller = Distiller(per_class=3, embedder="hashing", decoder="nearest", max_tokens=202)
    run = distiller.run(make_rows(200))
    sets = make_sets(distiller, run, "random-sentences", DEFAULT)
    assert len(sets) == DEFAULT.draws
    lengths = run.context.count_tokens([text for each in sets for text in each.texts])
    assert set(lengths.tolist()) == {200}  # more than the baseline's own default
    found = compare(distiller, run, make_rows(), ["random-sentences"], {"nb": NaiveBayesClassifier()})
    assert found.methods[0].texts == 6
    assert found.methods[0].scores[0].accuracy == 1.0


def test_a_class_of_one_short_sentence_gives_one_text() -> None:
    texts = LabelledTexts(["A short row of text."] * 3, np.zeros(3, dtype=np.int64), {0: "a"}, np.arange(3))
    baseline = RandomSentencesBaseline()
    assert baseline.select(texts, None, {0: 1}, seed=0).texts == ["A short row of text."]
    with pytest.raises(
        InputError, match="expected sentences for 2 different texts in class 0, found 1; ask for fewer"
    ):
        baseline.select(texts, None, {0: 2}, seed=0)


def test_a_sentence_longer_than_the_limit_is_left_to_be_cut() -> None:
    texts = LabelledTexts(
        ["<br>", "one two three four five"], np.array([0, 1]), {0: "a", 1: "b"}, np.arange(2)
    )
    selected = RandomSentencesBaseline(max_tokens=3).select(texts, None, {0: 1, 1: 1}, seed=0)
    assert selected.texts == ["<br>", "one two three four five"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "expected max_tokens to be a whole number of at least 1, found 0"),
        ({"min_words": 5, "max_words": 4}, "expected max_words to be a whole number of at least 5, found 4"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.make("baselines", "random-sentences", **options)
