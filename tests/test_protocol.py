"""Protocols: how often, with which learning rate, what is kept of earlier runs, and what is more than luck."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_ind

from dallme import Distiller
from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.classifiers.linear import NaiveBayesClassifier
from dallme.classifiers.training import NeuralClassifier
from dallme.cli.main import _status
from dallme.cli.options import make_protocol
from dallme.data import LabelledTexts
from dallme.dataset.card import comparison_cells, comparison_table, star_note
from dallme.embedders.cache import CachedEmbedder
from dallme.errors import InputError, MissingDependencyError, UnknownNameError
from dallme.evaluation.compare import Comparison, MethodResult, better, check_methods, compare, holm
from dallme.evaluation.evaluate import Score, check_classifiers, evaluate, make_classifiers, score
from dallme.evaluation.protocol import DEFAULT, DPC, PAPER, Protocol
from dallme.evaluation.results import ResultStore, result_key, sample, split, train_and_test, tune


@dataclass(frozen=True)
class Fit:
    """One training that a spy made."""

    texts: tuple[str, ...]
    seed: int
    rate: float | None = None
    steps: int | None = None
    tested: tuple[str, ...] = ()


#: The trainings since the test began.
FITS: list[Fit] = []


@pytest.fixture(autouse=True)
def no_fits() -> None:
    FITS.clear()


class Fitted(FittedClassifier):
    """Says `no` for all texts but a share of them."""

    def __init__(self, place: int, share: float) -> None:
        self.place, self.share = place, share

    def _predict(self, texts: list[str]) -> np.ndarray:
        FITS[self.place] = replace(FITS[self.place], tested=tuple(texts))
        return (np.arange(len(texts)) < self.share * len(texts)).astype(np.int64)


@dataclass(frozen=True)
class Plain(Classifier):
    """A spy that does not vary."""

    option: int = 0

    varies = False

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        FITS.append(Fit(tuple(texts), seed))
        return Fitted(len(FITS) - 1, 0)


@dataclass(frozen=True, kw_only=True)
class Neural(NeuralClassifier):
    """A spy with the options of neural classifiers; on rows of the class `no` 1e-4 and 5e-4 are equally good."""

    shares: ClassVar[dict[float, float]] = {1e-5: 0.5, 1e-4: 0.25, 5e-4: 0.25, 5e-3: 0.75}

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        FITS.append(Fit(tuple(texts), seed, self.learning_rate, self.total_steps(len(texts))))
        return Fitted(len(FITS) - 1, self.shares.get(self.learning_rate, 0))


def labelled(texts: Sequence[str], labels: Sequence[int]) -> LabelledTexts:
    return LabelledTexts(list(texts), np.array(labels), {0: "no", 1: "yes"}, np.arange(len(texts)))


def rows(count: int, word: str = "row", ones: int = 2) -> LabelledTexts:
    """Different texts, the last few of class `yes`."""
    return labelled(
        [f"{word} {row} of some words." for row in range(count)], [0] * (count - ones) + [1] * ones
    )


def sentences(count: int) -> LabelledTexts:
    return labelled(
        [f"{word} thing number {row}." for row in range(count) for word in ("Good", "Bad")], [1, 0] * count
    )


# Results that are kept


def test_a_second_run_trains_nothing_and_gives_the_same(tmp_path: Path) -> None:
    store, train, test = ResultStore(tmp_path / "results"), rows(6), rows(9, "other")
    first = score(Neural(), "spy", [train], test, runs=3, seed=5, results=store)
    assert [fit.seed for fit in FITS] == [5, 6, 7]
    assert score(Neural(), "spy", [train], test, runs=3, seed=5, results=store) == first
    assert len(FITS) == 3
    assert score(Neural(), "spy", [train], test, runs=3, seed=5) == replace(
        first, seconds=pytest.approx(first.seconds, abs=1)
    )
    assert len(FITS) == 6  # without a store


def test_whatever_a_result_depends_on_trains_again(tmp_path: Path) -> None:
    store, train, test = ResultStore(tmp_path), rows(6), rows(9, "other")
    train_and_test(Plain(), train, test, seed=0, results=store)
    turned = labelled(train.texts, train.labels[::-1].tolist())
    changes: list[tuple[Classifier, LabelledTexts, LabelledTexts, int]] = [
        (Plain(option=1), train, test, 0),
        (Plain(), rows(6, "Row"), test, 0),
        (Plain(), turned, test, 0),
        (Plain(), train, rows(9, "others"), 0),
        (Plain(), train, test, 1),
        (Neural(), train, test, 0),
        (Neural(batch_size=2), train, test, 0),
    ]
    for place, (classifier, texts, tested, seed) in enumerate(changes):
        train_and_test(classifier, texts, tested, seed=seed, results=store)
        assert len(FITS) == place + 2
    train_and_test(Plain(), rows(6), rows(9, "other"), seed=0, results=store)
    assert len(FITS) == len(changes) + 1


def test_a_new_version_of_a_library_trains_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(classifier: Classifier) -> str | None:
        return result_key(classifier, rows(4), rows(4), 0)

    before = key(Plain()), key(Neural())
    monkeypatch.setattr(
        "dallme.evaluation.results.package_version", lambda name: "99" if name == "torch" else "1"
    )
    other = key(Plain()), key(Neural())
    monkeypatch.setattr(
        "dallme.evaluation.results.package_version", lambda name: "98" if name == "torch" else "1"
    )
    assert key(Plain()) == other[0]  # which does not care for torch
    assert key(Neural()) != other[1]
    assert not set(before) & set(other)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"accuracy": 0.5}', b"\xff", b'{"accuracy": "x"}']
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    store = ResultStore(tmp_path)
    expected = train_and_test(Plain(), rows(6), rows(4), seed=0, results=store)
    (file,) = tmp_path.rglob("*.json")
    assert file.parent.name == file.name[:2]
    assert json.loads(file.read_text())["accuracy"] == expected.accuracy == 0.5
    file.write_bytes(content)
    assert train_and_test(Plain(), rows(6), rows(4), seed=0, results=store).accuracy == 0.5
    assert len(FITS) == 2
    assert train_and_test(Plain(), rows(6), rows(4), seed=0, results=store).accuracy == 0.5
    assert len(FITS) == 2


def test_a_flipped_digit_counts_as_none(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    kept = train_and_test(Plain(), rows(6), rows(4), seed=0, results=store)
    (file,) = tmp_path.rglob("*.json")
    content = json.loads(file.read_text())
    assert store.get(file.stem) == kept
    file.write_text(json.dumps(content | {"accuracy": 0.75}))
    assert store.get(file.stem) is None
    del content["crc32"]  # as earlier versions wrote it
    file.write_text(json.dumps(content))
    assert store.get(file.stem) == kept


def test_an_accuracy_out_of_range_counts_as_none(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    found = train_and_test(Plain(), rows(6), rows(4), seed=0)
    store.put("ab", replace(found, accuracy=float("nan")))
    assert store.get("ab") is None
    store.put("ab", found)
    assert store.get("ab") == found


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Interrupted(Plain):
        def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_and_test(Interrupted(), rows(6), rows(4), seed=0, results=ResultStore(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_written_costs_no_result(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    progress = Counting()
    found = train_and_test(
        Plain(), rows(6), rows(4), seed=0, results=ResultStore(tmp_path / "file", progress)
    )
    assert found.accuracy == 0.5
    assert progress.notes == [
        f"a result cannot be stored in {tmp_path / 'file'}: Not a directory; it is computed again next time"
    ]


def test_what_an_unknown_embedder_gives_is_not_kept(tmp_path: Path) -> None:
    class Encoder:
        def encode(self, texts: list[str]) -> np.ndarray:
            return np.array([[len(text), 1.0] for text in texts])

    def probe(embedder: Any) -> Classifier:
        return make_classifiers(["elr"], CachedEmbedder(embedder))["embedding-lr"]

    assert result_key(probe(Encoder()), rows(4), rows(4), 0) is None
    known = result_key(probe("hashing"), rows(4), rows(4), 0)
    assert known is not None
    assert known == result_key(probe("hashing"), rows(4), rows(4), 0)
    train_and_test(probe(Encoder()), rows(4), rows(4), seed=0, results=ResultStore(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()


# Runs and seeds


def test_run_r_trains_on_set_r_with_seed_r() -> None:
    sets = [rows(4, word) for word in ("a", "b", "c")]
    found = score(Neural(), "spy", sets, rows(4), runs=5, seed=10)
    assert [(fit.texts[0][0], fit.seed) for fit in FITS] == [
        ("a", 10),
        ("b", 11),
        ("c", 12),
        ("a", 13),
        ("b", 14),
    ]
    assert found.seeds == (10, 11, 12, 13, 14)
    assert (found.learning_rate, found.steps) == (5e-4, 20)
    FITS.clear()
    found = score(Plain(), "spy", sets, rows(4), runs=5, seed=10)
    assert [(fit.texts[0][0], fit.seed) for fit in FITS] == [("a", 10), ("b", 11), ("c", 12)]
    assert (found.learning_rate, found.steps) == (None, None)
    assert score(Plain(), "spy", sets, rows(4), runs=2, seed=0).seeds == (0, 1)


def test_a_classifier_is_told_the_names_of_the_classes() -> None:
    @dataclass(frozen=True)
    class Named(Plain):
        names: tuple[str, ...] = ()

        def with_label_names(self, label_names: Any) -> Classifier:
            return replace(self, names=tuple(label_names.values()))

        def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
            assert self.names == ("no", "yes")
            return super()._fit(texts, labels, seed)

    score(Named(), "spy", [rows(4)], rows(4), runs=1, seed=0)
    tune(Named(), [rows(4)], rows(9), seed=0)
    assert len(FITS) == 1


class Counting:
    """Progress that is written down."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.notes: list[str] = []

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Any]:
        self.totals[description], self.done[description] = total, 0
        counting = self

        class Task:
            def advance(self, steps: int = 1) -> None:
                counting.done[description] += steps

        yield Task()

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.mark.parametrize(
    ("protocol", "runs", "expected"),
    [
        # sets and runs of: a decoder, a random baseline, one that makes the same whatever the seed, the full data
        (DEFAULT, None, [(1, 1, 1), (10, 10, 10), (1, 1, 1), (1, 1, 1)]),
        (DEFAULT, 3, [(3, 3, 3), (10, 10, 10), (1, 1, 3), (1, 1, 1)]),
        (replace(DEFAULT, models=2, full_runs=4), 3, [(3, 3, 6), (10, 10, 20), (1, 1, 6), (1, 1, 4)]),
        (PAPER, None, [(10, 10, 10), (10, 10, 10), (1, 1, 10), (1, 1, 1)]),
        (DPC, None, [(5, 5, 100), (5, 5, 100), (1, 1, 100), (1, 1, 1)]),
        (replace(DPC, models=3), 2, [(2, 2, 6), (2, 2, 6), (1, 1, 6), (1, 1, 1)]),
    ],
)
def test_how_often_each_method_and_classifier_is_run(
    protocol: Protocol, runs: int | None, expected: list[tuple[int, int, int]]
) -> None:
    progress = Counting()
    distiller = Distiller(per_class=2, embedder="hashing", decoder="nearest", seed=4, progress=progress)
    methods, judges = ["nearest", "random", "herding", "full"], {"plain": Plain(), "neural": Neural()}
    run = distiller.run(sentences(10))
    found = compare(distiller, run, rows(4), methods, judges, protocol=protocol.with_sets(runs))
    counted = [(row.draws, *(len(made.accuracies) for made in row.scores)) for row in found.methods]
    assert counted == expected
    tuned = (
        4 * (3 * len(methods) - 2) if protocol.tune else 0
    )  # three for each rate, one where the full data are trained on
    assert (
        progress.totals["compare"]
        == progress.done["compare"]
        == len(FITS)
        == sum(map(sum, counted)) - sum(draws for draws, _, _ in expected) + tuned
    )
    for row in found.methods:
        assert row.scores[1].seeds == tuple(range(4, 4 + len(row.scores[1].seeds)))


