"""The choice of the text length on held-out rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dallme.data import DecodedText, Prototypes
from dallme.decoders import holdout
from dallme.decoders.base import Context
from dallme.decoders.extractive.decoder import TeachingDecoder
from dallme.decoders.holdout import (
    LENGTH_CLASSIFIERS,
    HoldoutSplit,
    LengthChoice,
    Write,
    select_max_tokens,
)
from dallme.embedders.openai import OpenAIEmbedder
from dallme.errors import InputError
from dallme.registry import make
from decoder_cases import BAD, GOOD, check_contract, make_context, make_prototypes


def rows(count: int) -> tuple[list[str], list[int]]:
    """Short texts of two classes, of seven words each."""
    rng = np.random.default_rng(0)
    texts = [f"What {rng.choice(BAD if row % 2 else GOOD)} film is number {row} ?" for row in range(count)]
    return texts, [row % 2 for row in range(count)]


@pytest.fixture
def context() -> Context:
    return make_context(*rows(120), max_tokens=96)


@pytest.fixture
def prototypes(context: Context) -> Prototypes:
    return make_prototypes(context, [range(0, 60, 2), range(1, 60, 2), range(60, 120, 2), range(61, 120, 2)])


def words(good: dict[int, bool]) -> Write:
    """Writes texts that tell the classes at some lengths, and the wrong way round at the others."""

    def write(prototypes: Prototypes, context: Context, rng: np.random.Generator) -> list[DecodedText]:
        right = good[context.max_tokens]
        found = []
        for place, label in enumerate(prototypes.labels.tolist()):
            vocabulary = BAD if (label == 1) == right else GOOD
            found.append(DecodedText(f"{' '.join(vocabulary)} {place}"))
        return found

    return write


@pytest.mark.parametrize("best", [96, 48, 24, 16, 12])
def test_the_length_that_teaches_most_is_taken(context: Context, prototypes: Prototypes, best: int) -> None:
    good = {length: length == best for length in (96, 48, 24, 16, 12)}
    choice = select_max_tokens(words(good), prototypes, context, np.random.default_rng(0))
    assert choice is not None
    assert (choice.tokens, choice.held_out_rows) == (best, 24)
    assert list(choice.scores) == [96, 48, 24, 16, 12]
    for length, scores in choice.scores.items():
        assert list(scores) == list(LENGTH_CLASSIFIERS)
        assert (np.mean(list(scores.values())) > 0.9) == (length == best)
    document = choice.as_dict()
    assert json.loads(json.dumps(document)) == document
    assert document["tokens"] == best
    assert list(document["scores"]) == ["96", "48", "24", "16", "12"]


def test_the_longest_is_taken_in_doubt(
    context: Context, prototypes: Prototypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    always = words(dict.fromkeys((96, 48, 24, 16, 12), True))

    def length() -> int | None:
        choice = select_max_tokens(always, prototypes, context, np.random.default_rng(0))
        return choice and choice.tokens

    assert length() == 96
    for gain, wanted in ((0.015, 96), (0.025, 24)):
        accuracy = iter([0.7, 0.65, 0.7 + gain, 0.7, 0.6])
        monkeypatch.setattr(
            HoldoutSplit, "score", lambda *_, given=accuracy: dict.fromkeys(LENGTH_CLASSIFIERS, next(given))
        )
        assert length() == wanted


def test_nothing_is_tried_without_need_or_means(context: Context, prototypes: Prototypes) -> None:
    never = words({})
    rng = np.random.default_rng(0)
    assert select_max_tokens(never, prototypes, replace(context, max_tokens=28), rng) is None
    assert select_max_tokens(never, prototypes, replace(context, embedder=None), rng) is None
    assert select_max_tokens(never, prototypes, replace(context, embedder=OpenAIEmbedder("m")), rng) is None
    few = make_context(*rows(8), max_tokens=96)
    halves = make_prototypes(few, [range(0, 8, 2), range(1, 8, 2)])
    assert select_max_tokens(never, halves, few, rng) is None


def test_a_length_that_no_set_has_is_left_out(context: Context, prototypes: Prototypes) -> None:
    good = words({96: False, 48: True, 24: True, 16: True, 12: True})

    def choice(impossible: set[int]) -> LengthChoice | None:
        def write(
            prototypes: Prototypes, context: Context, rng: np.random.Generator
        ) -> Sequence[DecodedText]:
            if context.max_tokens in impossible:
                raise InputError("expected different texts, found one")
            return good(prototypes, context, rng)

        return select_max_tokens(write, prototypes, context, np.random.default_rng(0))

    found = choice({24, 12})
    assert found is not None
    assert (found.tokens, list(found.scores)) == (48, [96, 48, 16])
    assert choice({96}) is None


@pytest.mark.parametrize(("classes", "per_class"), [(40, 1), (2, 40), (12, 8)])
def test_lengths_of_many_texts_are_compared_on_a_sample(
    classes: int, per_class: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdout, "SAMPLE_CLASSES", 12)
    monkeypatch.setattr(holdout, "SAMPLE_TEXTS", 20)
    count = 5 * classes * per_class
    texts = [f"A film of kind {row % classes} and number {row} ." for row in range(count)]
    context = make_context(texts, [row % classes for row in range(count)])
    clusters = [range(first, count, classes * per_class) for first in range(classes * per_class)]
    prototypes = make_prototypes(context, clusters)
    sizes, sources = [], []

    def write(prototypes: Prototypes, context: Context, rng: np.random.Generator) -> list[DecodedText]:
        assert set(prototypes.labels.tolist()) == set(context.source.labels.tolist())
        assert sorted(np.concatenate(prototypes.members)) == list(range(len(context.source)))
        sizes.append((len(set(prototypes.labels.tolist())), len(prototypes)))
        sources.append(set(context.source.texts))
        return [DecodedText(context.source.texts[members[0]]) for members in prototypes.members]

    choice = select_max_tokens(write, prototypes, context, np.random.default_rng(0))
    assert choice is not None
    assert len(sizes) == len(choice.scores) == 5
    assert {kinds for kinds, _ in sizes} == {min(classes, 12)}
    assert max(texts for _, texts in sizes) <= 20
    assert all(source == sources[0] < set(texts) for source in sources)


def test_rows_with_one_long_opening_are_distilled() -> None:
    """Cut to a shorter length, all rows of a class would be the same text."""
    opening = "we write to report the following problem with a delivery that reached us, namely"
    texts = [
        f"{opening} {'a broken lid' if row % 2 else 'a late parcel'} in case {row}" for row in range(120)
    ]
    context = make_context(texts, [row % 2 for row in range(120)])
    prototypes = make_prototypes(context, [range(0, 120, 2), range(1, 120, 2)])
    more = make_prototypes(context, [range(first, 120, 4) for first in range(4)])
    for few in (prototypes, more):
        result = TeachingDecoder().decode(few, context, seed=0)
        check_contract(result.texts, few, context)


def test_teaching_writes_texts_of_the_chosen_length(context: Context, prototypes: Prototypes) -> None:
    result = TeachingDecoder().decode(prototypes, context, seed=0)
    check_contract(result.texts, prototypes, context)
    length = result.metadata["length"]["tokens"]
    assert max(context.count_tokens([text.text for text in result.texts])) <= length
    assert TeachingDecoder().decode(prototypes, context, seed=0) == result
    assert not TeachingDecoder(length="longest").decode(prototypes, context, seed=0).metadata
    assert make("decoders", "teaching:longest") == TeachingDecoder(length="longest")
    with pytest.raises(InputError, match="expected length to be one of tried, longest, found 'short'"):
        make("decoders", "teaching:short")


def test_a_class_of_few_rows_has_texts_of_several_sentences() -> None:
    """A classifier of vectors would take it for the class of everything short."""
    texts, labels = rows(200)
    few = [f"What does the letter {letter} stand for ?" for letter in "ABCDEFGHIJKLMNOPQRST"]
    context = make_context([*texts, *few], [*labels, *[2] * len(few)], max_tokens=64)
    clusters = [
        range(0, 100, 2),
        range(1, 100, 2),
        range(200, 210),
        range(100, 200, 2),
        range(101, 200, 2),
        range(210, 220),
    ]
    prototypes = make_prototypes(context, clusters)
    decoded = TeachingDecoder(length="longest").decode(prototypes, context, seed=0).texts
    tokens = context.count_tokens([text.text for text in decoded])
    assert min(tokens) >= 32
