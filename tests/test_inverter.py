"""Decoding with an inverter: the search, batches, generation and its cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from dallme.decoders.vec2text import correction, generation, inverter
from dallme.decoders.vec2text.corpus import pad
from dallme.decoders.vec2text.correction import Candidate, trajectory
from dallme.decoders.vec2text.generation import TokenSampler
from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.model import InverterModel
from dallme.embedders.base import TextError
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError
from inverter_cases import CONFIG, HASHING, TEXTS, WORDS, WordInverter, word_inverter

TARGETS = HASHING.embed(["warm fun film", "sad plot awful end", "music", "great cast great story friends"])


# The search


def test_correction_finds_the_words_of_the_target() -> None:
    decoded = word_inverter().decode(TARGETS, steps=6, beam=4)
    assert [set(row.text.split()) for row in decoded] == [
        {"warm", "fun", "film"},
        {"sad", "plot", "awful", "end"},
        {"music"},
        {"great", "cast", "story", "friends"},
    ]
    assert [row.text.split().count("great") for row in decoded] == [0, 0, 0, 2]
    assert [row.cosine for row in decoded] == pytest.approx([1, 1, 1, 1], abs=1e-5)
    for row, target in zip(decoded, TARGETS, strict=True):
        assert row.candidates[0].text == row.text
        assert len({candidate.text for candidate in row.candidates}) == len(row.candidates) <= 4
        cosines = [candidate.cosine for candidate in row.candidates]
        assert cosines == sorted(cosines, reverse=True)
        assert cosines == pytest.approx(
            (HASHING.embed([each.text for each in row.candidates]) @ target).tolist(), abs=1e-6
        )


def test_rows_that_are_near_enough_leave_the_batch() -> None:
    writer = word_inverter()
    decoded = writer.decode(TARGETS, steps=9, beam=1)
    # One word, then two, three, four and five: "music" needs no correction, the longest text four.
    assert [row.steps for row in decoded] == [2, 3, 0, 4]
    assert writer.calls == [(4, 1), (3, 1), (3, 1), (2, 1), (1, 1)]


class RandomWriter:
    """Writes random words whatever the target is, and counts what it embeds."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def write(
        self, targets: np.ndarray, *, seeds: Sequence[int], samples: int = 1, **_: Any
    ) -> list[list[str]]:
        drawn = [np.random.default_rng(seed).choice(WORDS, (samples, 3)) for seed in seeds]
        return [[" ".join(words) for words in texts] for texts in drawn]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.embedded += texts
        return HASHING.embed(texts)


def test_correction_is_monotone_and_stops_after_two_idle_steps() -> None:
    states = list(trajectory(RandomWriter(), TARGETS, steps=30, beam=3, seed=1))
    assert len(states) == 31
    for before, after in pairwise(states):
        assert all(later.cosine >= earlier.cosine for earlier, later in zip(before, after, strict=True))
    for row in range(len(TARGETS)):
        texts = [state[row].text for state in states]
        last = max(step for step in range(31) if step == 0 or texts[step] != texts[step - 1])
        assert states[-1][row].steps == last + correction.PATIENCE
    assert any(before[0] != after[0] for before, after in pairwise(states))


def test_each_text_is_embedded_once() -> None:
    class Repeating(RandomWriter):
        def write(self, targets: np.ndarray, *, samples: int = 1, **_: Any) -> list[list[str]]:
            return [["warm  film", "warm film", "dull play"][:samples] for _ in targets]

    writer = Repeating()
    (*_, last) = trajectory(writer, TARGETS, steps=2, beam=4)
    assert writer.embedded == ["warm film", "dull play"]
    assert [candidate.text for candidate in last[0].candidates] == ["warm film", "dull play"]