def test_dpc_trains_as_its_authors_say() -> None:
    evaluate(rows(6), rows(4), {"spy": Neural(), "plain": Plain()}, protocol=replace(DPC, sets=1, models=1))
    assert [(fit.rate, fit.steps) for fit in FITS] == [(1e-4, 200), (None, None)]
    made = DPC.prepare(Neural())
    assert isinstance(made, NeuralClassifier)
    assert (made.batch_size, made.warmup) == (64, 0.5)


def test_a_protocol_uses_the_first_of_a_candidates_sets() -> None:
    distiller = Distiller(per_class=1, embedder="hashing")
    run = distiller.run(sentences(4))
    sets = [rows(4, word) for word in ("a", "b", "c")]
    for protocol, used in ((DEFAULT, "abc"), (replace(PAPER, sets=2, tune=False), "ab")):
        FITS.clear()
        found = compare(
            distiller, run, rows(4), [], {"spy": Neural()}, candidates={"theirs": sets}, protocol=protocol
        )
        assert "".join(fit.texts[0][0] for fit in FITS) == used
        assert found.methods[0].draws == len(used)


def test_texts_of_a_candidate_that_are_tested_on_are_counted() -> None:
    distiller = Distiller(per_class=1, embedder="hashing")
    run, test = distiller.run(sentences(4)), rows(5)
    theirs = [rows(4, "a"), labelled(["x", "y", *test.texts[:2]], [0, 0, 1, 1])]
    found = compare(
        distiller, run, test, [], {"spy": Plain()}, candidates={"theirs": theirs, "clean": [rows(4, "b")]}
    )
    assert found.notes == (
        "2 of 8 texts of candidate 'theirs' are in the test set: its accuracy is inflated",
    )


