"""vec2text in use: the search, what it is measured by, whether it fits, and the decoder around it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
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

from dallme import registry
from dallme.cli.main import _status
from dallme.cli.settings import typed_options
from dallme.data import DecodedText, Fingerprint, LabelledTexts, LabelledVectors, Prototypes
from dallme.dataset import DistilledDataset
from dallme.decoders import vec2text
from dallme.decoders.base import Context
from dallme.decoders.vec2text import Vec2TextDecoder, correction, generation, inverter, self_test
from dallme.decoders.vec2text.corpus import Corpus, pad
from dallme.decoders.vec2text.correction import Candidate, trajectory
from dallme.decoders.vec2text.evaluation import bleu, check_nearest, measure, token_f1
from dallme.decoders.vec2text.generation import TokenSampler
from dallme.decoders.vec2text.inverter import Inverter
from dallme.decoders.vec2text.model import FILE, InverterConfig, InverterModel
from dallme.decoders.vec2text.training import train_inverter
from dallme.distiller import Distiller
from dallme.embedders.base import TextError, count_words
from dallme.embedders.cache.export import read_vectors, write_vectors
from dallme.embedders.hashing import HashingEmbedder
from dallme.errors import InputError, MissingDependencyError, OutputError
from dallme.progress import SilentProgress

WORDS = ("film", "play", "warm", "dull", "fun", "sad", "plot", "cast")
WORDS += ("music", "story", "great", "awful", "friends", "jokes", "end")
HASHING = HashingEmbedder()
CONFIG = InverterConfig("hashing", HASHING.fingerprint(), base="none", kind="causal", corrects=True)


@dataclass(frozen=True, eq=False)
class WordInverter(Inverter):
    """Knows fifteen words. It starts with one and corrects by one more: the one that helps most, or drawn ones."""

    calls: list[tuple[int, int]] = field(default_factory=list)

    def write(
        self,
        targets: np.ndarray,
        *,
        current: Sequence[str] | None = None,
        current_vectors: np.ndarray | None = None,
        samples: int = 1,
        temperature: float = 1.0,
        seeds: Sequence[int] | None = None,
        again: Sequence[bool] | None = None,
    ) -> list[list[str]]:
        """The word whose addition is nearest to the target, then words drawn at random."""
        self.calls.append((len(targets), samples))
        written = []
        for row, target in enumerate(targets):
            before = current[row] if current is not None else ""
            longer = [f"{before} {word}".strip() for word in WORDS]
            drawn = np.random.default_rng(seeds[row] if seeds is not None else row).integers(
                len(longer), size=samples - 1
            )
            best = int(np.argmax(HASHING.embed(longer) @ target))
            written.append([longer[place] for place in (best, *drawn)][1 if again and again[row] else 0 :])
        return written


def word_inverter(config: InverterConfig = CONFIG) -> WordInverter:
    return WordInverter(config, model=None, tokenizer=None)  # type: ignore[arg-type]


TARGETS = HASHING.embed(["warm fun film", "sad plot awful end", "music", "great cast great story friends"])


TEXTS = [f"{one} {two}" for one in WORDS for two in WORDS[:7] if one != two]

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


def test_the_best_never_gets_worse_and_two_idle_steps_are_enough() -> None:
    states = list(trajectory(RandomWriter(), TARGETS, steps=30, beam=3, seed=1))
    assert len(states) == 31
    for before, after in pairwise(states):
        assert all(later.cosine >= earlier.cosine for earlier, later in zip(before, after, strict=True))
    for row in range(len(TARGETS)):
        texts = [state[row].text for state in states]
        last = max(step for step in range(31) if step == 0 or texts[step] != texts[step - 1])
        assert states[-1][row].steps == last + correction.PATIENCE
    assert any(before[0] != after[0] for before, after in pairwise(states))


def test_a_text_is_embedded_once_a_step_and_not_again_while_it_is_held() -> None:
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


def test_batches_are_of_like_size_and_a_large_model_gets_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert _model("causal").bytes_per_token == 2 * 2 * 16 * 4
    assert _model("seq2seq").bytes_per_token == 2 * 2 * 2 * 16 * 4


def _draw(scores: Sequence[Sequence[float]], seeds: Sequence[Any], temperature: float = 1.0) -> list[int]:
    sampler = TokenSampler.from_seeds(seeds, 1, temperature, torch.device("cpu"))
    return sampler.sample(torch.tensor(scores), torch.arange(len(seeds)), 0).tolist()


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    shares = [0.6, 0.02, 0.3, 0.08]  # the least likely is beyond 95% of the probability
    drawn = _draw([np.log(shares).tolist()] * 4000, range(4000))
    counts = np.bincount(drawn, minlength=4) / 4000
    assert counts == pytest.approx(np.array([0.6, 0, 0.3, 0.08]) / 0.98, abs=0.03)
    sharper = (
        np.bincount(_draw([np.log(shares).tolist()] * 4000, range(4000), temperature=0.5), minlength=4) / 4000
    )
    assert sharper == pytest.approx(np.array([0.36, 0, 0.09, 0]) / 0.45, abs=0.03)


def test_a_seed_draws_alike_wherever_it_stands() -> None:
    scores = np.random.default_rng(0).normal(size=(6, 200)).tolist()
    together = _draw(scores, [1, 2, None, 4, 5, None])
    assert [
        _draw([row], [seed])[0] for row, seed in zip(scores, [1, 2, None, 4, 5, None], strict=True)
    ] == together
    assert together[2] == int(np.argmax(scores[2]))
    assert together != _draw(scores, [7, 8, None, 9, 10, None])


def _model(kind: str) -> InverterModel:
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
    model = _model(kind)
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
    model = _model(kind)
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


# What it is measured by


def test_token_f1_counts_words_as_often_as_they_stand() -> None:
    assert token_f1("a film a film", "A film.") == pytest.approx(2 * 2 / 6)
    assert token_f1("one", "two") == 0
    assert token_f1("!", "?") == 1


def test_measures_of_few_texts() -> None:
    found = measure(
        ["a warm film  with a great cast", "no"], ["A warm film with a great cast", "yes"], [0.5, 0.25]
    )
    assert found.texts == 2
    assert found.exact == 0
    assert found.token_f1 == 0.5
    assert found.cosine == 0.375
    assert found.bleu < found.bleu_uncased < 100
    assert bleu(["one two three four five"], ["one two three four five"]) == pytest.approx(100)
    assert measure(["a  b"], ["a b"]).exact == 1
    assert measure(["a"], ["b"]).cosine is None
    with pytest.raises(InputError, match="expected as many written texts as originals, found 1 and 2"):
        measure(["a"], ["a", "b"])


def test_without_sacrebleu_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dallme.decoders.vec2text.evaluation.find_spec", lambda _: None)
    with pytest.raises(
        MissingDependencyError, match=r"BLEU needs the package 'sacrebleu'.*dallme\[vec2text\]"
    ):
        bleu(["a"], ["a"])


def test_the_nearest_known_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dallme.decoders.vec2text.evaluation._BLOCK", 2)
    known = ["dull play", "warm film", "music", "sad plot"]
    test = ["warm fun film", "sad sad plot", "music"]
    corpora = [Corpus(texts, [], HASHING.embed(texts)) for texts in (known, test)]
    row = check_nearest(*corpora)
    cosines = HASHING.embed(["warm film", "sad plot", "music"]) * corpora[1].vectors
    assert row.measures.cosine == pytest.approx(float(cosines.sum(axis=1).mean()), abs=1e-6)
    assert row.measures.exact == pytest.approx(1 / 3)
    assert (row.method, row.steps, row.beam) == ("nearest", None, None)


# Alignment


def _rotated(rows: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(rows, 6)).astype(np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0][:6].astype(np.float32)
    vectors = targets @ rotation + 0.3 + noise * rng.normal(size=(rows, 8))
    return vectors.astype(np.float32), targets


def test_a_linear_map_is_found() -> None:
    vectors, targets = _rotated(400)
    found = vec2text.fit_alignment(vectors, targets, seed=0)
    assert found.cosine == pytest.approx(1, abs=1e-4)
    assert abs(found.chance) < 0.05
    assert found.alpha == vec2text.ALPHAS[0]
    mapped = found.map(vectors)
    assert mapped.shape == targets.shape
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(mapped, targets, atol=1e-3)


def test_unrelated_vectors_are_mapped_no_better_than_chance() -> None:
    rng = np.random.default_rng(1)
    vectors, targets = rng.normal(size=(300, 8)).astype(np.float32), _rotated(300)[1]
    found = vec2text.fit_alignment(vectors, targets, seed=0)
    assert abs(found.cosine - found.chance) < 0.15


def test_noise_wants_a_larger_penalty_and_the_seed_decides() -> None:
    vectors = np.random.default_rng(2).normal(size=(40, 60)).astype(np.float32)
    targets = vectors[:, :6] + np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)
    found = vec2text.fit_alignment(vectors, targets, seed=0)
    assert found.alpha > vec2text.ALPHAS[0]
    again = vec2text.fit_alignment(vectors, targets, seed=0)
    np.testing.assert_array_equal(found.matrix, again.matrix)
    assert found.cosine == again.cosine != vec2text.fit_alignment(vectors, targets, seed=1).cosine


def test_too_few_rows_to_align_are_an_error() -> None:
    with pytest.raises(
        InputError, match="expected at least 10 texts to fit a map between embedders, found 9"
    ):
        vec2text.fit_alignment(*_rotated(9), seed=0)
    with pytest.raises(InputError, match="expected vectors to map to with 20 rows"):
        vec2text.fit_alignment(_rotated(20)[0], _rotated(10)[1], seed=0)


def test_matched_and_mismatched_pairs_as_counted_by_hand() -> None:
    first, second = (np.random.default_rng(seed).normal(size=(5, 3)) for seed in (0, 1))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second)]
    cosines = unit[0] @ unit[1].T
    expected = (np.trace(cosines) / 5, (cosines.sum() - np.trace(cosines)) / 20)
    assert vec2text.matched_and_mismatched(first, second) == pytest.approx(expected, abs=1e-6)


# Whether it fits


def test_the_self_test_passes_an_inverter_that_fits() -> None:
    found = self_test(word_inverter(), HASHING.embed(TEXTS), TEXTS, np.random.default_rng(0))
    assert found is not None
    assert found.texts == 20
    assert found.cosine > found.chance + 0.3
    assert self_test(word_inverter(), HASHING.embed(["a", "a"]), ["a", "a"], np.random.default_rng(0)) is None


def test_the_self_test_refuses_one_that_does_not() -> None:
    class Blind(WordInverter):
        def write(self, targets: np.ndarray, **_: Any) -> list[list[str]]:
            return [[word] for word, _ in zip(WORDS * 2, targets, strict=False)]

    with pytest.raises(InputError) as caught:
        self_test(Blind(CONFIG, None, None), HASHING.embed(TEXTS), TEXTS, np.random.default_rng(0))  # type: ignore[arg-type]
    assert re.fullmatch(
        r"expected an inverter that decodes these vectors, found that 20 decoded texts have a mean cosine of -?\d\.\d{3} to "
        r"their own vectors and -?\d\.\d{3} to those of others, less than 0.05 apart; train one on texts like these, or longer",
        str(caught.value),
    )


def _write_config(folder: Path, config: InverterConfig) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(config.to_json())
    return folder


def test_an_inverter_of_another_embedder_names_what_differs_and_what_fits(tmp_path: Path) -> None:
    other = replace(CONFIG, fingerprint=replace(CONFIG.fingerprint, dimension=8, pooling="mean"))
    mine = _write_config(tmp_path / "mine", other)
    with pytest.raises(InputError) as caught:
        inverter.check_fit(other, mine, CONFIG.fingerprint)
    start = (
        f"expected an inverter for the embedder of these vectors, found {str(mine)!r}, trained for 'hashing': "
        "dimension 8 against 256; pooling 'mean' against 'sum'; "
    )
    end = "; or map the vectors into its space with --set decoder.align=true"
    assert str(caught.value) == f"{start}train one for it with: dallme train-inverter{end}"
    fitting = _write_config(tmp_path / "fitting", CONFIG)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / FILE).write_text("{")
    with pytest.raises(InputError) as caught:
        inverter.check_fit(other, mine, CONFIG.fingerprint)
    assert str(caught.value) == f"{start}use vec2text:{fitting}{end}"
    inverter.check_fit(CONFIG, fitting, CONFIG.fingerprint)


def test_no_inverter_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inverter, "SHIPPED", tmp_path / "none")
    with pytest.raises(InputError) as caught:
        inverter.find_inverter("")
    assert str(caught.value) == (
        "expected the folder of an inverter, as in vec2text:FOLDER, found none named and none in this installation; "
        "train one with: dallme train-inverter"
    )
    monkeypatch.setattr(inverter, "SHIPPED", _write_config(tmp_path / "shipped", CONFIG))
    assert inverter.find_inverter("") == tmp_path / "shipped"
    assert inverter.find_inverter("mine") == Path("mine")


# The decoder

GOOD = [
    "warm fun film",
    "great cast and music",
    "great story of friends",
    "warm friends and fun",
    "music of a great film",
]
BAD = ["dull sad play", "awful plot and jokes", "sad end of a dull story", "awful jokes", "a dull plot"]


class Notes(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Any]:
        with super().task(description, total) as task:
            yield task

    def note(self, message: str) -> None:
        self.said.append(message)


def _context(embedder: HashingEmbedder = HASHING, max_tokens: int = 128, repeat: int = 1) -> Context:
    texts, labels = [*GOOD, *BAD] * repeat, np.array(([1] * len(GOOD) + [0] * len(BAD)) * repeat)
    source = LabelledTexts(texts, labels, {0: "bad", 1: "good"}, np.arange(len(texts)))
    vectors = LabelledVectors(embedder.embed(texts), labels, embedder.fingerprint())
    return Context(source, vectors, count_words, max_tokens, embedder, Notes())


def _prototypes(context: Context, clusters: Sequence[Sequence[int]]) -> Prototypes:
    members = tuple(np.array(cluster) for cluster in clusters)
    return Prototypes(
        vectors=np.stack([context.vectors.vectors[rows].mean(axis=0) for rows in members]),
        labels=np.array([context.vectors.labels[rows[0]] for rows in members]),
        weights=np.array([float(len(rows)) for rows in members]),
        members=members,
        spread=np.zeros(len(members)),
    )


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The folder of an inverter; in place of weights it has the fifteen words."""
    folder = _write_config(tmp_path / "inverter", CONFIG)

    def load(folder: Path, **_: Any) -> WordInverter:
        return word_inverter(InverterConfig.read(folder))

    monkeypatch.setattr(Inverter, "load", load)
    return str(folder)


