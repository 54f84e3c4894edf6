"""Passages of long rows: how they are cut, and how `select` uses them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import dallme
from dallme import Distiller
from dallme.decoders.passages import cut_passage, visible_words
from dallme.decoders.select import SelectDecoder
from dallme.embedders.base import count_words
from dallme.errors import InputError

TEXT = "One two three. Four five six. Seven eight nine. Ten eleven twelve."


@pytest.mark.parametrize(
    ("passage", "tokens", "expected"),
    [
        ("first", 8, "One two three. Four five six."),
        ("last", 8, "Seven eight nine. Ten eleven twelve."),
        ("last", 7, "Ten eleven twelve."),
        ("ends", 8, "One two three. Ten eleven twelve."),
        ("ends", 12, "One two three. Seven eight nine. Ten eleven twelve."),
        ("ends", 6, "Ten eleven twelve."),
        ("last", 100, TEXT),
        ("ends", 100, TEXT),
        ("last", 2, "One two"),
        ("ends", 2, "One two"),
    ],
)
def test_whole_sentences_of_the_passage_fit(passage: str, tokens: int, expected: str) -> None:
    found = cut_passage(TEXT, 7, passage, tokens, count_words, "en")
    assert found is not None
    assert found.text == " ".join(found.sentences) == expected
    assert set(found.rows) == {7}
    assert count_words([found.text])[0] <= tokens


def test_nothing_is_left_of_markup() -> None:
    assert cut_passage("<br />", 0, "last", 5, count_words, "en") is None


def test_visible_words_are_those_of_the_passage() -> None:
    assert visible_words("a b c d e", "first", 3) == "a b c"
    assert visible_words("a b c d e", "last", 3) == "c d e"
    assert visible_words("a b c d e", "ends", 3) == "a d e"
    assert visible_words("a b", "ends", 3) == visible_words("a b", "last", 3) == "a b"


def _reviews(count: int) -> dallme.data.LabelledTexts:
    """Rows that begin alike and say what they think at the end."""
    rng = np.random.default_rng(0)
    words = {"good": ["fine", "great", "lovely", "superb"], "bad": ["dull", "poor", "weak", "awful"]}
    plain = ["film", "play", "story", "scene", "cast", "music", "plot", "voice"]
    texts, labels = [], []
    for row in range(count):
        label = ("bad", "good")[row % 2]
        start = ". ".join(" ".join(rng.choice(plain, 5)).capitalize() for _ in range(4))
        texts.append(f"{start}. The end of number{row} was {' and '.join(rng.choice(words[label], 3))}.")
        labels.append(label)
    return dallme.read(texts, labels)


@pytest.mark.parametrize("passage", ["last", "ends"])
def test_select_takes_the_part_that_agrees_with_the_label(passage: str) -> None:
    options = {"passage": passage}
    distiller = Distiller(
        per_class=4, embedder="hashing", decoder="select", decoder_options=options, max_tokens=20
    )
    texts = distiller.run(_reviews(200)).distilled.texts
    assert all("The end of number" in text for text in texts)
    first = Distiller(per_class=4, embedder="hashing", decoder="select", max_tokens=20)
    assert not any("The end of number" in text for text in first.run(_reviews(200)).distilled.texts)


def test_passages_of_candidates_are_embedded_as_they_are_cut() -> None:
    source = _reviews(200)
    distiller = Distiller(per_class=4, embedder="hashing", max_tokens=20)
    context = distiller.context(source, distiller.embed(source))
    asked: list[str] = []
    embedder = distiller.resolved_embedder

    class Recorder:
        def embed(self, texts: list[str], *, prompt: str | None = None) -> np.ndarray:
            asked.extend(texts)
            return embedder.embed(texts, prompt=prompt)

    recording = replace(context, embedder=Recorder())  # type: ignore[arg-type]
    prototypes = distiller.condense(context)
    SelectDecoder(passage="first").decode(prototypes, recording, seed=0)
    assert asked == []
    texts = SelectDecoder(passage="last").decode(prototypes, recording, seed=0).texts
    assert {text.text for text in texts} <= set(asked)
    assert not set(asked) & set(source.texts)


def test_passages_need_an_embedder() -> None:
    source = _reviews(40)
    distiller = Distiller(per_class=2, decoder="select", decoder_options={"passage": "last"})
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    with pytest.raises(InputError, match="expected an embedder for the passage 'last', found ready vectors"):
        distiller.run(source, vectors=vectors)


def test_another_passage_is_refused() -> None:
    with pytest.raises(InputError, match="expected passage as one of first, last, ends, found 'middle'"):
        SelectDecoder(passage="middle")