def test_the_steps_on_the_full_data_can_be_capped() -> None:
    source, plan = sentences(10), replace(DEFAULT, full_steps=7)
    distiller = Distiller(per_class=2, embedder="hashing")
    found = compare(
        distiller, distiller.run(source), rows(4), ["full", "nearest"], {"spy": Neural()}, protocol=plan
    )
    assert [row.scores[0].steps for row in found.methods] == [7, 20]
    assert [fit.steps for fit in FITS] == [7, 20]
    document = found.as_dict()
    assert document["methods"][0]["results"][0]["steps"] == document["protocol"]["full_steps"] == 7
    FITS.clear()
    compare(
        distiller,
        distiller.run(source),
        rows(4),
        ["full"],
        {"spy": Neural()},
        protocol=replace(plan, tune=True),
    )
    assert {fit.steps for fit in FITS} == {7}


# The choice of a learning rate


def test_the_best_rate_is_chosen_and_of_equals_the_smaller() -> None:
    # All validation rows but one are `no`, so that a rate is the worse the more it says `yes`.
    source, train = rows(40), rows(6, "few")
    chosen, accuracies = tune(Neural(), [train], source, seed=3, runs=1)
    assert isinstance(chosen, Neural)
    assert chosen == Neural(learning_rate=1e-4)
    assert [fit.rate for fit in FITS] == list(accuracies) == [1e-5, 1e-4, 5e-4, 5e-3]
    # Twenty rows; of those, the last is `yes`, and the first share of them is called `yes`.
    assert list(accuracies.values()) == pytest.approx([0.45, 0.7, 0.7, 0.2])
    assert {fit.seed for fit in FITS} == {3}
    assert {fit.texts for fit in FITS} == {tuple(train.texts)}
    assert tune(Plain(), [train], source, seed=3) == (Plain(), {})
    assert len(FITS) == 4