def test_the_contract_of_decoders(loaded: str) -> None:
    context = _context(max_tokens=3)
    prototypes = _prototypes(context, [[0, 3], [5, 7], [1, 4], [2], [6, 8], [9]])
    for start in ("nearest", "hypothesis"):
        decoder = Vec2TextDecoder(loaded, start=start)
        before = prototypes.vectors.copy()
        decoded = decoder.decode(prototypes, context, seed=3).texts
        texts = [text.text for text in decoded]
        assert len(texts) == 6
        assert all(text.strip() for text in texts)
        assert (count_words(texts) <= 3).all()
        assert len(set(zip(texts, prototypes.labels.tolist(), strict=True))) == 6
        assert all(" ".join(text.sentences) == text.text for text in decoded)
        assert decoded == decoder.decode(prototypes, context, seed=3).texts
        np.testing.assert_array_equal(before, prototypes.vectors)


def test_prototypes_are_reached_from_hypotheses_and_no_row_is_named(loaded: str) -> None:
    context = _context()
    prototypes = _prototypes(context, [[0], [5]])
    decoded = Vec2TextDecoder(loaded, start="hypothesis").decode(prototypes, context, seed=0).texts
    assert [set(text.text.split()) for text in decoded] == [{"warm", "fun", "film"}, {"dull", "sad", "play"}]
    assert [text.rows for text in decoded] == [(), ()]
    assert [text.label_agrees for text in decoded] == [True, True]
    assert isinstance(context.progress, Notes)
    assert context.progress.said[1] == (
        "2 texts with a mean cosine of 1.000 to their prototypes; "
        "100% of them have the prototype's label by a linear probe of the full data"
    )
    assert re.fullmatch(
        r"10 source texts, decoded and embedded again, have a mean cosine of 0\.\d{3} to their vectors \(chance: .*\)",
        context.progress.said[0],
    )


