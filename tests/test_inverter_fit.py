"""Measures of inverters: scores of texts, alignment of vectors, and the self-test."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dallme.decoders.vec2text import alignment, inverter
from dallme.decoders.vec2text.alignment import self_test
from dallme.decoders.vec2text.corpus import Corpus
from dallme.decoders.vec2text.evaluation import bleu, check_nearest, measure, token_f1
from dallme.decoders.vec2text.model import FILE
from dallme.errors import InputError, MissingDependencyError
from inverter_cases import CONFIG, HASHING, TEXTS, WORDS, WordInverter, word_inverter, write_config

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


def rotated_vectors(rows: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(rows, 6)).astype(np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0][:6].astype(np.float32)
    vectors = targets @ rotation + 0.3 + noise * rng.normal(size=(rows, 8))
    return vectors.astype(np.float32), targets


# Alignment


def test_a_linear_map_is_found() -> None:
    vectors, targets = rotated_vectors(400)
    found = alignment.fit_alignment(vectors, targets, seed=0)
    assert found.cosine == pytest.approx(1, abs=1e-4)
    assert abs(found.chance) < 0.05
    assert found.alpha == alignment.ALPHAS[0]
    mapped = found.map(vectors)
    assert mapped.shape == targets.shape
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(mapped, targets, atol=1e-3)


def test_unrelated_vectors_are_mapped_no_better_than_chance() -> None:
    rng = np.random.default_rng(1)
    vectors, targets = rng.normal(size=(300, 8)).astype(np.float32), rotated_vectors(300)[1]
    found = alignment.fit_alignment(vectors, targets, seed=0)
    assert abs(found.cosine - found.chance) < 0.15


def test_noise_wants_a_larger_penalty_and_the_seed_decides() -> None:
    vectors = np.random.default_rng(2).normal(size=(40, 60)).astype(np.float32)
    targets = vectors[:, :6] + np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)
    found = alignment.fit_alignment(vectors, targets, seed=0)
    assert found.alpha > alignment.ALPHAS[0]
    again = alignment.fit_alignment(vectors, targets, seed=0)
    np.testing.assert_array_equal(found.matrix, again.matrix)
    assert found.cosine == again.cosine != alignment.fit_alignment(vectors, targets, seed=1).cosine


def test_too_few_rows_to_align_are_an_error() -> None:
    with pytest.raises(
        InputError, match="expected at least 10 texts to fit a map between embedders, found 9"
    ):
        alignment.fit_alignment(*rotated_vectors(9), seed=0)
    with pytest.raises(InputError, match="expected vectors to map to with 20 rows"):
        alignment.fit_alignment(rotated_vectors(20)[0], rotated_vectors(10)[1], seed=0)


def test_matched_and_mismatched_pairs_as_counted_by_hand() -> None:
    first, second = (np.random.default_rng(seed).normal(size=(5, 3)) for seed in (0, 1))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second)]
    cosines = unit[0] @ unit[1].T
    expected = (np.trace(cosines) / 5, (cosines.sum() - np.trace(cosines)) / 20)
    assert alignment.matched_and_mismatched(first, second) == pytest.approx(expected, abs=1e-6)


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


def test_an_inverter_of_another_embedder_is_refused(tmp_path: Path) -> None:
    other = replace(CONFIG, fingerprint=replace(CONFIG.fingerprint, dimension=8, pooling="mean"))
    mine = write_config(tmp_path / "mine", other)
    with pytest.raises(InputError) as caught:
        inverter.check_fit(other, mine, CONFIG.fingerprint)
    start = (
        f"expected an inverter for the embedder of these vectors, found {str(mine)!r}, trained for 'hashing': "
        "dimension 8 against 256; pooling 'mean' against 'sum'; "
    )
    end = "; or map the vectors into its space with --set decoder.align=true"
    assert str(caught.value) == f"{start}train one for it with: dallme train-inverter{end}"
    fitting = write_config(tmp_path / "fitting", CONFIG)
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
    monkeypatch.setattr(inverter, "SHIPPED", write_config(tmp_path / "shipped", CONFIG))
    assert inverter.find_inverter("") == tmp_path / "shipped"
    assert inverter.find_inverter("mine") == Path("mine")
