"""The contract of decoders, on each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix

from dallme.data import DecodedText
from dallme.decoders.base import Context, Decoder, DecodingResult
from dallme.decoders.extractive.candidates import CandidateSentences, SentenceFilter, special_tokens
from dallme.decoders.extractive.decoder import ExtractiveDecoder, GreedySelector
from dallme.decoders.extractive.proxies import ProxyAccuracy
from dallme.decoders.extractive.weights import WordWeights
from dallme.decoders.nearest import NearestDecoder, first_sentences
from dallme.embedders.base import count_words
from dallme.embedders.sentence_transformer import SentenceTransformerEmbedder
from dallme.errors import InputError
from dallme.text import clean, sentences
from decoder_cases import (
    FILMS,
    FLOPS,
    INTERLEAVED,
    check_contract,
    count_with_two_special_tokens,
    make_context,
    make_prototypes,
)


@pytest.mark.parametrize("count_tokens", [count_words, count_with_two_special_tokens])
@pytest.mark.parametrize("max_tokens", [4, 12, 128])
def test_decoded_texts_are_readable_short_and_traced(
    decoder: Decoder, films: Context, max_tokens: int, count_tokens: Callable[[Sequence[str]], np.ndarray]
) -> None:
    context = replace(films, max_tokens=max_tokens, count_tokens=count_tokens)
    prototypes = make_prototypes(context, INTERLEAVED)
    check_contract(decoder.decode(prototypes, context, seed=0).texts, prototypes, context)


def test_texts_come_in_the_order_of_the_prototypes(decoder: Decoder, films: Context) -> None:
    prototypes = make_prototypes(films, INTERLEAVED)
    decoded = decoder.decode(prototypes, films, seed=0).texts
    for text, members in zip(decoded, prototypes.members, strict=True):
        assert set(text.rows) <= set(members.tolist())


def test_as_many_texts_as_rows(decoder: Decoder, films: Context) -> None:
    prototypes = make_prototypes(films, [[row] for row in range(12)])
    check_contract(decoder.decode(prototypes, films, seed=0).texts, prototypes, films)


def test_prototypes_far_from_every_row(decoder: Decoder, films: Context) -> None:
    prototypes = make_prototypes(films, INTERLEAVED)
    prototypes = replace(prototypes, vectors=-prototypes.vectors)
    check_contract(decoder.decode(prototypes, films, seed=0).texts, prototypes, films)


def test_the_same_seed_gives_the_same_texts(decoder: Decoder, films: Context) -> None:
    prototypes = make_prototypes(films, INTERLEAVED)
    assert decoder.decode(prototypes, films, seed=3).texts == decoder.decode(prototypes, films, seed=3).texts


def test_the_input_is_left_as_it_is(decoder: Decoder, films: Context) -> None:
    prototypes = make_prototypes(films, INTERLEAVED)
    arrays = [films.vectors.vectors, films.vectors.labels, prototypes.vectors, *prototypes.members]
    before = [array.copy() for array in arrays]
    decoder.decode(prototypes, films, seed=0)
    assert all(np.array_equal(old, new) for old, new in zip(before, arrays, strict=True))
    assert list(films.source.texts) == [*FILMS, *FLOPS]


def test_html_emoji_and_chinese(decoder: Decoder) -> None:
    texts = [
        "<br />",
        "😀 😀 😀",
        "这部电影非常好看我很喜欢。演员演得好。",
        "a<p>",
        "&nbsp;",
        "😡",
        "这部电影非常难看我不喜欢。",
        "b",
    ]
    context = make_context(texts, [0] * 4 + [1] * 4)
    for clusters in ([[0, 1, 2, 3], [4, 5, 6, 7]], [[0], [2], [1, 3], [4], [6], [5, 7]]):
        prototypes = make_prototypes(context, clusters)
        check_contract(decoder.decode(prototypes, context, seed=0).texts, prototypes, context)


def test_texts_without_words(decoder: Decoder) -> None:
    context = make_context(["😀 😀", "😡 😡", "😀 🎉", "! ! !"], [0, 1, 0, 1])
    prototypes = make_prototypes(context, [[0, 2], [1, 3]])
    decoded = decoder.decode(prototypes, context, seed=0).texts
    check_contract(decoded, prototypes, context)
    assert "😀" in decoded[0].text


def test_texts_that_share_no_word(decoder: Decoder) -> None:
    # The only words of several texts are in rows of no cluster: nothing can be learned from the few texts.
    texts = ["alpha beta gamma delta", "film one two three", "film film four five", "epsilon zeta eta theta"]
    context = make_context(texts, [0, 0, 1, 1])
    prototypes = make_prototypes(context, [[0], [3]])
    assert [text.text for text in decoder.decode(prototypes, context, seed=0).texts] == [texts[0], texts[3]]


def test_prototypes_of_one_class_alone(decoder: Decoder, films: Context) -> None:
    prototypes = make_prototypes(films, [[0, 1, 2], [3, 4]])
    check_contract(decoder.decode(prototypes, films, seed=0).texts, prototypes, films)


def test_repeated_rows_do_not_make_repeated_texts(decoder: Decoder) -> None:
    context = make_context([FILMS[3], FILMS[3], FILMS[5], *FLOPS], [0] * 3 + [1] * 6)
    prototypes = make_prototypes(context, [[0], [1], [3, 4], [5]])
    decoded = decoder.decode(prototypes, context, seed=0).texts
    check_contract(decoded, prototypes, context)
    assert decoded[1].text == FILMS[5]  # the cluster has no text of its own left


def test_too_few_different_texts_is_an_error(decoder: Decoder) -> None:
    context = make_context([FILMS[3], f"<p>{FILMS[3]}", "<br />", *FLOPS], [0] * 3 + [1] * 6)
    with pytest.raises(InputError) as caught:
        decoder.decode(make_prototypes(context, [[0], [1], [3, 4], [5]]), context, seed=0)
    assert str(caught.value) == (
        "expected at least 2 different texts in class 'class 0' without HTML and cut to 128 tokens, found 1; "
        "ask for fewer texts or more tokens"
    )


def test_a_limit_that_no_text_can_meet_is_an_error(decoder: Decoder, films: Context) -> None:
    context = replace(films, max_tokens=2, count_tokens=count_with_two_special_tokens)
    with pytest.raises(InputError, match="cut to 2 tokens, found 0; ask for fewer texts or more tokens"):
        decoder.decode(make_prototypes(context, [[0], [6]]), context, seed=0)


def test_prototypes_of_other_data_are_errors(decoder: Decoder, films: Context) -> None:
    prototypes = make_prototypes(films, INTERLEAVED)
    with pytest.raises(InputError) as caught:
        decoder.decode(replace(prototypes, vectors=prototypes.vectors[:, :7]), films, seed=0)
    assert str(caught.value) == (
        "expected prototypes of 256 dimensions, as the source's vectors, found 7; "
        "condense and decode with one embedder"
    )
    with pytest.raises(InputError, match=r"expected prototypes of the classes \[2, 5\], found some of \[7\]"):
        decoder.decode(replace(prototypes, labels=np.array([5, 2, 5, 2, 5, 7])), films, seed=0)
    with pytest.raises(InputError, match="expected seed to be a whole number"):
        decoder.decode(prototypes, films, seed=-1)


@dataclass(frozen=True)
class Fixed(Decoder):
    """Returns the same texts, whatever is asked."""

    texts: tuple[str, ...] = ()

    def _decode(self, *_: Any) -> DecodingResult:
        return DecodingResult(tuple(map(DecodedText, self.texts)))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("a", "b"), "expected a text for each of 3 prototypes from Fixed, found 2"),
        (("a", " ", "b"), "expected texts with words from Fixed, found a blank one for prototype 1"),
        (("a", "b", "c d e"), "expected texts of at most 2 tokens from Fixed, found 3 for prototype 2"),
        (
            ("a", "b", "a"),
            "expected different texts in each class from Fixed, found one twice in class 'class 5', "
            "the second for prototype 2",
        ),
    ],
)
def test_broken_promises_of_a_decoder_are_errors(
    texts: tuple[str, ...], message: str, films: Context
) -> None:
    prototypes = make_prototypes(films, [[0], [6], [1]])
    short = replace(films, max_tokens=2)
    assert len(Fixed(("a", "a", "b")).decode(prototypes, short, seed=0).texts) == 3
    with pytest.raises(InputError) as caught:
        Fixed(texts).decode(prototypes, short, seed=0)
    assert str(caught.value) == message


def test_a_context_checks_itself(films: Context) -> None:
    with pytest.raises(InputError, match="expected max_tokens to be a whole number of at least 1, found 0"):
        replace(films, max_tokens=0)
    with pytest.raises(InputError, match="expected a vector for each text, found 12 vectors for 2 texts"):
        replace(films, source=films.source.take([0, 6]))


def test_real_reviews_with_the_real_tokenizer(
    decoder: Decoder, minilm: SentenceTransformerEmbedder, shared_data: Path
) -> None:
    table = pq.read_table(sorted(shared_data.glob("imdb/train*.parquet"))[0]).to_pydict()
    chosen = np.random.default_rng(0).permutation(len(table["text"]))[:60]
    texts, labels = [table["text"][row] for row in chosen], [int(table["label"][row]) for row in chosen]
    context = make_context(texts, labels, 128, minilm.count_tokens)
    clusters = [
        rows for label in (0, 1) for rows in np.array_split(np.flatnonzero(np.array(labels) == label), 3)
    ]
    prototypes = make_prototypes(context, clusters)
    decoded = decoder.decode(prototypes, context, seed=0).texts
    check_contract(decoded, prototypes, context)
    assert any("<br" in text for text in texts)
    assert np.mean(context.count_tokens([text.text for text in decoded])) > 40  # most of the limit is used


def test_nearest_takes_the_row_with_the_largest_cosine(films: Context) -> None:
    prototypes = make_prototypes(films, [[2, 3], [2], [8]])
    prototypes = replace(prototypes, vectors=np.stack([films.vectors.vectors[row] for row in (2, 2, 8)]))
    decoded = NearestDecoder().decode(prototypes, films, seed=0).texts
    assert decoded[0].text == FILMS[2]
    similarity = films.vectors.vectors[:6] @ films.vectors.vectors[2]
    assert decoded[1].rows[0] == np.argsort(-similarity)[1]  # row 2 is taken
    assert decoded[2].text == FLOPS[2]
    assert decoded[2] == DecodedText(
        FLOPS[2], ("An awful story with a boring cast.", "Avoid it at all costs!"), (8, 8)
    )


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        (20, ["One two three.", "Four five!"]),
        (6, ["One two three."]),
        (4, ["One two three."]),
        (3, ["One two"]),
        (1, ["One"]),
    ],
)
def test_texts_are_cut_after_the_last_sentence_that_fits(max_tokens: int, expected: list[str]) -> None:
    found = first_sentences("One <b>two</b> three. Four five!", 9, max_tokens, count_words, "en")
    assert found == DecodedText(" ".join(expected), tuple(expected), (9,) * len(expected))


def test_a_long_word_is_cut_between_characters() -> None:
    def count_characters(texts: Sequence[str]) -> np.ndarray:
        return np.array([len(text.replace(" ", "")) for text in texts])

    assert first_sentences("很好看的电影", 0, 3, count_characters, "zh") == DecodedText(
        "很好看", ("很好看",), (0,)
    )
    assert first_sentences("a bee ate", 0, 4, count_characters, "en") == DecodedText(
        "a bee", ("a bee",), (0,)
    )
    assert first_sentences("<br />", 0, 3, count_characters, "en") is None
    assert first_sentences("word", 0, 0, count_characters, "en") is None


def _pool(rows: dict[str, list[int]], tokens: list[int]) -> CandidateSentences:
    return CandidateSentences(
        list(rows),
        list(range(len(rows))),
        np.array(tokens),
        csr_matrix(np.array(list(rows.values()), dtype=np.float32)),
    )


#: Three sentences over the words a, b and c, and their tokens.
SMALL = _pool({"a b": [1, 1, 0], "c": [0, 0, 1], "a": [1, 0, 0]}, [2, 1, 1])


A_THREE_TIMES = {f"a{number}": [1, 0, 0] for number in range(3)}


def select(weights: list[float], limit: int, before: dict[str, list[int]]) -> list[int]:
    """Fills a text after another one of its class that takes all sentences of `before`."""
    pools = [_pool(before, [1] * len(before)), SMALL] if before else [SMALL]
    selector = GreedySelector(
        pools,
        np.zeros(len(pools), dtype=np.int64),
        np.array([weights], dtype=np.float32),
        limit,
        min_tokens=1,
    )
    for text in range(len(pools)):
        while selector.add(text):
            pass
    assert all(len(chosen) == len(before) for chosen in selector.chosen[:-1])
    return selector.chosen[-1]


@pytest.mark.parametrize(
    ("weights", "limit", "before", "chosen"),
    [
        # Gains: (3+2)/2 = 2.5, 1, 3 -> "a"; then (3/2+2)/2 = 1.75, 1 -> "a b"; then "c".
        ([3, 2, 1], 4, {}, [2, 0, 1]),
        ([3, 2, 1], 3, {}, [2, 0]),
        # After "a", "a b" does not fit any more.
        ([3, 2, 1], 2, {}, [2, 1]),
        # a was used three times: (3/4+2)/2 = 1.375, 1, 3/4 -> "a b"; then 1, 3/5 -> "c".
        ([3, 2, 1], 4, A_THREE_TIMES, [0, 1, 2]),
        # A word that was used once counts half: 3/2/2 = 0.75, 1.6, 3/2 = 1.5 -> "c", "a", "a b".
        ([3, 0, 1.6], 4, {"a0": [1, 0, 0]}, [1, 2, 0]),
        # "a" is taken: (3/2+2)/2 = 1.75, 1 -> "a b", then "c".
        ([3, 2, 1], 4, {"a": [1, 0, 0]}, [0, 1]),
        # Nothing is gained by "c".
        ([3, 2, 0], 4, {}, [2, 0]),
        # If nothing is gained at all, the first sentence still makes a text.
        ([0, 0, 0], 4, {}, [0]),
        ([3, 2, 1], 0, {}, []),
        ([3, 2, 1], 4, {"a b": [1, 1, 0], "c": [0, 0, 1], "a": [1, 0, 0]}, []),
    ],
)
def test_sentences_are_chosen_by_gain_per_token(
    weights: list[float], limit: int, before: dict[str, list[int]], chosen: list[int]
) -> None:
    assert select(weights, limit, before) == chosen


def test_text_is_filled_to_its_least_length() -> None:
    def texts(min_tokens: int) -> list[list[int]]:
        selector = GreedySelector([SMALL], np.array([0]), np.zeros((1, 3), dtype=np.float32), 4, min_tokens)
        while selector.add(0):
            pass
        return selector.chosen

    assert [texts(tokens) for tokens in (0, 1, 2, 3, 4)] == [[[]], [[0]], [[0]], [[0, 1]], [[0, 1, 2]]]


def test_a_text_without_candidates_stays_empty() -> None:
    empty = CandidateSentences([], [], np.empty(0, dtype=np.int64), csr_matrix((0, 3), dtype=np.float32))
    selector = GreedySelector([empty], np.array([0]), np.ones((1, 3), dtype=np.float32), 9, 1)
    assert not selector.add(0)


def test_special_tokens_are_counted_once(films: Context, minilm: SentenceTransformerEmbedder) -> None:
    assert special_tokens(films) == 0
    assert special_tokens(replace(films, count_tokens=count_with_two_special_tokens)) == 2
    assert special_tokens(replace(films, count_tokens=minilm.count_tokens)) == 2


def test_sentences_of_fitting_length_or_the_whole_text() -> None:
    sentence_filter = SentenceFilter(candidates=10, min_words=3, max_words=5, language="en")
    assert list(
        sentence_filter.sentences("Too short. This one <i>does</i> fit. This one is far too long.")
    ) == ["This one does fit."]
    assert list(sentence_filter.sentences("Too short. No.<br />")) == ["Too short. No."]
    assert list(sentence_filter.sentences("电影很好看。好。")) == [
        "电影很好看。"
    ]  # each of its characters is a word
    assert list(sentence_filter.sentences("<br />")) == []


def test_a_text_covers_what_tells_its_class_apart() -> None:
    rows = [
        "The weather was mild that day. A truly {} film it is.",
        "{} people made it, {} indeed.",
        "We went there by bus.",
    ]
    texts = [row.replace("{}", word) for word in ("great", "awful") for row in rows]
    context = make_context(texts, [1, 1, 1, 0, 0, 0])
    decoded = (
        ExtractiveDecoder(draws=1)
        .decode(make_prototypes(context, [[0, 1, 2], [3, 4, 5]]), context, seed=0)
        .texts
    )
    assert decoded[0].sentences[0] in ("A truly great film it is.", "great people made it, great indeed.")
    assert decoded[1].sentences[0] in ("A truly awful film it is.", "awful people made it, awful indeed.")
    assert "The weather was mild that day." not in decoded[0].sentences[:2]


def test_no_sentence_is_used_twice_in_a_class(films: Context) -> None:
    # All clusters of a class hold the same rows: each takes what the ones before have left.
    prototypes = make_prototypes(films, [range(6), range(6), range(6), range(6, 12), range(6, 12)])
    context = replace(films, max_tokens=20)
    decoded = ExtractiveDecoder().decode(prototypes, context, seed=0).texts
    check_contract(decoded, prototypes, context)
    for label in (2, 5):
        used = [
            sentence
            for text, of in zip(decoded, prototypes.labels.tolist(), strict=True)
            if of == label
            for sentence in text.sentences
        ]
        assert len(set(used)) == len(used)


def test_a_cluster_without_free_sentences_gets_the_nearest_text(films: Context) -> None:
    prototypes = make_prototypes(films, [range(6), [0], range(6, 12)])
    decoded = ExtractiveDecoder().decode(prototypes, films, seed=0).texts
    assert set(sentences(clean(FILMS[0]))) <= set(decoded[0].sentences)
    assert decoded[1] == NearestDecoder().decode(make_prototypes(films, [[0]]), films, seed=0).texts[0]


def test_a_whole_text_that_is_taken_is_not_used_again() -> None:
    # The first cluster has no text and takes that of the second, whose sentences are all too short.
    context = make_context(
        ["<br />", "Too short. No.", "Another row with a longer sentence.", *FLOPS], [0] * 3 + [1] * 6
    )
    prototypes = make_prototypes(context, [[0], [1], [3, 4]])
    prototypes = replace(prototypes, vectors=context.vectors.vectors[[1, 1, 3]])
    decoded = ExtractiveDecoder().decode(prototypes, context, seed=0).texts
    assert [text.text for text in decoded[:2]] == ["Too short. No.", "Another row with a longer sentence."]


def test_a_text_that_is_too_long_for_the_limit_is_cut(films: Context) -> None:
    context = replace(films, max_tokens=3)
    decoded = ExtractiveDecoder().decode(make_prototypes(context, [[0], [6]]), context, seed=0).texts
    assert [text.text for text in decoded] == ["A warm and", "A dull and"]


def test_more_sentences_than_candidates(films: Context) -> None:
    prototypes = make_prototypes(films, [range(6), range(6, 12)])
    decoded = ExtractiveDecoder(candidates=2).decode(prototypes, films, seed=0).texts
    check_contract(decoded, prototypes, films)
    assert [len(text.sentences) for text in decoded] == [2, 2]


def test_draws_are_deterministic_and_the_best_is_kept(films: Context) -> None:
    context = replace(films, max_tokens=20)
    prototypes = make_prototypes(context, [[0, 1, 2], [6, 7, 8]])
    scores = []
    for draws in (1, 2, 8):
        decoder = ExtractiveDecoder(draws=draws, scale=2)
        decoded = decoder.decode(prototypes, context, seed=1).texts
        assert decoded == decoder.decode(prototypes, context, seed=1).texts
        rng = np.random.default_rng(1)
        words = WordWeights.learn(context.source.texts, context.vectors.labels, rng)
        proxies = ProxyAccuracy(words, context.vectors.labels, rng)
        scores.append(proxies.score([text.text for text in decoded], prototypes.labels))
    assert all(earlier <= later for earlier, later in pairwise(scores))
    assert (
        ExtractiveDecoder(draws=8, scale=0).decode(prototypes, context, seed=1).texts
        == ExtractiveDecoder(draws=1).decode(prototypes, context, seed=2).texts
    )