def test_a_real_text_that_nothing_beats_is_the_result_with_its_row(loaded: str) -> None:
    context = _context()
    prototypes = _prototypes(context, [[0], [9], [5, 7]])
    decoded = Vec2TextDecoder(loaded, start="nearest").decode(prototypes, context, seed=0).texts
    assert decoded[0] == DecodedText(GOOD[0], (GOOD[0],), (0,), label_agrees=True)
    assert decoded[1] == DecodedText(BAD[4], (BAD[4],), (9,), label_agrees=True)
    assert decoded[2].rows == ()  # the mean of two texts is written better than either
    assert isinstance(context.progress, Notes)
    assert context.progress.said[-1].endswith(
        "; 2 are real texts, or joined from pieces of them; no written text was nearer"
    )
    cosines = HASHING.embed([decoded[2].text, BAD[0], BAD[2]]) @ prototypes.vectors[2]
    assert cosines[0] > cosines[1:].max()


def test_a_text_of_the_right_class_comes_before_a_nearer_one(loaded: str) -> None:
    context = _context()
    prototypes = replace(
        _prototypes(context, [[0], [5]]), labels=np.array([0, 1])
    )  # the classes are exchanged
    decoded = Vec2TextDecoder(loaded, start="nearest").decode(prototypes, context, seed=0).texts
    assert [text.label_agrees for text in decoded] == [True, True]
    assert decoded[0].rows[0] >= len(GOOD)