def test_the_choice_never_sees_the_test_set_and_is_written_down() -> None:
    source, test = sentences(30), rows(10, "test")
    distiller = Distiller(per_class=2, embedder="hashing")
    protocol = replace(PAPER, sets=3)
    found = compare(
        distiller, distiller.run(source), test, ["full", "nearest"], {"spy": Neural()}, protocol=protocol
    )
    choices = [fit for fit in FITS if fit.tested != tuple(test.texts)]
    finals = [fit for fit in FITS if fit.tested == tuple(test.texts)]
    assert (len(choices), len(finals)) == (
        16,
        4,
    )  # four rates, for nearest on three sets; full once, nearest three times
    for fit in choices:
        assert not {*fit.tested, *fit.texts} & set(test.texts)
        assert set(fit.tested) <= set(source.texts)
        assert not set(fit.tested) & set(fit.texts)
    assert len(choices[0].texts) == 30  # the full data without the rows that are validated on
    assert len(choices[4].texts) == 4
    assert [(fit.rate, fit.seed) for fit in choices[4:8]] == [(1e-5, 0), (1e-5, 1), (1e-5, 2), (1e-4, 0)]
    assert len({fit.texts for fit in choices[4:7]}) == len(
        {row.texts for row in finals[1:]}
    )  # the sets that are scored
    for row, fit in zip(found.as_dict()["methods"], (choices[0], choices[4]), strict=True):
        (result,) = row["results"]
        assert list(result["tuned"]) == ["1e-05", "0.0001", "0.0005", "0.005"]
        assert str(f"{result['learning_rate']:g}") == max(result["tuned"], key=result["tuned"].get)
        assert len(fit.tested) > 20
    assert {fit.rate for fit in finals} == {row.scores[0].learning_rate for row in found.methods}


