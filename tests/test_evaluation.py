"""The protocols: what is trained on what, and how the figures are worked out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dallme import Distiller
from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.data import LabelledTexts
from dallme.errors import InputError, UnknownNameError
from dallme.evaluation.compare import check_methods, compare
from dallme.evaluation.evaluate import (
    Score,
    chance_level,
    chance_notes,
    check_classifiers,
    evaluate,
    make_classifiers,
    overlap_note,
)
from dallme.evaluation.protocol import DEFAULT, Protocol
from dallme.readers import read


def labelled(texts: list[str], labels: list[int]) -> LabelledTexts:
    return LabelledTexts(texts, np.array(labels), {0: "no", 1: "yes"}, np.arange(len(texts)))


@dataclass(frozen=True)
class Majority(Classifier):
    """Predicts the most frequent label, shifted by the seed: figures can be worked out by hand."""

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        guess = (int(np.bincount(labels).argmax()) + seed) % 2

        class Fitted(FittedClassifier):
            def _predict(self, texts: list[str]) -> np.ndarray:
                return np.full(len(texts), guess)

        return Fitted()


def test_figures_by_hand() -> None:
    train = labelled(["a b", "c d", "e f"], [1, 1, 0])
    test = labelled(["w", "x", "y", "z"], [1, 1, 1, 0])
    full = labelled(["a", "b", "c"], [0, 0, 1])
    (score,) = evaluate(train, test, {"majority": Majority()}, full=full, protocol=Protocol(sets=2))
    # Seed 0 guesses yes: three of four are right; F1 of yes is 6/7, of no 0.
    # Seed 1 guesses no: one of four is right; F1 of no is 2/5.
    assert score.accuracies == (0.75, 0.25)
    assert score.macro_f1s == pytest.approx((3 / 7, 1 / 5))
    assert score.full_accuracy == 0.25
    document = score.as_dict()
    assert document["accuracy_mean"] == 0.5
    assert document["accuracy_std"] == pytest.approx(np.sqrt(0.125))
    assert document["recovered"] == 2.0
    assert document["runs"] == 2


def test_accuracy_below_chance_is_noted() -> None:
    # The test data's ids are swapped: what is learned of one class is said of the other.
    texts = [f"{word} thing number {row}" for row in range(8) for word in ("good", "bad")]
    source, swapped = labelled(texts, [1, 0] * 8), labelled(texts, [0, 1] * 8)
    distiller, classifiers = Distiller(per_class=1, embedder="hashing"), make_classifiers(["nb"])
    distillation = distiller.run(source)
    note = (
        "naive-bayes, trained on the full data, is right on 0.0% of 16 test rows, guessing on 50.0%: "
        "check that the test data have the same classes under the same names"
    )
    for test, notes in ((swapped, [note]), (source, [])):
        table = compare(distiller, distillation, test, ["random", "full"], classifiers)
        assert [text for text in table.notes if "guessing" in text] == notes
        assert (table.methods[0].scores[0].recovered is None) == bool(notes)
        scores = evaluate(source.take([0, 1]), test, classifiers, full=source)
        assert list(chance_notes(scores, test)) == notes
    alone = evaluate(source.take([0, 1]), swapped, classifiers)
    assert chance_notes(alone, swapped)[0].startswith("naive-bayes, in every run, is right on 0.0% of 16")


def test_few_test_rows_may_be_below_guessing_by_luck() -> None:
    test = labelled(["a"] * 20, [0, 1] * 10)
    assert chance_level(test) == pytest.approx(0.5 - 2 * np.sqrt(0.25 / 20))
    assert chance_level(labelled(["a", "b"], [0, 1])) == 0
    unlucky = Score("nb", (0.8,), (0.8,), 0.0, full_accuracy=0.4, chance=chance_level(test))
    assert chance_notes([unlucky], test) == ()
    assert unlucky.recovered == 2
    below = Score("nb", (0.8,), (0.8,), 0.0, full_accuracy=0.2, chance=chance_level(test))
    assert len(chance_notes([below], test)) == 1
    assert below.recovered is None


def test_a_single_run_has_no_deviation_and_no_reference() -> None:
    document = Score("x", (0.5,), (0.4,), 0.1).as_dict()
    assert document["accuracy_std"] == 0.0
    assert document["recovered"] is None


def test_names_and_aliases() -> None:
    assert check_classifiers(["lr", "svm", "nb", "lr"]) == [
        "logistic-regression",
        "linear-svm",
        "naive-bayes",
    ]
    with pytest.raises(
        UnknownNameError, match="unknown classifier 'bert'; known: logistic-regression, linear-svm"
    ):
        make_classifiers(["bert"])
    with pytest.raises(InputError, match="expected an embedder for the classifier embedding-lr"):
        make_classifiers(["embedding-lr"])
    with pytest.raises(
        UnknownNameError,
        match=r"unknown method 'best'; known: random, random-sentences, full, .*eda, .*teaching, nearest",
    ):
        check_methods(["random", "best"])


def test_overlap_is_counted_by_test_rows() -> None:
    source = labelled(["a", "b"], [0, 1])
    assert overlap_note(source, labelled(["a", "a", "c"], [0, 0, 1])) == (
        "2 of 3 test rows have a text that is in the source as well",
    )
    assert overlap_note(source, labelled(["c"], [0])) == ()


def test_compare_draws_and_order() -> None:
    texts = [f"{word} thing number {row}" for row in range(8) for word in ("good", "bad")]
    source = labelled(texts, [1, 0] * 8)
    test = labelled(["good one", "bad one"], [1, 0])
    distiller = Distiller(per_class=2, embedder="hashing")
    distillation = distiller.run(source)
    judges = make_classifiers(["nb"])
    found = compare(
        distiller, distillation, test, ["extractive", "random", "full"], judges, protocol=DEFAULT.with_sets(3)
    )
    assert [(row.method, row.texts, row.draws) for row in found.methods] == [
        ("extractive", 4, 3),
        ("random", 4, 10),
        ("full", 16, 1),
    ]
    for row in found.methods:
        assert len(row.scores[0].accuracies) == row.draws
        assert row.scores[0].full_accuracy == 1.0
    assert (
        compare(distiller, distillation, test, ["random"], judges).methods[0].scores[0].full_accuracy is None
    )


def test_baselines_have_the_same_token_limit() -> None:
    texts = [f"A short start {row}. Then a long tail of many more words follows." for row in range(8)]
    source = labelled(texts, [0, 1] * 4)
    seen: list[str] = []

    @dataclass(frozen=True)
    class Remembers(Majority):
        def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
            seen.extend(texts)
            return super()._fit(texts, labels, seed)

    distiller = Distiller(per_class=1, embedder="hashing", max_tokens=6)
    compare(distiller, distiller.run(source), source, ["random"], {"remembers": Remembers()})
    assert len(seen) == 20
    assert all(
        text.endswith(".") and text.startswith("A short start") and len(text.split()) == 4 for text in seen
    )
    seen.clear()
    compare(distiller, distiller.run(source), source, ["full"], {"remembers": Remembers()})
    assert sorted(seen) == sorted(texts)


def test_candidates_come_last_and_are_taken_as_they_are() -> None:
    source = labelled([f"word {row} one two three four five six seven" for row in range(8)], [0, 1] * 4)
    seen: list[list[str]] = []

    @dataclass(frozen=True)
    class Remembers(Majority):
        def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
            seen.append(texts)
            return super()._fit(texts, labels, 0)

    # The first set says yes, the second no: three of four test rows are right, then one.
    first = labelled(["a", "b", "c"], [1, 1, 0])
    second = labelled(["A long one. It is not cut at six tokens.", "e", "f", "g"], [0, 0, 0, 1])
    candidates = {"theirs": [first, second], "one": [first]}
    test = labelled(["w", "x", "y", "z"], [1, 1, 1, 0])
    distiller = Distiller(per_class=1, embedder="hashing", max_tokens=6)
    found = compare(
        distiller, distiller.run(source), test, ["full"], {"remembers": Remembers()}, candidates=candidates
    )
    assert [(row.method, row.texts, row.draws) for row in found.methods] == [
        ("full", 8, 1),
        ("theirs", 3, 2),
        ("one", 3, 1),
    ]
    assert [row.scores[0].accuracies for row in found.methods] == [(0.25,), (0.75, 0.25), (0.75,)]
    assert [row.scores[0].recovered for row in found.methods] == [1, 2, 3]
    assert seen[1:] == [list(part.texts) for part in (first, second, first)]
    assert found.notes == (
        "the sets of candidate 'theirs' have from 3 to 4 texts; the table shows the first's",
    )


@pytest.mark.parametrize(
    ("name", "sets", "message"),
    [
        (
            "nearest",
            [labelled(["a", "b"], [0, 1])],
            "a candidate's name that no method has, found 'nearest'; write a path as './",
        ),
        ("theirs", [], "candidate 'theirs': expected at least one set of texts, found none"),
        (
            "theirs",
            [
                labelled(["a", "b"], [0, 1]),
                LabelledTexts(["a", "b"], np.array([0, 7]), {0: "no", 7: "x"}, np.arange(2)),
            ],
            r"expected the classes \[0, 1\] of the source, found \[7\] as well in set 1; read it with like=",
        ),
        (
            "theirs",
            [labelled(["a", "b"], [1, 1])],
            r"expected texts of at least two classes, found \[1\] in set 0",
        ),
    ],
)
def test_candidates_are_checked_before_anything_is_trained(
    name: str, sets: Sequence[LabelledTexts], message: str
) -> None:
    source = labelled(["a b", "c d", "e f", "g h"], [0, 1, 0, 1])
    distiller = Distiller(per_class=1, embedder="hashing")
    with pytest.raises(InputError, match=message):
        compare(distiller, distiller.run(source), source, ["random"], {}, candidates={name: sets})


def test_the_published_sets_of_dilm_are_a_contestant(shared_data: Path) -> None:
    folder = shared_data / "dilm_sst2" / "dpc10"
    if not folder.is_dir():
        pytest.skip(f"no published sets: {folder} is not a folder")
    sets = [read(file) for file in sorted(folder.glob("*.jsonl"))]
    source = labelled(list(sets[0].texts), sets[0].labels.tolist())
    distiller = Distiller(per_class=2, embedder="hashing")
    judges = make_classifiers(["nb", "elr"], distiller.cached_embedder)
    found = compare(distiller, distiller.run(source), sets[1], ["random"], judges, candidates={"dilm": sets})
    assert [(row.method, row.texts, row.draws) for row in found.methods] == [
        ("random", 4, 10),
        ("dilm", 20, 20),
    ]
    for score in found.methods[1].scores:
        assert len(score.accuracies) == 20
        assert score.accuracies[1] == 1.0  # trained on what it is tested on
        assert 0.55 < np.mean(score.accuracies) < 1