def test_no_text_comes_twice_in_a_class(loaded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    context = _context()
    prototypes = _prototypes(context, [[0], [0], [0], [0]])
    decoder = Vec2TextDecoder(loaded, start="hypothesis", steps=0, beam=1)
    texts = [text.text for text in decoder.decode(prototypes, context, seed=0).texts]
    assert len(set(texts)) == 4  # the likeliest word for the first; the others are drawn
    assert set(texts) <= set(WORDS)
    monkeypatch.setattr("dallme.decoders.vec2text.MORE_SAMPLES", 1)
    decoded = decoder.decode(prototypes, context, seed=0).texts
    assert decoded[0].rows == ()
    assert [text.rows[0] for text in decoded[1:]] == [
        0,
        3,
        4,
    ]  # the nearest real texts, as nothing else was written


def test_one_class_has_no_probe(loaded: str) -> None:
    context = _context()
    only = np.flatnonzero(context.vectors.labels == 1)
    source = context.source.take(only)
    context = replace(
        context,
        source=source,
        vectors=LabelledVectors(context.vectors.vectors[only], source.labels, CONFIG.fingerprint),
    )
    decoded = Vec2TextDecoder(loaded).decode(_prototypes(context, [[0, 1]]), context, seed=0).texts
    assert decoded[0].label_agrees is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "random"}, "expected start as one of nearest, hypothesis, found 'random'"),
        ({"steps": -1}, "expected steps to be a whole number of at least 0, found -1"),
        ({"beam": 0}, "expected beam to be a whole number of at least 1, found 0"),
        (
            {"steps": 0},
            "expected at least 1 step to correct the nearest text, found 0; start from hypothesis, or use the decoder nearest",
        ),
    ],
)
def test_wrong_options_of_the_decoder_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Vec2TextDecoder("folder", **options)
    assert str(caught.value) == message


