"""Soft labels: how they are computed, stored, learned from and compared."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import dallme
from dallme import Distiller
from dallme.classifiers.base import Classifier, FittedClassifier
from dallme.classifiers.linear import LogisticRegressionClassifier, NaiveBayesClassifier
from dallme.classifiers.text_cnn import TextCNNClassifier
from dallme.cli.main import app
from dallme.data import LabelledTexts
from dallme.dataset import DistilledDataset
from dallme.decoders.soft_labels import TRUE_SHARE, soft_labels
from dallme.errors import InputError
from dallme.evaluation.results import result_key, train_and_test
from dallme.review.changes import Change, apply, state

GOOD, BAD = ("fine", "great", "lovely", "superb"), ("dull", "poor", "weak", "awful")
PLAIN = ("film", "play", "story", "scene", "cast", "music")


def _rows(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Sentences of which one in five has words of the other class."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for row in range(count):
        label = ("bad", "good")[row % 2]
        words = (BAD, GOOD)[(row % 2) ^ bool(rng.random() < 0.2)]
        texts.append(" ".join([*rng.choice(PLAIN, 4), *rng.choice(words, 2), f"number{row}"]))
        labels.append(label)
    return texts, labels


@pytest.fixture(scope="module")
def distilled() -> DistilledDataset:
    distiller = Distiller(per_class=6, embedder="hashing", decoder="nearest", soft_labels=True)
    return distiller.distill(*_rows(200))


def test_rows_are_distributions_that_lean_to_the_label(distilled: DistilledDataset) -> None:
    soft = distilled.label_probabilities
    assert soft is not None
    assert soft.shape == (12, 2)
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    assert (soft[np.arange(12), distilled.labels] >= TRUE_SHARE).all()


def test_the_words_decide_how_far_they_lean() -> None:
    texts, labels = _rows(200)
    source = dallme.read(texts, labels)
    distiller = Distiller(per_class=2, embedder="hashing")
    context = distiller.context(source, distiller.embed(source))
    few = ["film great superb", "film awful dull"]
    agreeing = soft_labels(few, np.array([1, 0]), np.array([], dtype=np.int64), context)
    opposing = soft_labels(few, np.array([0, 1]), np.array([], dtype=np.int64), context)
    assert agreeing[[0, 1], [1, 0]].min() > opposing[[0, 1], [0, 1]].max() + 0.1


def test_no_teacher_sees_the_rows_that_are_quoted() -> None:
    texts, labels = _rows(100)
    source = dallme.read(
        [*texts, "zebra quagga okapi"] + ["zebra quagga okapi"] * 20, [*labels] + ["bad"] * 21
    )
    distiller = Distiller(per_class=2, embedder="hashing")
    context = distiller.context(source, distiller.embed(source))
    quoted = np.flatnonzero(np.array(context.source.texts) == "zebra quagga okapi")
    ours, label = ["zebra quagga okapi"], np.array([0])
    seen = soft_labels(ours, label, np.array([], dtype=np.int64), context)
    unseen = soft_labels(ours, label, quoted, context)
    assert seen[0, 0] > 0.95
    assert unseen[0, 0] < 0.85


def test_all_rows_quoted_give_hard_labels() -> None:
    texts, labels = _rows(20)
    source = dallme.read(texts, labels)
    distiller = Distiller(per_class=2, embedder="hashing")
    context = distiller.context(source, distiller.embed(source))
    soft = soft_labels(["film"], np.array([1]), np.arange(20), context)
    assert soft.tolist() == [[0.0, 1.0]]


def test_they_are_written_and_read(distilled: DistilledDataset, tmp_path: Path) -> None:
    distilled.save(tmp_path / "set")
    loaded = DistilledDataset.load(tmp_path / "set")
    assert loaded.label_probabilities is not None
    assert distilled.label_probabilities is not None
    assert np.array_equal(loaded.label_probabilities, distilled.label_probabilities)
    table = pq.read_table(tmp_path / "set" / "train.parquet")
    assert json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label_probabilities"] == {
        "feature": {"dtype": "float64", "_type": "Value"},
        "_type": "List",
    }


def test_a_set_without_them_has_no_column(distilled: DistilledDataset) -> None:
    assert "label_probabilities" not in replace(distilled, label_probabilities=None).to_arrow().column_names


@pytest.mark.parametrize(
    "rows",
    [
        [[0.5, 0.5]] * 11 + [None],
        [[0.5, 0.25, 0.25]] * 12,
        [[0.7, 0.7]] * 12,
        [[-0.5, 1.5]] * 12,
        [["a", "b"]] * 12,
    ],
    ids=["missing", "long", "sum", "negative", "strings"],
)
def test_a_folder_with_other_columns_is_refused(
    distilled: DistilledDataset, tmp_path: Path, rows: list[Any]
) -> None:
    distilled.save(tmp_path / "set")
    file = tmp_path / "set" / "train.parquet"
    table = pq.read_table(file)
    place = table.column_names.index("label_probabilities")
    pq.write_table(table.set_column(place, "label_probabilities", pa.array(rows)), file)
    with pytest.raises(InputError, match=r"label_probabilities|soft labels"):
        DistilledDataset.load(tmp_path / "set")


def _few(probabilities: np.ndarray | None) -> LabelledTexts:
    return LabelledTexts(
        ["alpha beta", "gamma delta", "alpha gamma"],
        np.array([0, 1, 0]),
        {0: "a", 1: "b", 2: "c"},
        np.arange(3),
        probabilities=probabilities,
    )


ONE_HOT = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]])
#: The third text is almost surely of the second class.
DOUBTED = np.array([[1.0, 0, 0], [0, 1, 0], [0.02, 0.98, 0]])


@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegressionClassifier(),
        NaiveBayesClassifier(),
        TextCNNClassifier(epochs=60, device="cpu"),
    ],
    ids=["logistic-regression", "naive-bayes", "text-cnn"],
)
def test_classifiers_learn_from_them(classifier: Any) -> None:
    test = replace(_few(None), texts=["alpha gamma"] * 3, labels=np.array([0, 0, 0]))
    assert train_and_test(classifier, _few(None), test, seed=0).accuracy == 1
    assert train_and_test(classifier, _few(ONE_HOT), test, seed=0).accuracy == 1
    assert train_and_test(classifier, _few(DOUBTED), test, seed=0).accuracy == 0


def test_one_hot_rows_give_the_model_of_hard_labels() -> None:
    hard, soft = (
        LogisticRegressionClassifier().fit(few.texts, few.labels, seed=0, probabilities=probabilities)
        for few, probabilities in ((_few(None), None), (_few(None), ONE_HOT[:, :2]))
    )
    np.testing.assert_allclose(hard.model.coef_, soft.model.coef_, atol=1e-3)  # type: ignore[attr-defined]


def test_a_wrong_shape_is_refused() -> None:
    few = _few(None)
    with pytest.raises(InputError, match=r"expected soft labels of shape \(3, 2\)"):
        LogisticRegressionClassifier().fit(few.texts, few.labels, seed=0, probabilities=ONE_HOT)


def test_stored_results_depend_on_them() -> None:
    test, classifier = _few(None), LogisticRegressionClassifier()
    keys = {result_key(classifier, _few(soft), test, 0) for soft in (None, ONE_HOT, DOUBTED)}
    assert len(keys) == 3


def test_the_table_has_rows_of_their_own(tmp_path: Path) -> None:
    source, test = dallme.read(*_rows(200)), dallme.read(*_rows(60, seed=1))
    distiller = Distiller(per_class=4, embedder="hashing", decoder="teaching")
    table = dallme.compare(source, test, distiller, ["random", "teaching", "full"], ["lr"], soft_labels=True)
    names = [row.method for row in table.methods]
    assert names == ["random", "teaching", "full", "random + soft labels", "teaching + soft labels"]
    accuracies = {row.method: row.scores[0].accuracies for row in table.methods}
    assert accuracies["random"] != accuracies["random + soft labels"]


@dataclass(frozen=True)
class _Majority(Classifier, FittedClassifier):
    """Predicts one class, and cannot use soft labels."""

    def _fit(self, texts: list[str], labels: np.ndarray, seed: int) -> FittedClassifier:
        return self

    def _predict(self, texts: list[str]) -> np.ndarray:
        return np.zeros(len(texts), dtype=np.int64)


def test_a_classifier_of_hard_labels_has_no_cell_in_soft_rows() -> None:
    source, test = dallme.read(*_rows(200)), dallme.read(*_rows(60, seed=1))
    distiller = Distiller(per_class=2, embedder="hashing")
    classifiers = {"lr": LogisticRegressionClassifier(), "majority": _Majority()}
    table = dallme.compare(source, test, distiller, ["random"], classifiers, soft_labels=True)
    columns = {row.method: [score.classifier for score in row.scores] for row in table.methods}
    assert columns == {"random": ["lr", "majority"], "random + soft labels": ["lr"]}


def test_the_command_line_offers_them(tmp_path: Path) -> None:
    for name, (texts, labels) in {"rows": _rows(200), "test": _rows(60, seed=1)}.items():
        lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]))
    rows, test, output = (str(tmp_path / name) for name in ("rows.csv", "test.csv", "set"))
    common = ["--per-class", "4", "--embedder", "hashing", "--output", output, "--no-report"]
    made = CliRunner().invoke(app, ["distill", rows, *common, "--test", test, "--soft-labels", "--json"])
    assert made.exit_code == 0, made.output
    methods = [row["method"] for row in DistilledDataset.load(output).manifest["comparison"]["methods"]]
    assert "teaching + soft labels" in methods
    hard, soft = (
        CliRunner().invoke(app, ["evaluate", output, "--test", test, "--no-cache", "--json", *extra])
        for extra in ((), ("--soft-labels",))
    )
    assert hard.exit_code == soft.exit_code == 0
    refused = CliRunner().invoke(app, ["evaluate", rows, "--test", test, "--soft-labels"])
    assert "expected texts with soft labels" in str(refused.exception)


def test_an_edited_set_drops_them(distilled: DistilledDataset) -> None:
    seen = state(distilled.texts[0], int(distilled.labels[0]))
    edited, _ = apply(distilled, [Change(0, seen, text="another text")])
    kept, _ = apply(distilled, [Change(0, seen, drop=True)])
    assert edited.label_probabilities is None
    assert kept.label_probabilities is not None
    assert len(kept.label_probabilities) == 11
