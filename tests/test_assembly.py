"""Texts joined from pieces of real texts, which correction starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dallme.data import LabelledTexts, LabelledVectors, Prototypes
from dallme.decoders.base import Context
from dallme.decoders.vec2text import correction
from dallme.decoders.vec2text.correction import (
    assemble,
    make_pool,
    real_starts,
    split_pieces,
    trajectory,
)
from dallme.embedders.base import TextError, count_words
from dallme.embedders.hashing import HashingEmbedder

HASHING = HashingEmbedder()


class Embeds:
    """Embeds words, writes nothing."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def write(self, targets: np.ndarray, **_: Any) -> list[list[str]]:
        return [[""] for _ in targets]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        for row, text in enumerate(texts):
            if "unknown" in text:
                raise TextError(row, text, "has no known word")
        self.embedded += texts
        return HASHING.embed(texts)


PIECES = [
    "The warm film has a fine cast.",
    "Its music is as great as ever.",
    "A dull play about very sad people.",
    "The jokes are awful from the start.",
    "Nobody liked the plot of this one.",
]


def test_pieces_are_sentences_and_the_ends_that_begin_like_one() -> None:
    text = "LONDON (Reuters) - Oil prices rose on Monday, as traders feared: the worst was yet to come. It ends here."
    assert split_pieces(text) == [
        "LONDON (Reuters) - Oil prices rose on Monday, as traders feared: the worst was yet to come.",
        "Oil prices rose on Monday, as traders feared: the worst was yet to come.",
    ]
    # A bracket or a quotation mark that stays open, and ends of too few words, stand for nothing alone.
    assert split_pieces(
        'He said (as ever - The same old thing once again) and "more - There is no end in sight today".'
    ) == ['He said (as ever - The same old thing once again) and "more - There is no end in sight today".']
    assert split_pieces("Too short: Yes, it is.") == []
    assert split_pieces("") == []


def test_a_pool_names_the_row_of_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{PIECES[0]} {PIECES[1]}", PIECES[2], f"{PIECES[0]} <br />{PIECES[3]}", PIECES[4]]
    assert make_pool(texts, [2, 0, 1]) == {PIECES[0]: 2, PIECES[3]: 2, PIECES[1]: 0, PIECES[2]: 1}
    monkeypatch.setattr(correction, "PIECES_PER_TEXT", 1)
    assert make_pool(texts, [2, 0, 1]) == {PIECES[0]: 2, PIECES[2]: 1}
    monkeypatch.setattr(correction, "POOL_TEXTS", 2)
    assert make_pool(texts, [2, 0, 1]) == {PIECES[0]: 2}
    monkeypatch.setattr(correction, "PIECES_PER_TEXT", 8)
    monkeypatch.setattr(correction, "POOL_PIECES", 3)
    assert list(make_pool(texts, [0, 1, 3])) == [PIECES[0], PIECES[1], PIECES[2]]


def _assemble(
    targets: Sequence[str], starts: Sequence[Sequence[str]], writer: Embeds | None = None, **options: Any
) -> Any:
    settings = {"count_tokens": count_words, "max_tokens": 100, "beam": 2} | options
    pools = [PIECES] * len(targets)
    return assemble(writer or Embeds(), HASHING.embed(targets), starts, pools, **settings)


def test_the_pieces_of_the_target_are_joined() -> None:
    targets = [f"{PIECES[1]} {PIECES[3]}", PIECES[2], f"{PIECES[0]} {PIECES[1]} {PIECES[4]}"]
    starts = [[PIECES[0], PIECES[1]], [PIECES[2]], [PIECES[2]]]
    joined = _assemble(targets, starts)
    assert [set(found[0]) for found in joined] == [
        {PIECES[1], PIECES[3]},
        {PIECES[2]},
        {PIECES[0], PIECES[1], PIECES[4]},
    ]
    assert all(len(found) <= 2 for found in joined)
    assert joined == _assemble(targets, starts)


def test_a_joined_text_has_few_enough_tokens_and_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    target, tokens = [" ".join(PIECES)], int(count_words(PIECES).max())
    assert len(_assemble(target, [[PIECES[0]]])[0][0]) == correction.JOINED
    assert len(_assemble(target, [[PIECES[0]]], max_tokens=2 * tokens)[0][0]) == 2
    monkeypatch.setattr(correction, "JOINED", 1)
    assert len(_assemble(target, [[PIECES[0]]])[0][0]) == 1


def test_a_piece_more_must_be_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correction, "PIECE_COST", 2.0)
    assert [len(found[0]) for found in _assemble([f"{PIECES[1]} {PIECES[3]}"], [[PIECES[0], PIECES[1]]])] == [
        1
    ]


def test_what_cannot_be_embedded_is_left_out() -> None:
    assert _assemble(["film"], [["unknown words"]], max_tokens=3) == [[]]
    found = _assemble([f"{PIECES[1]} {PIECES[3]}"], [["unknown words"]])
    assert set(found[0][0]) == {PIECES[1], PIECES[3]}


def test_many_vectors_are_worked_on_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, starts = [f"{one} {two}" for one in PIECES for two in PIECES[:2]], [[PIECES[2]]] * 10
    writer = Embeds()
    at_once = _assemble(targets, starts, writer)
    assert len(set(writer.embedded)) == len(writer.embedded)
    monkeypatch.setattr(correction, "_ROWS", 3)
    assert _assemble(targets, starts) == at_once


def test_a_search_starts_from_several_texts() -> None:
    (first,) = trajectory(
        Embeds(), HASHING.embed(["film", "music"]), steps=0, beam=2, starts=[["play", "film"], ["music"]]
    )
    assert [row.text for row in first] == ["film", "music"]
    assert [candidate.text for candidate in first[0].candidates] == ["film", "play"]


def test_real_starts_name_the_rows_of_their_pieces() -> None:
    texts = [
        f"{PIECES[0]} {PIECES[3]}",
        f"{PIECES[1]} {PIECES[2]}",
        PIECES[4],
        "Another class has this one text alone.",
    ]
    labels = np.array([0, 0, 0, 1])
    source = LabelledTexts(texts, labels, {0: "film", 1: "other"}, np.arange(4))
    vectors = LabelledVectors(HASHING.embed(texts), labels, HASHING.fingerprint())
    context = Context(source, vectors, count_words, 128, HASHING)
    wanted = HASHING.embed([f"{PIECES[0]} {PIECES[1]}", texts[3]])
    members = (np.arange(3), np.array([3]))
    prototypes = Prototypes(wanted, np.array([0, 1]), np.array([3.0, 1.0]), members, np.zeros(2))
    first, second = real_starts(prototypes, wanted, Embeds(), context, beam=4, language="en")
    assert first[0].text in texts[:2]
    joined = next(start for start in first if set(start.sentences) == {PIECES[0], PIECES[1]})
    assert dict(zip(joined.sentences, joined.rows, strict=True)) == {PIECES[0]: 0, PIECES[1]: 1}
    assert [start.text for start in second] == [texts[3]]
    assert second[0].rows == (3,)