def test_a_rate_that_the_user_fixed_is_not_tuned() -> None:
    protocol = make_protocol("paper", runs=1, learning_rate=0.25)
    (found,) = evaluate(rows(6), rows(4), {"spy": Neural()}, protocol=protocol)
    assert [fit.rate for fit in FITS] == [0.25]
    assert (found.learning_rate, found.tuned) == (0.25, None)
    assert found.as_dict()["tuned"] is None


def test_what_is_validated_on_is_not_trained_on() -> None:
    source = rows(100, ones=50)
    small = source.take(range(0, 100, 10))
    train, validation = split(small, source, seed=0)
    assert list(train.texts) == list(small.texts)
    assert 35 < len(validation) < 50  # half the source, less those that stand in the few
    assert not set(train.texts) & set(validation.texts)
    again = split(source.take([0, 99]), source, seed=0)[
        1
    ]  # a row of the one, and none of the other, may be lost
    assert set(validation.texts) <= {*again.texts, source.texts[0], source.texts[99]}
    train, validation = split(source, source, seed=0, validation_rows=10)
    assert (len(train), validation.class_counts) == (90, {0: 5, 1: 5})
    assert not set(train.texts) & set(validation.texts)
    assert split(small, source, seed=1)[1].texts != split(small, source, seed=0)[1].texts


def test_a_row_with_markup_is_known_by_what_is_left_of_it() -> None:
    source = labelled([f"<b>row</b> {row}" for row in range(20)], [0, 1] * 10)
    train, validation = split(labelled(["row 1", "row 2"], [0, 1]), source, seed=0, validation_rows=20)
    assert not {"<b>row</b> 1", "<b>row</b> 2"} & set(validation.texts)
    assert len(train) == 2


def test_large_sets_are_tuned_on_a_stratified_sample() -> None:
    source = rows(400, ones=100)
    train, _ = split(rows(300, "train", ones=30), source, seed=0, training_rows=50)
    assert train.class_counts == {0: 45, 1: 5}
    drawn = sample(source, 40, np.random.default_rng(0))
    assert drawn.class_counts == {0: 30, 1: 10}
    assert len(set(drawn.texts)) == 40
    assert sample(source, 400, np.random.default_rng(0)) is source