def test_equal_texts_keep_the_one_that_was_held() -> None:
    row = correction._Row(np.ones(1), np.random.default_rng(0), beam=[Candidate("first", 0.5, np.ones(1))])
    row.add([Candidate("second", 0.5, np.ones(1)), Candidate("worse", 0.4, np.ones(1))], width=2)
    assert [each.text for each in row.beam] == ["first", "second"]
    assert row.stale == 1
    row.add([Candidate("best", 0.6, np.ones(1))], width=2)
    assert [each.text for each in row.beam] == ["best", "first"]
    assert row.stale == 0


def test_texts_that_cannot_be_embedded_are_left_out() -> None:
    class Broken(RandomWriter):
        def write(self, targets: np.ndarray, *, samples: int = 1, **_: Any) -> list[list[str]]:
            return [["", " ", "\0", "unknown words", "warm film"] for _ in targets]

        def embed(self, texts: Sequence[str]) -> np.ndarray:
            for row, text in enumerate(texts):
                if "unknown" in text:
                    raise TextError(row, text, "has no known word")
            return super().embed(texts)

    (first,) = trajectory(Broken(), TARGETS, steps=0, beam=1)
    assert [row.text for row in first] == ["warm film"] * 4


def test_a_row_without_any_text_is_blank() -> None:
    class Silent(RandomWriter):
        def write(self, targets: np.ndarray, **_: Any) -> list[list[str]]:
            return [[""] for _ in targets]

    (*_, last) = trajectory(Silent(), TARGETS, steps=2, beam=1)
    assert last[0] == correction.Decoded("", 0.0, 0, ())


@pytest.mark.parametrize("beam", [1, 3])
def test_the_likeliest_correction_is_not_written_again(beam: int) -> None:
    class Forgetful(WordInverter):
        def write(
            self, *arguments: Any, again: Sequence[bool] | None = None, **options: Any
        ) -> list[list[str]]:
            asked.extend(again or [])
            return super().write(*arguments, **options)

    asked: list[bool] = []
    targets = HASHING.embed(
        ["warm fun film twice", "sad plot unknown", "music of a great story"]
    )  # none can be reached
    told, forgetful = word_inverter(), Forgetful(CONFIG, model=None, tokenizer=None)  # type: ignore[arg-type]
    assert told.decode(targets, steps=8, beam=beam) == forgetful.decode(targets, steps=8, beam=beam)
    assert 0 < sum(asked) < len(asked)


def test_the_seed_decides() -> None:
    first, again, other = (RandomWriter(), RandomWriter(), RandomWriter())
    found = [
        list(trajectory(each, TARGETS, steps=3, beam=3, seed=seed))
        for each, seed in ((first, 5), (again, 5), (other, 6))
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]


# The inverter


def test_given_texts_are_corrected() -> None:
    decoded = word_inverter().decode(TARGETS[:2], steps=1, beam=1, start=["fun film", "plot"])
    assert decoded[0].text == "fun film warm"
    assert decoded[1].text.startswith("plot ")


