"""Decoders of one source share sentences, word counts and vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer

from dallme.data import LabelledVectors
from dallme.decoders import nearest
from dallme.decoders.base import Context, Decoder, SourceCache
from dallme.decoders.extractive import candidates as candidates_module
from dallme.decoders.extractive import decoder as decoder_module
from dallme.decoders.extractive import weights as weights_module
from dallme.decoders.extractive.candidates import SentenceFilter, gather_candidates
from dallme.decoders.extractive.decoder import ExtractiveDecoder, TeachingDecoder
from dallme.decoders.extractive.proxies import ProxyAccuracy
from dallme.decoders.extractive.weights import WordWeights, row_of
from dallme.errors import InputError
from decoder_cases import (
    FILMS,
    FLOPS,
    INTERLEAVED,
    check_contract,
    count_with_two_special_tokens,
    make_context,
    make_prototypes,
)

# What runs on one source share


@pytest.mark.parametrize("decoder", [TeachingDecoder(), ExtractiveDecoder(draws=2)])
def test_what_was_found_in_a_source_serves_the_next_run(
    decoder: Decoder, films: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    find = SentenceFilter.sentences
    monkeypatch.setattr(
        SentenceFilter, "sentences", lambda self, text: looked_at.append(text) or find(self, text)
    )
    context = replace(films, max_tokens=16)
    for seed, clusters in enumerate((INTERLEAVED, [range(6), range(6, 12)], [[0, 3, 5], [7, 9]])):
        prototypes = make_prototypes(context, clusters)
        decoded = decoder.decode(prototypes, context, seed=seed).texts
        assert len(looked_at) == len(films.source)
        assert decoded == decoder.decode(prototypes, replace(context, cache=SourceCache()), seed=seed).texts
        del looked_at[len(films.source) :]


@pytest.mark.parametrize("candidates", [2, 10_000])
def test_pools_are_the_same_in_pieces_and_from_a_table(
    films: Context, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*films.source.texts, FILMS[1], "Great fun. Great fun. It is. " + FLOPS[0]]
    context = make_context(texts, [5] * 6 + [2] * 6 + [5, 5], count_tokens=count_with_two_special_tokens)
    members = [np.array([12, 3, 13, 0, 1]), np.arange(6, 12), np.array([5])]
    words, sentence_filter = (
        WordWeights.of(context, np.random.default_rng(0)),
        SentenceFilter(candidates, 2, 8, "en"),
    )
    found = []
    for most in (candidates_module.INDEX_CHARACTERS, 0):
        monkeypatch.setattr(candidates_module, "INDEX_CHARACTERS", most)
        with context.progress.task("decode", total=3) as task:
            found.append(
                gather_candidates(
                    members, np.array([1, 0, 1]), words.positive, words, sentence_filter, context, task
                )
            )
    assert len(context.cache) == 2  # the word counts, and the sentences of the first turn
    for one, other in zip(*found, strict=True):
        assert (one.sentences, one.rows) == (other.sentences, other.rows)
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_array_equal(one.counts.toarray(), other.counts.toarray())


def test_other_rows_are_counted_anew(films: Context) -> None:
    held = replace(
        films,
        source=films.source.take(range(11)),
        vectors=LabelledVectors(
            films.vectors.vectors[:11], films.vectors.labels[:11], films.vectors.fingerprint
        ),
    )
    rng = np.random.default_rng(0)
    assert len(WordWeights.of(films, rng).rows) == 12
    assert len(WordWeights.of(held, rng).rows) == 11


def test_another_sentence_filter_finds_other_sentences(films: Context) -> None:
    prototypes = make_prototypes(films, INTERLEAVED)
    for options in (
        {"min_words": 2},
        {"min_words": 6},
        {"min_words": 2, "max_words": 5},
        {"min_words": 2, "language": "de"},
    ):
        decoder = ExtractiveDecoder(**options)  # type: ignore[arg-type]
        assert (
            decoder.decode(prototypes, films, seed=0).texts
            == decoder.decode(prototypes, replace(films, cache=SourceCache()), seed=0).texts
        )


def test_nothing_is_kept_of_rows_that_are_drawn_at_random(
    films: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "LEARNED_ROWS", 6)
    monkeypatch.setattr(weights_module, "LEAST_ROWS", 1)
    TeachingDecoder().decode(make_prototypes(films, INTERLEAVED), films, seed=0)
    assert len(films.cache) == 0


@pytest.mark.parametrize("draws", [0, 1.5])
def test_draws_are_checked(films: Context, draws: Any) -> None:
    with pytest.raises(InputError, match=f"expected draws to be a whole number of at least 1, found {draws}"):
        ExtractiveDecoder(draws=draws).decode(make_prototypes(films, [[0], [6]]), films, seed=0)


# The words


def test_words_speak_for_their_class() -> None:
    texts = ["great great film", "great <br />play", "awful film", "awful<br />play", "unique film"]
    words = WordWeights.learn(texts, np.array([7, 7, 3, 3, 3]), np.random.default_rng(0))
    known = words.vectorizer.get_feature_names_out().tolist()
    assert known == ["awful", "film", "great", "play"]  # neither markup nor words of one text only
    assert words.counts.toarray().tolist() == [
        [0, 1, 2, 0],
        [0, 0, 1, 1],
        [1, 1, 0, 0],
        [1, 0, 0, 1],
        [0, 1, 0, 0],
    ]
    assert words.classes.tolist() == [3, 7]
    awful, great = words.weights[:, known.index("awful")], words.weights[:, known.index("great")]
    assert awful[0] > 0 > awful[1]
    assert great[0] < 0 < great[1]
    np.testing.assert_array_equal(words.weights[0], -words.weights[1])


def test_weights_with_many_classes_are_excesses_over_the_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights_module, "MACHINE_ROWS", 5)
    texts, labels = ["aa aa", "aa bb", "bb bb", "bb cc", "cc aa"], np.array([4, 4, 2, 2, 9])
    words = WordWeights.learn(texts, labels, np.random.default_rng(0))
    tfidf = TfidfTransformer().fit_transform(words.counts).toarray()
    means = np.array([tfidf[labels == label].mean(axis=0) for label in (2, 4, 9)])
    assert isinstance(words.weights, csr_matrix)
    assert words.classes.tolist() == [2, 4, 9]
    np.testing.assert_allclose(words.positive.toarray(), np.maximum(means - tfidf.mean(axis=0), 0), atol=1e-6)
    np.testing.assert_array_equal(row_of(words.weights, 1), words.weights.toarray()[1])


@pytest.mark.parametrize("decoder", [ExtractiveDecoder(draws=3), TeachingDecoder()])
def test_many_classes_are_told_apart(
    films: Context, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "MACHINE_ROWS", 1)
    monkeypatch.setattr(decoder_module, "PROXY_WEIGHTS", 1)
    prototypes = make_prototypes(films, [[0, 1, 2], [6, 7, 8]])
    decoded = decoder.decode(prototypes, films, seed=0).texts
    check_contract(decoded, prototypes, films)
    assert decoded == decoder.decode(prototypes, films, seed=0).texts


def test_weights_of_a_large_source_are_learned_from_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights_module, "LEARNED_ROWS", 100)
    labels = np.repeat([3, 5, 9], [380, 600, 20])
    texts = [f"common word{row % 7} class{label}" for row, label in enumerate(labels.tolist())]
    words = WordWeights.learn(texts, labels, np.random.default_rng(0))
    assert np.unique(labels[words.rows], return_counts=True)[1].tolist() == [38, 60, 10]
    assert (np.diff(words.rows) > 0).all()
    assert words.counts.shape[0] == 108
    assert np.argmax(words.weights, axis=1).tolist() == [
        words.vectorizer.get_feature_names_out().tolist().index(f"class{label}") for label in (3, 5, 9)
    ]
    assert (
        ProxyAccuracy(words, labels, np.random.default_rng(0)).score(texts[:1] + texts[-1:], np.array([3, 9]))
        > 0.4
    )


@pytest.mark.parametrize("size", [1, 15, 16, 17, 300, 5000])
def test_values_are_looked_at_from_the_largest_down(size: int) -> None:
    values = np.random.default_rng(size).integers(size, size=size).astype(np.float32)  # many are equal
    assert list(nearest._descending(values)) == np.argsort(-values, kind="stable").tolist()


def test_three_classes_have_three_rows_of_weights() -> None:
    words = WordWeights.learn(
        ["aa xx", "bb xx", "cc xx", "aa", "bb", "cc"], np.array([0, 1, 2] * 2), np.random.default_rng(0)
    )
    assert words.weights.shape == (3, 4)
    assert (np.diag(words.weights) > 0).all()


def test_words_need_text_and_two_classes() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="expected words in at least one of 2 texts, found nothing but HTML"):
        WordWeights.learn(["<br />", "&nbsp;"], np.array([0, 1]), rng)
    with pytest.raises(InputError, match="expected texts of at least two classes, found one"):
        WordWeights.learn(["good", "fine"], np.array([0, 0]), rng)


def test_a_mark_that_lower_case_adds_belongs_to_its_word() -> None:
    assert len("İ0".lower()) == 3  # the dot above becomes a combining mark
    words = WordWeights.learn(["00", "İ0"], np.array([0, 1]), np.random.default_rng(0))
    assert words.vectorizer.get_feature_names_out().tolist() == ["00", "İ0".lower()]


def test_teachability_is_the_mean_accuracy_on_the_source() -> None:
    texts, labels = ["great film", "great play", "awful film", "awful play"], np.array([1, 1, 0, 0])
    words = WordWeights.learn(texts, labels, np.random.default_rng(0))
    proxies = ProxyAccuracy(words, labels, np.random.default_rng(0))
    assert proxies.score(["great", "awful"], np.array([1, 0])) == 1
    assert proxies.score(["awful", "great"], np.array([1, 0])) == 0
    assert proxies.score(["film", "play"], np.array([1, 0])) == 0.5
    assert proxies.score(["unknown", "words"], np.array([1, 0])) == 0
    assert proxies.score(["great", "film"], np.array([1, 1])) == 0  # one class teaches nothing