def test_what_cannot_be_tuned_is_an_error() -> None:
    with pytest.raises(
        InputError,
        match="expected enough rows to choose a learning rate on, found 2 in the full data; fix the",
    ):
        tune(Neural(), [rows(2, ones=1)], rows(2, ones=1), seed=0)
    message = "expected the full data to choose the learning rate of spy on, found none; name it with --full"
    with pytest.raises(InputError, match=message):
        evaluate(rows(6), rows(4), {"spy": Neural()}, protocol=PAPER)
    assert FITS == []


# More than luck


def test_a_paired_test_by_hand() -> None:
    a = Score("x", (0.7, 0.8, 0.9, 0.6), (0,), 0, seeds=(0, 1, 2, 3))
    b = Score("x", (0.6, 0.8, 0.7, 0.5), (0,), 0, seeds=(0, 1, 2, 3))
    differences = np.array([0.1, 0, 0.2, 0.1])
    statistic = differences.mean() / (differences.std(ddof=1) / 2)
    assert better(a, b) == pytest.approx(student.sf(statistic, 3))
    assert better(b, a) == pytest.approx(1 - student.sf(statistic, 3))


def test_an_unpaired_test_by_hand() -> None:
    a = Score("x", (0.7, 0.8, 0.9), (0,), 0, seeds=(0, 1, 2))
    b = Score("x", (0.6, 0.8, 0.7, 0.5), (0,), 0, seeds=(0, 1, 2, 3))
    first, second = 0.01 / 3, np.var(b.accuracies, ddof=1) / 4
    freedom = (first + second) ** 2 / (first**2 / 2 + second**2 / 3)
    expected = student.sf((0.8 - 0.65) / np.sqrt(first + second), freedom)
    assert better(a, b) == pytest.approx(expected)
    other = replace(b, accuracies=b.accuracies[:3], seeds=(7, 8, 9))  # as many runs, under other seeds
    assert better(a, other) != better(a, replace(other, seeds=a.seeds))
    assert better(replace(a, seeds=()), replace(other, seeds=())) == better(a, other)


@pytest.mark.parametrize(("seeds", "others"), [((0, 1, 2), (0, 1, 2)), ((0, 1, 2), (3, 4, 5))])
def test_what_does_not_vary_gives_zero_or_one(seeds: tuple[int, ...], others: tuple[int, ...]) -> None:
    high, low = Score("x", (0.8,) * 3, (0,), 0, seeds=seeds), Score("x", (0.7,) * 3, (0,), 0, seeds=others)
    assert (better(high, low), better(low, high), better(high, replace(high, seeds=others))) == (
        0.0,
        1.0,
        1.0,
    )
    # The same difference in every run, but for rounding.
    if seeds == others:
        assert (
            better(
                Score("x", (0.3, 0.4, 0.9), (0,), 0, seeds=seeds),
                Score("x", (0.2, 0.3, 0.8), (0,), 0, seeds=seeds),
            )
            == 0
        )


def test_one_run_says_nothing() -> None:
    one, many = Score("x", (0.8,), (0,), 0, seeds=(0,)), Score("x", (0.1, 0.2), (0,), 0, seeds=(0, 1))
    assert better(one, many) is better(many, one) is better(one, one) is None


def test_models_of_one_set_count_once() -> None:
    seeds = tuple(range(6))
    a = Score("x", (0.7, 0.8, 0.9, 0.5, 0.6, 0.8), (0,), 0, seeds=seeds, sets=3)
    b = Score("x", (0.6, 0.7, 0.7, 0.5, 0.5, 0.7), (0,), 0, seeds=seeds, sets=3)
    pair = [
        Score("x", accuracies, (0,), 0, seeds=(0, 1, 2), sets=3)
        for accuracies in ((0.6, 0.7, 0.85), (0.55, 0.6, 0.7))
    ]
    assert better(a, b) == pytest.approx(better(*pair))
    assert better(a, b) != pytest.approx(better(replace(a, sets=1), replace(b, sets=1)))
    one, means = replace(b, sets=1), (0.6, 0.7, 0.85)  # six models of one set against three means: not paired
    assert better(a, one) == pytest.approx(
        ttest_ind(means, b.accuracies, equal_var=False, alternative="greater").pvalue
    )