@pytest.mark.parametrize("beam", [1, 3])
def test_many_vectors_are_decoded_some_at_a_time(monkeypatch: pytest.MonkeyPatch, beam: int) -> None:
    at_once = word_inverter().decode(TARGETS, steps=3, beam=beam)
    monkeypatch.setattr(inverter, "ROWS", 3)
    writer = word_inverter()
    assert writer.decode(TARGETS, steps=3, beam=beam) == at_once
    assert writer.calls[0] == (3, beam)
    states = word_inverter().trajectory(TARGETS, steps=3, beam=beam)
    assert [len(state) for state in states] == [4] * 4
    assert states[-1] == at_once


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "expected steps to be a whole number of at least 0, found -1"),
        ({"beam": 0}, "expected beam to be a whole number of at least 1, found 0"),
        (
            {"start": "nearest"},
            "expected start as 'hypothesis' or one text for each of 4 vectors, found 'nearest'",
        ),
        ({"start": ["a"]}, "expected start as 'hypothesis' or one text for each of 4 vectors, found 1 texts"),
        ({"start": ["a"] * 4, "steps": 0}, "expected at least 1 step to correct given texts, found 0"),
        ({"seed": -1}, "expected seed to be a whole number from 0 to 2**32 - 1, found -1"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        word_inverter().decode(TARGETS, **options)
    assert str(caught.value) == message


def test_vectors_of_another_dimension_are_an_error() -> None:
    with pytest.raises(
        InputError, match="expected vectors with 256 dimensions, found 7; were they made by another embedder?"
    ):
        word_inverter().decode(TARGETS[:, :7])


def test_an_inverter_that_cannot_correct_says_so() -> None:
    writer = word_inverter(replace(CONFIG, corrects=False))
    assert [row.text for row in writer.decode(TARGETS[2:3], steps=0)] == ["music"]
    with pytest.raises(
        InputError, match="expected 0 steps with an inverter that was not trained to correct, found 5"
    ):
        writer.decode(TARGETS)


def test_another_embedder_is_an_error() -> None:
    with pytest.raises(InputError) as caught:
        replace(word_inverter(), own_embedder=HashingEmbedder(8)).embed(["film"])
    assert str(caught.value) == (
        "expected the embedder that the inverter was trained for, found 'hashing' with dimension 256 against 8 "
        "(the inverter's first)"
    )


class EchoModel:
    """In place of the weights: writes the number of the target's largest entry, the current text's first token and a draw."""

    device, eos_id, pad_id, bytes_per_token = torch.device("cpu"), 99, 98, 1

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def generate(
        self,
        target: Any,
        *,
        seeds: list[int],
        samples: int,
        again: list[bool],
        current_ids: Any = None,
        **_: Any,
    ) -> Any:
        self.shapes.append((len(target), 0 if current_ids is None else current_ids.shape[1]))
        first = target.argmax(dim=1) if current_ids is None else current_ids[:, 0]
        texts = [(row, sample) for row, known in enumerate(again) for sample in range(known, samples)]
        drawn = torch.tensor([seeds[row] * sample for row, sample in texts])
        rows = torch.tensor([row for row, _ in texts])
        return torch.stack([target.argmax(dim=1)[rows], first[rows], drawn], dim=1)


class NumberTokenizer:
    """A token is a number, written out."""

    def __call__(self, texts: Sequence[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(word) for word in text.split()] for text in texts]}

    def batch_decode(self, ids: Any, **_: Any) -> list[str]:
        return [" ".join(map(str, row)) for row in ids.tolist()]