def test_the_folder_stands_in_the_name() -> None:
    assert registry.make("decoders", "vec2text:a/b:c", steps=2) == Vec2TextDecoder("a/b:c", steps=2)


def test_other_vectors_are_refused_and_can_be_aligned(loaded: str) -> None:
    context = _context(HashingEmbedder(64), repeat=8)
    prototypes = _prototypes(context, [[0], [5]])
    with pytest.raises(
        InputError, match="dimension 256 against 64; train one .* with --set decoder.align=true"
    ):
        Vec2TextDecoder(loaded).decode(prototypes, context, seed=0)
    decoder = Vec2TextDecoder(loaded, start="hypothesis", align=True)
    decoded = decoder.decode(prototypes, context, seed=0).texts
    assert [set(text.text.split()) for text in decoded] == [{"warm", "fun", "film"}, {"dull", "sad", "play"}]
    assert [text.label_agrees for text in decoded] == [True, True]
    assert isinstance(context.progress, Notes)
    assert re.match(
        r"vectors of hashing mapped into the space of hashing: held-out texts have a mean cosine of (1\.000|0\.99\d) to their "
        r"own vectors there \(chance: 0\.\d{3}\)",
        context.progress.said[-3],
    )
    near = Vec2TextDecoder(loaded, start="nearest", align=True).decode(prototypes, context, seed=0).texts
    assert near[0].rows == (0,)


