"""Protocols of comparisons: runs, seeds, learning rates and options."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dallme import Distiller
from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.classifiers.linear import NaiveBayesClassifier
from dallme.classifiers.training import NeuralClassifier
from dallme.cli.main import _status
from dallme.cli.options import make_protocol
from dallme.data import LabelledTexts
from dallme.errors import InputError, MissingDependencyError, UnknownNameError
from dallme.evaluation.compare import check_methods, compare
from dallme.evaluation.evaluate import check_classifiers, evaluate, make_classifiers, score
from dallme.evaluation.protocol import DEFAULT, DPC, PAPER, Protocol
from dallme.evaluation.results import sample, split, tune
from protocol_cases import FITS, Counting, Neural, Plain, labelled, rows


@pytest.fixture(autouse=True)
def no_fits() -> None:
    FITS.clear()


def sentences(count: int) -> LabelledTexts:
    return labelled(
        [f"{word} thing number {row}." for row in range(count) for word in ("Good", "Bad")], [1, 0] * count
    )


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