@pytest.mark.parametrize("budget", [1, 500, 100_000])
def test_batches_give_each_row_its_own_texts(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(inverter, "BATCH_TOKENS_ELSEWHERE", budget)
    model = EchoModel()
    reader = Inverter(CONFIG, model, NumberTokenizer(), HASHING)  # type: ignore[arg-type]
    targets = np.eye(256, dtype=np.float32)[[7, 3, 5]]
    assert reader.write(targets) == [["7 7 0"], ["3 3 0"], ["5 5 0"]]
    current, vectors = ["11", " ".join(["12"] * 40), "13 1"], np.zeros((3, 256), dtype=np.float32)
    model.shapes.clear()
    assert reader.write(targets, current=current, current_vectors=vectors) == [
        ["7 11 0"],
        ["3 12 0"],
        ["5 13 0"],
    ]
    assert (
        model.shapes == {1: [(1, 48), (1, 16), (1, 16)], 500: [(2, 48), (1, 16)], 100_000: [(3, 48)]}[budget]
    )
    assert reader.write(targets, again=[True, True, False]) == [[], [], ["5 5 0"]]
    drawn = reader.write(targets, samples=3, seeds=[10, 20, 30])
    assert drawn == [
        ["7 7 0", "7 7 10", "7 7 20"],
        ["3 3 0", "3 3 20", "3 3 40"],
        ["5 5 0", "5 5 30", "5 5 60"],
    ]
    others = reader.write(targets, samples=3, seeds=[10, 20, 30], again=[False, True, False])
    assert others == [drawn[0], drawn[1][1:], drawn[2]]


def test_batches_are_balanced_and_smaller_for_large_models(monkeypatch: pytest.MonkeyPatch) -> None:
    model = EchoModel()
    reader = Inverter(CONFIG, model, NumberTokenizer(), HASHING)  # type: ignore[arg-type]
    monkeypatch.setattr(inverter, "BATCH_TOKENS_ELSEWHERE", 4 * (128 + 24))
    assert [len(rows) for rows in reader.split_batches(None, np.ones(9, dtype=np.int64))] == [3, 3, 3]
    assert [rows.tolist() for rows in reader.split_batches(None, np.array([2, 2, 0, 1, 2]))] == [
        [0, 1],
        [3, 4],
    ]
    assert reader.split_batches(None, np.zeros(3, dtype=np.int64)) == []
    monkeypatch.setattr(inverter, "BATCH_BYTES_ELSEWHERE", 10 * (128 + 24))
    model.bytes_per_token = 10
    assert [len(rows) for rows in reader.split_batches(None, np.ones(3, dtype=np.int64))] == [1, 1, 1]
    assert random_model("causal").bytes_per_token == 2 * 2 * 16 * 4
    assert random_model("seq2seq").bytes_per_token == 2 * 2 * 2 * 16 * 4


def draw_tokens(
    scores: Sequence[Sequence[float]], seeds: Sequence[Any], temperature: float = 1.0
) -> list[int]:
    sampler = TokenSampler.from_seeds(seeds, 1, temperature, torch.device("cpu"))
    return sampler.sample(torch.tensor(scores), torch.arange(len(seeds)), 0).tolist()


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    shares = [0.6, 0.02, 0.3, 0.08]  # the least likely is beyond 95% of the probability
    drawn = draw_tokens([np.log(shares).tolist()] * 4000, range(4000))
    counts = np.bincount(drawn, minlength=4) / 4000
    assert counts == pytest.approx(np.array([0.6, 0, 0.3, 0.08]) / 0.98, abs=0.03)
    sharper = (
        np.bincount(draw_tokens([np.log(shares).tolist()] * 4000, range(4000), temperature=0.5), minlength=4)
        / 4000
    )
    assert sharper == pytest.approx(np.array([0.36, 0, 0.09, 0]) / 0.45, abs=0.03)


def test_a_seed_draws_alike_wherever_it_stands() -> None:
    scores = np.random.default_rng(0).normal(size=(6, 200)).tolist()
    together = draw_tokens(scores, [1, 2, None, 4, 5, None])
    assert [
        draw_tokens([row], [seed])[0] for row, seed in zip(scores, [1, 2, None, 4, 5, None], strict=True)
    ] == together
    assert together[2] == int(np.argmax(scores[2]))
    assert together != draw_tokens(scores, [7, 8, None, 9, 10, None])


def random_model(kind: str) -> InverterModel:
    """Random weights over 40 words, of which six end a text."""
    words: Any
    if kind == "causal":
        small = LlamaConfig(
            vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
        )
        words = LlamaForCausalLM(small)
    else:
        words = T5ForConditionalGeneration(
            T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        )
    words.config.update(
        {
            "bos_token_id": 1,
            "decoder_start_token_id": 39,
            "eos_token_id": list(range(2, 8)),
            "pad_token_id": 0,
        }
    )
    torch.manual_seed(1)
    model = InverterModel(words, kind, dimension=256, pseudo_tokens=2).eval()
    for weight in words.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3 if kind == "causal" else 1.0)
    torch.nn.init.ones_(model.norm.weight)
    return model


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_the_likeliest_text_is_that_of_transformers(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "ROOM", 3)  # room is made several times
    model = random_model(kind)
    targets = torch.from_numpy(HASHING.embed(TEXTS[:20]))
    ids, mask = (torch.from_numpy(array) for array in pad([np.arange(1, 3 + row) for row in range(20)], 0))
    current = {"current": targets.flip(0), "current_ids": ids, "current_mask": mask}
    for given in ({}, current):
        found = model.generate(targets, **given, max_new_tokens=12)
        prefix, reads = model._prefix(
            targets, *(given.get(name) for name in ("current", "current_ids", "current_mask"))
        )
        with torch.no_grad():
            assert found.tolist() == model.beam_search(prefix, reads, 12, 1).tolist()
        lengths = (found != 0).sum(dim=1).tolist()
        assert len(set(lengths)) > 2  # texts left the batch at several steps


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_a_text_is_written_alike_alone_and_in_a_batch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "ROOM", 3)
    model = random_model(kind)
    targets = torch.from_numpy(HASHING.embed(TEXTS[:8]))
    together = model.generate(targets, max_new_tokens=12, samples=3, seeds=list(range(8)))
    assert len({tuple(row) for row in together.tolist()}) > 8
    likeliest = model.generate(targets, max_new_tokens=12)
    for row in range(8):
        single = model.generate(targets[row : row + 1], max_new_tokens=12, samples=3, seeds=[row])
        assert together[3 * row : 3 * row + 3, : single.shape[1]].tolist() == single.tolist()
        assert not together[3 * row : 3 * row + 3, single.shape[1] :].any()
        assert likeliest[row, : single.shape[1]].tolist() == single[0, : likeliest.shape[1]].tolist()
    again = [row % 3 == 0 for row in range(8)]
    others = model.generate(targets, max_new_tokens=12, samples=3, seeds=list(range(8)), again=again)
    kept = [row for row in range(24) if row % 3 or not again[row // 3]]
    assert others.tolist() == together[kept, : others.shape[1]].tolist()


def test_a_cache_makes_room_for_words_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "ROOM", 4)
    plain, roomy = DynamicCache(), DynamicCache()
    words = torch.arange(40.0).reshape(2, 1, 10, 2)
    for each in (plain, roomy):
        each.update(words[:, :, :3], -words[:, :, :3], 0)
    assert generation.preallocate_cache(roomy)
    sizes = []
    for word in range(3, 10):
        sizes.append(roomy.get_mask_sizes(1, 0)[0])
        assert (
            generation.extend_mask(torch.ones(2, word + 1), roomy).tolist()
            == [[1] * (word + 1) + [0] * (sizes[-1] - word - 1)] * 2
        )
        ours, theirs = (
            each.update(words[:, :, word : word + 1], -words[:, :, word : word + 1], 0)
            for each in (roomy, plain)
        )
        for mine, other in zip(ours, theirs, strict=True):
            assert mine[:, :, : word + 1].equal(other)
            assert not mine[:, :, word + 1 :].any()
            assert mine.shape[2] == sizes[-1]
        assert roomy.get_seq_length() == word + 1
    assert sizes == [7, 7, 7, 7, 11, 11, 11]


@pytest.mark.parametrize("places", [[0, 4, 2], [4, 3], [0, 1], [1, 0, 2], [2, 2, 0, 1, 4, 3], [1]])
def test_a_cache_goes_on_with_some_texts(places: list[int]) -> None:
    words = torch.arange(40.0).reshape(5, 1, 4, 2)
    layer = generation.PreallocatedCache(words.clone(), -words)
    layer.update(words[:, :, :1], -words[:, :, :1])
    layer.batch_select_indices(torch.tensor(places))
    keys, values = layer.update(words[places, :, :1], -words[places, :, :1])
    expected = torch.cat([words, words[:, :, :1], words[:, :, :1]], dim=2)[places]
    assert keys[:, :, :6].equal(expected)
    assert values[:, :, :6].equal(-expected)


def test_a_cache_of_another_kind_is_left_alone() -> None:
    other = DynamicCache(config=MistralConfig(num_hidden_layers=2, sliding_window=4))
    layers = list(other.layers)
    assert not generation.preallocate_cache(other)
    assert other.layers == layers