def test_vectors_that_were_handed_over_are_refused(loaded: str) -> None:
    context = _context()
    given = Fingerprint("given", "unknown", 256, normalized=False)
    context = replace(context, vectors=replace(context.vectors, fingerprint=given), embedder=None)
    with pytest.raises(InputError, match="model 'hashing' against 'given'; weights"):
        Vec2TextDecoder(loaded).decode(_prototypes(context, [[0]]), context, seed=0)


def test_the_distilled_set_says_whether_the_labels_agree(loaded: str, tmp_path: Path) -> None:
    distiller = Distiller(
        per_class=2,
        embedder="hashing",
        decoder=f"vec2text:{loaded}",
        decoder_options={"start": "hypothesis", "steps": 7},
    )
    distilled = distiller.distill([*GOOD, *BAD], ["good"] * 5 + ["bad"] * 5)
    assert [row.label_agrees for row in distilled.lineage] == [True] * 4
    assert [row.sentence_rows for row in distilled.lineage] == [()] * 4
    options = distilled.manifest["configuration"]["decoder_options"]
    assert (options["steps"], options["start"], options["beam"]) == (7, "hypothesis", 4)
    assert DistilledDataset.load(distilled.save(tmp_path / "set")).lineage[0].label_agrees is True


def test_options_need_a_decoder_by_name() -> None:
    with pytest.raises(
        InputError, match=r"expected options of a decoder with its name only, found {'steps': 2} with"
    ):
        Distiller(per_class=1, decoder=Vec2TextDecoder("x"), decoder_options={"steps": 2})


# The command line, with a small inverter that was really trained

SENTENCES = [
    f"A {one} {two} with {end} music."
    for one in ("warm", "dull", "fine")
    for two in ("film", "play")
    for end in WORDS[3:9]
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "inverter"
    train_inverter(
        SENTENCES, HASHING, folder, preset="tiny", steps=60, max_tokens=16, learning_rate=3e-3, device="cpu"
    )
    return folder


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["dallme", *map(str, arguments)])
    return _status()


def test_a_trained_inverter_writes_the_texts_of_vectors(trained: Path) -> None:
    reader = Inverter.load(trained, "cpu", precision="float32")
    vectors = reader.embed(SENTENCES)
    states = reader.trajectory(vectors, steps=2, beam=2)
    before, after = ([row.cosine for row in states[step]] for step in (0, 2))
    assert np.mean(after) > np.mean(before) > 0.7
    assert states[2] == reader.decode(vectors, steps=2, beam=2)