def test_holm_by_hand() -> None:
    # In order .01 x 4, .02 x 3, .03 x 2, .04 x 1; none below one before it.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_table_marks_what_is_better_than_random() -> None:
    def row(method: str, *accuracies: float) -> MethodResult:
        return MethodResult(
            method, 4, 3, (Score("lr", accuracies, (0.5,), 0, seeds=tuple(range(len(accuracies)))),)
        )

    table = Comparison(
        (
            row("random", 0.5, 0.55, 0.6),
            row("nearest", 0.62, 0.61, 0.6),
            row("x", 0.8, 0.82, 0.84),
            row("full", 0.9),
        ),
        100,
    ).as_dict()
    results = {found["method"]: found["results"][0] for found in table["methods"]}
    assert [found["better_than_random"] for found in results.values()] == [False, False, True, False]
    differences = np.array([0.3, 0.27, 0.24])
    p = student.sf(differences.mean() / (differences.std(ddof=1) / np.sqrt(3)), 2)
    assert results["x"]["p_better_than_random"] == pytest.approx(p)
    assert 0 < results["x"]["p_better_than_nearest"] < 0.05
    assert results["nearest"]["p_better_than_random"] > 0.05
    assert results["nearest"]["p_better_than_nearest"] is None
    assert [results[name]["p_better_than_random"] for name in ("random", "full")] == [None, None]
    assert [cells[2] for cells in comparison_cells(table)[1]] == [
        "0.550 ± 0.050",
        "0.610 ± 0.010",
        "0.820 ± 0.020*",
        "0.900",
    ]
    note = "* better than random at p < 0.05 (one-sided t-test, Holm's correction over the table)"
    assert star_note(table) == note
    assert comparison_table(table).endswith(f"|\n\n\\{note}\n")
    bare = Comparison((row("x", 0.8, 0.82, 0.84),), 100).as_dict()
    assert bare["methods"][0]["results"][0]["p_better_than_random"] is None
    assert star_note(bare) is None


def test_holm_is_over_all_cells_of_the_table() -> None:
    def of(method: str, *accuracies: tuple[float, ...]) -> MethodResult:
        scores = (
            Score(name, found, (0,), 0, seeds=(0, 1, 2)) for name, found in zip("ab", accuracies, strict=True)
        )
        return MethodResult(method, 4, 3, tuple(scores))

    base, higher, same = (0.5, 0.55, 0.6), (0.6, 0.7, 0.68), (0.5, 0.56, 0.58)
    file_lock = Comparison((of("random", base, base), of("x", higher, higher)), 1).as_dict()
    p = file_lock["methods"][1]["results"][0]["p_better_than_random"]
    assert 0.0125 < p < 0.025
    assert file_lock["methods"][1]["results"][0]["better_than_random"]
    more = Comparison((of("random", base, base), of("x", higher, same), of("y", same, same)), 1).as_dict()
    assert more["methods"][1]["results"][0]["p_better_than_random"] == p
    assert not more["methods"][1]["results"][0]["better_than_random"]


# What is noticed early, and the options of the command line


def test_a_name_may_have_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_classifiers(["nb", "transformer:a/b", "transformer:c", "transformer:c"]) == [
        "naive-bayes",
        "transformer:a/b",
        "transformer:c",
    ]
    with pytest.raises(
        InputError, match="expected the classifier 'naive-bayes' without an argument, found 'naive-bayes:x'"
    ):
        make_classifiers(["nb:x"])


def test_a_classifier_looks_for_its_model_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(self: Classifier) -> None:
        raise InputError("no model")

    monkeypatch.setattr("dallme.classifiers.linear.NaiveBayesClassifier.find", find)
    with pytest.raises(InputError, match="no model"):
        make_classifiers(["lr", "nb"])