def test_decode(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "vectors.npy", HASHING.embed(SENTENCES[:3]))
    command = ("decode", tmp_path / "vectors.npy", "--decoder", trained, "--steps", 1, "--beam", 2)
    assert _run(monkeypatch, *command, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [set(row) for row in document["texts"]] == [{"text", "cosine", "steps"}] * 3
    assert document["embedder"] == "hashing"
    assert _run(monkeypatch, *command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["cosine", "text"]
    assert [line.split("  ", 1)[1].strip() for line in lines[1:]] == [
        row["text"] for row in document["texts"]
    ]
    assert _run(monkeypatch, *command, "--output", tmp_path / "texts.jsonl") == 0
    assert capsys.readouterr().out == f"3 texts in {tmp_path / 'texts.jsonl'}\n"
    assert [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()] == document[
        "texts"
    ]
    assert _run(monkeypatch, *command, "--output", tmp_path / "texts.jsonl") == 2
    assert "expected a new file, found" in capsys.readouterr().err


def test_invert_check(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test.csv").write_text("\n".join(["text", *SENTENCES[:8]]) + "\n")
    (tmp_path / "known.csv").write_text("\n".join(["text", *SENTENCES[4:]]) + "\n")
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    command = ("invert-check", trained, "--test", tmp_path / "test.csv", "--steps", "1,0", "--beams", "1,2")
    assert _run(monkeypatch, *command, "--source", tmp_path / "known.csv", "--rows", 6, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    found = document["results"]
    assert [(row["method"], row["steps"], row["beam"]) for row in found] == [
        ("vec2text", 0, 1), ("vec2text", 1, 1), ("vec2text", 0, 2), ("vec2text", 1, 2), ("nearest", None, None)
    ]  # fmt: skip
    assert {row["texts"] for row in found} == {6} == {document["test_rows"]}
    assert found[0]["cosine"] <= found[1]["cosine"]
    assert found[4]["exact"] >= 2 / 6  # of eight test texts four are known
    assert _run(monkeypatch, *command) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "steps",
        "beam",
        "BLEU",
        "uncased",
        "token",
        "F1",
        "exact",
        "cosine",
    ]
    assert _run(monkeypatch, *command[:4], "--steps", "a") == 2
    assert (
        "expected --steps as whole numbers of at least 0, separated by commas, found 'a'"
        in capsys.readouterr().err
    )
    assert _run(monkeypatch, *command, "--max-tokens", 17) == 2
    assert "expected from 2 to 16 tokens, which the inverter writes, found 17" in capsys.readouterr().err


def test_distill_and_compare_take_the_decoder_with_its_options(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{text},{'bad' if 'dull' in text else 'good'}" for text in SENTENCES]
    (tmp_path / "films.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    monkeypatch.setenv("DALLME_STORE", str(tmp_path / "store"))
    options = (
        "--per-class",
        2,
        "--embedder",
        "hashing",
        "--decoder",
        f"vec2text:{trained}",
        "--start",
        "hypothesis",
        "--json",
    )
    more = ("--decoder-steps", 1, "--beam", 2)
    assert (
        _run(monkeypatch, "distill", tmp_path / "films.csv", "--output", tmp_path / "out", *options, *more)
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["manifest"]["configuration"]["decoder_options"] == {
        "inverter": str(trained), "steps": 1, "beam": 2, "start": "hypothesis", "align": False, "embedder": "",
        "self_test": True, "language": "en",
    }  # fmt: skip
    test = (
        "--test",
        tmp_path / "films.csv",
        "--classifiers",
        "lr",
        "--methods",
        f"random,vec2text:{trained}",
    )
    assert _run(monkeypatch, "compare", tmp_path / "films.csv", *test, *options, *more) == 0
    methods = [row["method"] for row in json.loads(capsys.readouterr().out)["methods"]]
    assert methods == ["random", f"vec2text:{trained}"]


def test_options_of_another_decoder_are_errors() -> None:
    assert typed_options("decoder", "nearest", {}) == {}
    given = {"steps": "2", "align": "true"}
    assert typed_options("decoder", "vec2text:a", given) == {"steps": 2, "align": True}
    with pytest.raises(InputError) as caught:
        typed_options("decoder", "nearest", {"beam": "2"})
    assert str(caught.value) == "Decoder 'nearest' has no option 'beam'. Options: language."


def test_vectors_are_read_as_they_were_written(tmp_path: Path) -> None:
    vectors = HASHING.embed(GOOD)
    source = LabelledTexts(GOOD, np.zeros(5, dtype=np.int64), {0: "good"}, np.arange(5))
    for name in ("a.npy", "a.parquet"):
        write_vectors(tmp_path / name, vectors, source)
        np.testing.assert_array_equal(read_vectors(tmp_path / name), vectors)
    np.save(tmp_path / "flat.npy", vectors[0])
    with pytest.raises(InputError, match=r"of shape \(n, d\), found shape \(256,\)"):
        read_vectors(tmp_path / "flat.npy")
    np.save(tmp_path / "none.npy", vectors[:0])
    with pytest.raises(InputError, match="expected at least one vector, found none in"):
        read_vectors(tmp_path / "none.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    for name in ("objects.npy", "missing.npy", "b.parquet"):
        with pytest.raises(InputError, match="expected a file of vectors, could not read"):
            read_vectors(tmp_path / name)
    with pytest.raises(InputError, match=r"expected a file that ends in .parquet or .npy, found 'a.txt'"):
        read_vectors(tmp_path / "a.txt")


def test_texts_that_cannot_be_written_are_one_error(tmp_path: Path) -> None:
    from dallme.cli.paths import write_file

    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="expected to write .*, could not: .*; nothing was written"):
        write_file(tmp_path / "file" / "texts.jsonl", b"")