def test_what_a_method_misses_is_noticed_before_the_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(word: str) -> None:
        raise InputError(f"no thesaurus for {word!r}")

    monkeypatch.setattr("dallme.baselines.eda.WordNet.synonyms", lambda self, word: missing(word))
    with pytest.raises(InputError, match="no thesaurus for 'word'"):
        check_methods(["random", "eda"])
    monkeypatch.setattr("dallme.registry.find_spec", lambda package: None)
    with pytest.raises(
        MissingDependencyError, match="baseline 'eda' needs the package 'nltk', which is not installed"
    ):
        check_methods(["random", "eda"])
    with pytest.raises(
        InputError, match="expected the decoder 'nearest' without an argument, found 'nearest:x'"
    ):
        check_methods(["nearest:x"])
    with pytest.raises(InputError, match="expected the baseline 'full' without an argument, found 'full:x'"):
        check_methods(["full:x"])
    with pytest.raises(UnknownNameError, match="unknown method 'best:x'"):
        check_methods(["best:x"])


def test_options_stand_in_place_of_the_protocols() -> None:
    assert make_protocol(None, runs=None) == DEFAULT
    assert make_protocol("paper", runs=3) == replace(PAPER, sets=3)
    assert make_protocol("dpc", runs=None, models=2, steps=9).training == {**DPC.training, "steps": 9}
    assert make_protocol("dpc", runs=None, epochs=3).training == {**DPC.training, "epochs": 3, "steps": None}
    with pytest.raises(UnknownNameError, match="unknown protocol 'dilm'; known: paper, dpc"):
        make_protocol("dilm", runs=None)
    with pytest.raises(InputError, match="expected at most one of --epochs and --steps, found both"):
        make_protocol(None, runs=None, epochs=1, steps=1)
    with pytest.raises(InputError, match="expected models to be a whole number of at least 1, found 0"):
        make_protocol("dpc", runs=None, models=0)


def test_the_command_keeps_results_unless_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    lines = [
        f"{text},{label}" for text, label in zip(*(sentences(8).texts, sentences(8).labels), strict=True)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]))
    fits: list[int] = []
    original = NaiveBayesClassifier._fit

    def counted(
        self: NaiveBayesClassifier, texts: list[str], labels: np.ndarray, seed: int
    ) -> FittedClassifier:
        fits.append(seed)
        return original(self, texts, labels, seed)

    monkeypatch.setattr(NaiveBayesClassifier, "_fit", counted)
    command = [
        "dallme",
        "compare",
        str(tmp_path / "rows.csv"),
        "--test",
        str(tmp_path / "rows.csv"),
        "--per-class",
        "2",
    ]
    command += ["--methods", "nearest,random,full", "--classifiers", "nb", "--embedder", "hashing", "--json"]
    command += ["--store", str(tmp_path / "store"), "--protocol", "paper", "--runs", "3"]

    def run(*more: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [*command, *more])
        assert _status() == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    first = run()
    assert sorted(fits) == [0, 0, 0, 1, 1, 2, 2]  # the full data once, three sets of either method
    assert first["protocol"]["sets"] == 3
    assert len([*(tmp_path / "store" / "results").rglob("*.json")]) == 7
    assert run() == first  # the seconds are those of the first run
    assert len(fits) == 7
    run("--no-cache")
    assert len(fits) == 14


def test_options_that_do_nothing_or_make_no_sense_are_errors() -> None:
    plan = make_protocol(None, runs=None, steps=9)
    with pytest.raises(
        InputError, match="expected a neural classifier to train with steps, found only plain; name one, or"
    ):
        evaluate(rows(6), rows(4), {"plain": Plain()}, protocol=plan)
    assert len(evaluate(rows(6), rows(4), {"plain": Plain()}, protocol=DPC)) == 1
    with pytest.raises(InputError, match="expected a learning rate above 0, found -1"):
        evaluate(
            rows(6), rows(4), {"spy": Neural()}, protocol=make_protocol("dpc", runs=None, learning_rate=-1)
        )
